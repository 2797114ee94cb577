"""boto3: client options and the errors of AWS as this package's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from context_store.config import StoreConfig
from context_store.errors import StoreConfigError, StoreError, StoreUnavailableError, ThrottledError

_THROTTLED = {
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottledException",
    "ThrottlingException",
    "TooManyRequestsException",
}
CONFLICTS = {"ReplicatedWriteConflictException", "TransactionConflictException", "TransactionInProgressException"}
"""Another writer was at the item: the same call again, a moment later, does it. botocore repeats only some of these."""
_TRANSIENT = CONFLICTS | {
    "DependencyTimeoutException",
    "InternalFailure",
    "InternalServerError",
    "KMSInternalException",
    "KeyUnavailableException",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
}
_THROTTLED_STATUSES, _TRANSIENT_STATUSES = (429, 509), (408,)

_CLOCK = "set this machine's clock (NTP)"
_SIGNATURE = "set this machine's clock (NTP), and check the secret access key and the region"
_RENEW = "the credentials have expired; renew them, or use a role, whose credentials renew themselves"
_CREDENTIALS = "these credentials are not known there; check the access key, the session token and the account"
_TABLE = "a table is missing; run scripts/create_tables for this endpoint and region"
_KEY_STATE = "the KMS key is disabled or waits for its deletion; enable it, or cancel its deletion"
_ADVICE = {
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "RequestInTheFuture": _CLOCK,
    "InvalidSignatureException": _SIGNATURE,
    "SignatureDoesNotMatch": _SIGNATURE,
    "IncompleteSignature": _SIGNATURE,
    "IncompleteSignatureException": _SIGNATURE,
    "ExpiredToken": _RENEW,
    "ExpiredTokenException": _RENEW,
    "TokenRefreshRequired": _RENEW,
    "AuthFailure": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "MissingAuthenticationToken": _CREDENTIALS,
    "MissingAuthenticationTokenException": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "OptInRequired": "the account is not signed up for the service or the region; check the region",
    "SubscriptionRequiredException": "the account is not signed up for the service or the region; check the region",
    "ItemCollectionSizeLimitExceededException": "a local secondary index of the table bounds a dialogue; drop it",
    "ResourceNotFoundException": _TABLE,
    "TableNotFoundException": _TABLE,
    "DisabledException": _KEY_STATE,
    "KMSInvalidStateException": _KEY_STATE,
    "NotFoundException": "the KMS key does not exist; check its ARN and the region",
    "InvalidArnException": "that is no KMS key's ARN; check it",
    "InvalidKeyUsageException": "the KMS key is not for encryption; use a symmetric key for encrypt and decrypt",
    "InvalidGrantTokenException": "the grant is not valid; grant the use of the KMS key anew",
    "UnsupportedOperationException": "the KMS key is of another kind; use a symmetric key for encrypt and decrypt",
    "404": "nothing is there that speaks DynamoDB; check the endpoint",
    "405": "nothing is there that speaks DynamoDB; check the endpoint",
    "UnknownOperationException": "it does not know the call; check the endpoint",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation", "403"}
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)


def client_options(config: StoreConfig) -> dict[str, Any]:
    """Keyword arguments of `boto3.client` for a store configuration."""
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
    """The AWS error code, e.g. `ConditionalCheckFailedException`."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def knows_call(error: ClientError) -> bool:
    """False when the endpoint has no such call: so say emulators and other servers that speak DynamoDB."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return error_code(error) != "UnknownOperationException" and status != HTTPStatus.NOT_IMPLEMENTED


def unavailable(service: str, error: BotoCoreError | ClientError) -> StoreError:
    """The error of this package that stands for one of botocore, without its message (which may quote a request).

    service: "DynamoDB" or "KMS".
    """
    name = type(error).__name__
    if isinstance(error, _NO_CREDENTIALS):
        return StoreConfigError(f"{service}: no AWS credentials ({name}); set them in the environment or by a role")
    if isinstance(error, CredentialRetrievalError):
        return StoreUnavailableError(f"{service}: the AWS credentials cannot be fetched ({name}); repeat the call")
    if not isinstance(error, ClientError):
        return StoreUnavailableError(f"{service} did not answer ({name}); repeat the call")
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED or status in _THROTTLED_STATUSES:
        return ThrottledError(f"{service} refuses the rate ({code}); repeat later")
    if code in _TRANSIENT or status in _TRANSIENT_STATUSES or (status >= 500 and code not in _ADVICE):
        return StoreUnavailableError(f"{service} failed ({code}); repeat the call")
    if code in _DENIED:
        action = f"{'kms' if service == 'KMS' else 'dynamodb'}:{error.operation_name}"
        return StoreConfigError(f"{service} refuses the call ({code}); allow the role or user {action}")
    advice = _ADVICE.get(code, "check the endpoint, the region, and that all replicas run the same version")
    return StoreConfigError(f"{service} refuses the call ({code}): {advice}")
