"""boto3: client options and the errors of AWS as this package's."""

from __future__ import annotations

from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from context_store.config import StoreConfig
from context_store.errors import StoreConfigError, StoreError, StoreUnavailableError, ThrottledError

_THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "Throttling",
}
_TRANSIENT = {
    "DependencyTimeoutException",
    "InternalServerError",
    "KMSInternalException",
    "ServiceUnavailable",
    "TransactionConflictException",
}


def client_options(config: StoreConfig) -> dict[str, Any]:
    """Keyword arguments of ``boto3.client`` for a store configuration."""
    return {
        "region_name": config.region,
        "endpoint_url": config.endpoint_url,
        "aws_access_key_id": config.access_key_id,
        "aws_secret_access_key": config.secret_access_key,
        "config": Config(
            connect_timeout=config.connect_timeout_s,
            read_timeout=config.read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": config.max_attempts},
            max_pool_connections=config.max_connections,
        ),
    }


def error_code(error: ClientError) -> str:
    """The AWS error code, e.g. ``ConditionalCheckFailedException``."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def unavailable(service: str, error: BotoCoreError | ClientError) -> StoreError:
    """The error of this package that stands for one of botocore, without its message (which may quote a request)."""
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StoreConfigError(f"{service}: no AWS credentials found; set them in the environment or by a role")
    if not isinstance(error, ClientError):
        return StoreUnavailableError(f"{service} did not answer ({type(error).__name__}); repeat the call")
    code = error_code(error)
    if code in _THROTTLED:
        return ThrottledError(f"{service} refuses the rate ({code}); repeat later")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _TRANSIENT or status >= 500:
        return StoreUnavailableError(f"{service} failed ({code}); repeat the call")
    if code == "ResourceNotFoundException":
        return StoreConfigError(
            f"{service}: a table is missing; run scripts/create_tables for this endpoint and region"
        )
    return StoreConfigError(f"{service} refuses the call ({code}); check credentials, permissions and key state")
