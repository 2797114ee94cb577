"""Each way in which AWS refuses a call is repeated where that helps, or named with what to change."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.retries import standard

from context_store import (
    ContextStore,
    DialogueId,
    StoreConfigError,
    StoreUnavailableError,
    ThrottledError,
    kms_wrapping_key,
    local_wrapping_key,
)
from context_store.aws import unavailable
from context_store.local_server import local_config

DIALOGUE = DialogueId("acme", "d")
CHECKERS: Any = standard  # of which the stubs leave out what is private
THROTTLED: list[str] = CHECKERS.ThrottledRetryableChecker._THROTTLED_ERROR_CODES
TRANSIENT: list[str] = CHECKERS.TransientRetryableChecker._TRANSIENT_ERROR_CODES
LATER = {"PriorRequestNotComplete", "TransactionInProgressException"}  # not for the rate
CALLS = {
    "dynamodb": ["PutItem", "UpdateItem", "GetItem", "DeleteItem", "Query", "Scan", "BatchGetItem", "BatchWriteItem"],
    "kms": ["Encrypt", "Decrypt", "GenerateDataKey"],
}
ADVICE = {
    "RequestTimeTooSkewed": "clock", "RequestExpired": "clock", "RequestInTheFuture": "clock",
    "InvalidSignatureException": "clock.*secret", "SignatureDoesNotMatch": "clock.*secret",
    "ExpiredTokenException": "renew", "ExpiredToken": "renew",
    "UnrecognizedClientException": "credentials", "InvalidClientTokenId": "credentials",
    "MissingAuthenticationTokenException": "credentials",
    "AccessDeniedException": "dynamodb:Query", "ResourceNotFoundException": "create_tables",
    "ItemCollectionSizeLimitExceededException": "index", "ValidationException": "version",
    "DisabledException": "enable", "KMSInvalidStateException": "enable", "NotFoundException": "ARN",
    "InvalidKeyUsageException": "symmetric", "SomethingNewException": "SomethingNewException",
}  # fmt: skip


def refusal(code: str, status: int = 400) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": "secret words"}, "ResponseMetadata": {"HTTPStatusCode": status}
    }  # fmt: skip
    return ClientError(response, "Query")


@pytest.mark.parametrize("service", ["DynamoDB", "KMS"])
def test_what_botocore_would_repeat_may_be_repeated(service: str) -> None:
    for code in {*THROTTLED, *TRANSIENT}:
        made = unavailable(service, refusal(code))
        assert isinstance(made, StoreUnavailableError), code
        assert isinstance(made, ThrottledError) == (code in THROTTLED and code not in LATER), code
        assert "secret" not in str(made)
    for status in (*CHECKERS.TransientRetryableChecker._TRANSIENT_STATUS_CODES, 408, 429, 509):
        assert isinstance(unavailable(service, refusal("Unknown", status)), StoreUnavailableError), status


def test_every_error_of_the_calls_that_are_made_has_an_advice_of_its_own() -> None:
    session = botocore.session.get_session()
    general = str(unavailable("DynamoDB", refusal("SomethingNewException"))).partition(": ")[2]
    own = {  # of the callers themselves
        "ConditionalCheckFailedException", "ResourceInUseException", "InvalidCiphertextException",
        "IncorrectKeyException", "DryRunOperationException",
    }  # fmt: skip
    for service, operations in CALLS.items():
        model = session.get_service_model(service)
        codes = {shape.name for operation in operations for shape in model.operation_model(operation).error_shapes}
        for code in codes - own:
            made = unavailable(service, refusal(code))
            assert isinstance(made, StoreUnavailableError) or general not in str(made), code


@pytest.mark.parametrize("code", ADVICE)
def test_what_is_to_be_changed_is_said(code: str) -> None:
    made = unavailable("DynamoDB", refusal(code))
    assert isinstance(made, StoreConfigError)
    assert code in str(made) and "secret words" not in str(made)
    with pytest.raises(StoreConfigError, match=ADVICE[code]):
        raise made


def test_the_action_that_is_denied_is_named() -> None:
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "GenerateDataKey")
    assert "kms:GenerateDataKey" in str(unavailable("KMS", denied))


def test_errors_that_no_service_sent() -> None:
    for nobody in (NoCredentialsError(), ProfileNotFound(profile="x")):
        assert isinstance(unavailable("DynamoDB", nobody), StoreConfigError)
    for later in (CredentialRetrievalError(provider="x", error_msg="y"), ReadTimeoutError(endpoint_url="z")):
        made = unavailable("DynamoDB", later)
        assert isinstance(made, StoreUnavailableError) and "z" not in str(made)


class Refusing:
    """An endpoint that refuses calls with these (status, code), then answers that there is nothing."""

    def __init__(self) -> None:
        self.refusals: deque[tuple[int, str]] = deque()
        self.calls = 0


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[Refusing, str]]:
    endpoint = Refusing()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.calls += 1
            status, code = endpoint.refusals.popleft() if endpoint.refusals else (200, "")
            body = json.dumps({"__type": f"com.amazonaws#{code}", "message": "secret"} if code else {"Items": []})
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Requests are not logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield endpoint, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "code", ["ReplicatedWriteConflictException", "TransactionConflictException", "TransactionInProgressException"]
)
def test_a_conflict_with_another_writer_is_tried_again(refusing: tuple[Refusing, str], code: str) -> None:
    endpoint, url = refusing
    store = ContextStore(local_config(url, max_attempts=1), local_wrapping_key())
    store._access._sleep = lambda seconds: None
    endpoint.refusals.extend([(400, code)] * 2)
    assert store.dialogue_status(DIALOGUE).turns == ()
    endpoint.refusals.extend([(400, code)] * 100)
    with pytest.raises(StoreUnavailableError):
        store.dialogue_status(DIALOGUE)
    endpoint.refusals.clear()
    store.close()


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "RequestTimeout", StoreUnavailableError),
        (400, "ThrottledException", ThrottledError),
        (400, "RequestLimitExceeded", ThrottledError),
        (400, "ProvisionedThroughputExceededException", ThrottledError),
        (500, "InternalServerError", StoreUnavailableError),
        (403, "RequestTimeTooSkewed", StoreConfigError),
        (400, "ExpiredTokenException", StoreConfigError),
        (400, "AccessDeniedException", StoreConfigError),
    ],
)
def test_over_the_wire(refusing: tuple[Refusing, str], status: int, code: str, error: type[Exception]) -> None:
    endpoint, url = refusing
    store = ContextStore(local_config(url, max_attempts=1), local_wrapping_key())
    endpoint.refusals.append((status, code))
    with pytest.raises(error) as caught:
        store.dialogue_status(DIALOGUE)
    assert type(caught.value) is error and code in str(caught.value)
    store.close()


@pytest.mark.parametrize("code", ["KMSInvalidStateException", "DisabledException", "ThrottlingException"])
def test_kms(refusing: tuple[Refusing, str], monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    endpoint, url = refusing
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    arn = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
    key = kms_wrapping_key(arn, region="us-east-1", endpoint_url=url)
    endpoint.refusals.extend([(400, code)] * 2)
    with pytest.raises(ThrottledError if code == "ThrottlingException" else StoreConfigError, match=f"KMS.*{code}"):
        key.wrap(bytes(32), {"purpose": "test"})
    endpoint.refusals.clear()


def test_an_endpoint_that_is_no_url_and_a_profile_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreConfigError, match="endpoint"):
        ContextStore(local_config("http://no host"), local_wrapping_key())
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(StoreConfigError, match="credentials"):
        ContextStore(local_config("http://127.0.0.1:1"), local_wrapping_key())
