"""The server's one configuration: a TOML file, CARRYOVER_* environment variables and flags, the last one winning.

An environment variable names a setting by its path: `CARRYOVER_PORT=50051`, `CARRYOVER_LIMITS__STREAMS=8`. A key that
no setting has is an error, wherever it stands (which is why the environment is read here: pydantic-settings ignores
variables that it does not know).
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from asr.cpus import available_cpus
from asr.decoding import BEAM
from asr.recognition.endpointing import EndpointRule

ENV_PREFIX = "CARRYOVER_"
NOT_SETTINGS = ("CARRYOVER_TEST_", "CARRYOVER_CLIENT_", "CARRYOVER_VENV", "CARRYOVER_PYTHON", "CARRYOVER_TORCH")
"""Environment variables with these prefixes are for the tests, for clients and for the scripts, not for the server."""

PRIVATE = dict.fromkeys(
    (
        *(f"{ENV_PREFIX}{name}" for name in ("HOST", "PORT", "HTTP_PORT", "HEALTH_PORT", "METRICS_PORT")),
        *(f"{ENV_PREFIX}TLS__{name}" for name in ("CERTIFICATE", "KEY", "CLIENT_CA")),
        *(
            f"{ENV_PREFIX}STORE__{name}"
            for name in ("ENDPOINT", "EVENTS_TABLE", "PAYLOAD_TABLE", "KEY_FILE", "KMS_KEY")
        ),
        f"{ENV_PREFIX}ACCESS__KEYS_FILE",
    ),
    "",
)
"""Environment of a server that only the command that starts it calls: nobody else reaches it, and its store is its own,
whatever the environment says of the server that is meant for others."""


class ConfigError(Exception):
    """The configuration cannot be used. The message says which setting to change."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(_Section):
    """The recogniser."""

    weights: Path | None = Field(default=None, description="Folder of the acoustic model; unset: the shipped one.")
    device: str = Field(default="cpu", min_length=1, description="Where it computes: cpu, cuda, or cuda:1 and so on.")
    beam: int = Field(default=BEAM, ge=1, le=64, description="Hypotheses that the search of a final result keeps.")
    nbest: int = Field(default=8, ge=1, le=64, description="Hypotheses of the n-best list, which rescoring sees.")
    chunk_ms: int = Field(
        default=320, ge=160, le=640, description="Audio that the encoder takes at a time (first pass)."
    )
    second_pass: bool | Path = Field(
        default=True,
        description="Recognise an ended utterance once more, as a whole. A folder: of the Whisper model for it.",
    )
    fitted: Path | None = Field(
        default=None, description="File with the scores' weights; unset: the fitted.json beside the models."
    )
    second_pass_wait_ms: float = Field(
        default=180,
        ge=0,
        description="Skip a second pass that would start later than this after its audio, where other streams wait; "
        "later than a third of it, skip the transducer's part.",
    )
    workers: int = Field(
        default_factory=lambda: min(256, available_cpus()),
        ge=1,
        le=256,
        description="Threads that recognise and rescore; unset: one for each CPU that the process may use.",
    )
    max_batch: int = Field(default=8, ge=1, le=1024, description="Streams whose chunks are recognised as one batch.")
    batch_wait_ms: float = Field(
        default=5, ge=0, le=100, description="The longest that a chunk waits for others to join its batch."
    )


class EndpointSettings(_Section):
    """When an utterance ends; seconds of audio, mostly. Fields of `EndpointRule`, with its defaults."""

    likely_silence_s: float = Field(
        default=EndpointRule.likely_silence_s, gt=0, description="Silence after speech that gives a likely final."
    )
    trailing_silence_s: float = Field(
        default=EndpointRule.trailing_silence_s, gt=0, description="Silence after speech that ends an utterance."
    )
    speech_threshold: float = Field(
        default=EndpointRule.speech_threshold, ge=0, le=1, description="A token likelier than this is speech."
    )
    silence_level_db: float = Field(
        default=EndpointRule.silence_level_db, gt=0, description="So far below the utterance's peak is silence."
    )
    no_token_s: float = Field(
        default=EndpointRule.no_token_s, gt=0, description="Time without a new token that ends an utterance."
    )
    leading_silence_s: float = Field(
        default=EndpointRule.leading_silence_s, ge=4, description="Time without speech that is dropped but for 2 s."
    )
    max_utterance_s: float = Field(
        default=EndpointRule.max_utterance_s, gt=0, le=120, description="An utterance is no longer."
    )

    def rule(self) -> EndpointRule:
        """The settings as the recogniser takes them."""
        return EndpointRule(**self.model_dump())


class ContextSettings(_Section):
    """The reply window: what is made while the assistant speaks."""

    enabled: bool = Field(default=True, description="False: every result that asks for context says DISABLED.")
    weights: Path | None = Field(default=None, description="Folder of the context model; unset: the shipped one.")
    turns: int = Field(default=8, ge=1, le=64, description="Last turns of a dialogue that are read.")
    entries: int = Field(default=200, ge=0, le=10_000, description="Entities that are used, the newest turn's first.")
    ttl_s: float = Field(
        default=900, gt=0, description="Seconds from a turn's first event until its context is no longer used."
    )
    deadline_s: float = Field(default=5, gt=0, description="Seconds from expect-speech after which a job is given up.")
    queue: int = Field(default=64, ge=1, description="Jobs that may wait; when full, a new one is dropped.")
    tenant_queue: int | None = Field(default=None, ge=1, description="Of one tenant's; unset: half of `queue`.")
    shed_ms: float = Field(
        default=600,
        gt=0,
        description="Age of the oldest chunk that is not recognised yet, from which on contexts make room for audio.",
    )
    cached_dialogues: int = Field(default=1024, ge=1, description="Dialogues whose contexts are held in memory.")
    graph_megabytes: int = Field(
        default=256,
        ge=0,
        description="Memory of all dialogues' phrase graphs; past it the longest unused ones are dropped.",
    )
    yield_ms: float = Field(
        default=50, ge=0, le=1000, description="The longest that a context waits for audio to pause."
    )
    sweep_s: float = Field(
        default=30,
        gt=0,
        description="Seconds that what has expired, or was erased at another replica, may stay in memory.",
    )
    unconfirmed_s: float = Field(
        default=30,
        ge=0,
        description="Seconds that a context is used, after the store last confirmed it, while the store fails.",
    )


class StoreSettings(_Section):
    """Where dialogues are kept."""

    endpoint: str = Field(
        default="local",
        pattern="^(local|aws|https?://.+)$",
        description="'local': in this process, gone afterwards; 'aws'; or the URL of a DynamoDB.",
    )
    region: str = Field(default="us-east-1", min_length=1, description="AWS region.")
    events_table: str = "carryover-events"
    payload_table: str = "carryover-payloads"
    ttl_s: int = Field(default=24 * 3600, ge=60, description="Seconds that recorded turns are kept.")
    key_file: Path | None = Field(
        default=None, description="Local wrapping key (64 hex digits), made when absent. Unset: a key of this process."
    )
    kms_key: str | None = Field(default=None, description="ARN of a KMS key that wraps instead of a local one.")
    connect_timeout_s: float = Field(default=1.0, gt=0, description="Of one attempt.")
    read_timeout_s: float = Field(default=2.0, gt=0, description="Of one attempt.")
    deadline_s: float = Field(
        default=10, gt=0, description="Seconds, those of waiting for a thread included, until a call is given up."
    )
    threads: int = Field(
        default=16, ge=1, le=64, description="Threads, and connections, that talk to the store; a tenant has half."
    )

    @model_validator(mode="after")
    def _one_key(self) -> StoreSettings:
        if self.key_file and self.kms_key:
            raise ValueError("set key_file or kms_key, not both")
        if self.endpoint == "aws" and not (self.key_file or self.kms_key):
            raise ValueError("set kms_key (or key_file): a key that lives in one process cannot be shared by replicas")
        return self


class Limits(_Section):
    """What clients may ask for. Over a limit: RESOURCE_EXHAUSTED, naming the limit."""

    streams: int = Field(default=32, ge=1, description="Streams at once, Recognize calls included.")
    tenant_streams: int | None = Field(default=None, ge=1, description="Of one tenant at once; unset: as `streams`.")
    stream_seconds: float = Field(default=4 * 3600, gt=0, description="Seconds of audio in one stream.")
    recording_seconds: float = Field(default=300, gt=0, description="Seconds of audio in one Recognize call.")
    idle_seconds: float = Field(
        default=30,
        gt=0,
        description="Seconds without audio at a stream's begin, or without a result being read, that end it; behind "
        "its audio, that end the utterance.",
    )
    muted_seconds: float = Field(
        default=3600, gt=0, description="Seconds without a message that end a stream which has had audio."
    )
    audio_bytes: int = Field(default=1 << 20, ge=1024, description="Bytes of audio in one message of a stream.")
    message_bytes: int = Field(
        default=32 << 20, ge=1 << 16, description="Bytes of any message, of a Recognize call's recording that is."
    )
    request_bytes: int = Field(default=4 << 20, ge=1 << 12, description="Bytes of a message that holds no recording.")
    recording_megabytes: int = Field(
        default=512, ge=1, description="Memory of all recordings of Recognize calls; more of them wait for it."
    )
    phrases: int = Field(default=5000, ge=0, description="Phrases in all speech_contexts of a request.")
    phrase_characters: int = Field(default=100, ge=1, description="Characters of one phrase or entity entry.")
    entries: int = Field(default=1000, ge=1, description="Entries of one entities event.")
    events: int = Field(default=256, ge=1, description="Events of one turn.")
    text_characters: int = Field(default=4000, ge=1, description="Characters of one utterance, reply or n-best text.")
    nbest: int = Field(default=64, ge=1, description="Entries of an n-best list to rescore.")
    turns: int = Field(default=64, ge=1, description="Turns of a context that comes with the request.")
    rescores: int = Field(default=16, ge=1, description="Rescore calls at once.")
    tenant_rescores: int = Field(default=8, ge=1, description="Of one tenant at once.")
    tenant_calls: int = Field(default=32, ge=1, description="Calls of the Context service of one tenant at once.")
    public_calls: int = Field(default=64, ge=1, description="Calls of health and reflection at once; they take no key.")
    calls: int = Field(default=1024, ge=1, description="Calls of everybody at once, those without a key included.")
    connection_calls: int = Field(default=128, ge=1, description="Calls of one connection at once; more of them wait.")


class TlsSettings(_Section):
    """Encryption of connections. The files are read again when they change."""

    certificate: Path | None = Field(default=None, description="PEM file: the server's certificate, and its chain.")
    key: Path | None = Field(default=None, description="PEM file: the certificate's private key.")
    client_ca: Path | None = Field(
        default=None, description="PEM file: who signs clients' certificates; set: only such clients are let in."
    )

    @model_validator(mode="after")
    def _whole(self) -> TlsSettings:
        if bool(self.certificate) != bool(self.key) or (self.client_ca and not self.certificate):
            raise ValueError("set certificate and key together, and client_ca only with them")
        return self


class AccessSettings(_Section):
    """Who may call."""

    keys_file: Path | None = Field(
        default=None,
        description="Tenants' hashed keys and certificate names; unset: every caller is the tenant 'default'.",
    )
    reflection: bool = Field(default=True, description="Tell clients the interface (gRPC reflection).")


class TracesSettings(_Section):
    """OpenTelemetry traces. They take the extra `otel`."""

    endpoint: str | None = Field(
        default=None, pattern="^https?://", description="URL of a collector that takes OTLP over HTTP; unset: off."
    )
    share: float = Field(
        default=1.0, ge=0, le=1, description="Share of calls that are traced where the caller's trace does not say."
    )


class Settings(_Section):
    """All settings. Build with `load_settings`."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=50051, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    drain_s: float = Field(default=30, ge=0, description="Seconds that running calls have to end after SIGTERM.")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    health_port: int | None = Field(
        default=None, ge=0, le=65535, description="Port for gRPC health alone, without TLS, for probes; unset: off."
    )
    http_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for HTTP, see docs/http.md; takes the extra `web`; unset: off.",
    )
    metrics_port: int | None = Field(default=None, ge=0, le=65535, description="Port for Prometheus; unset: off.")
    doors: bool = Field(
        default=True, description="Answer clients of NVIDIA Riva and Google Cloud Speech, see docs/doors.md."
    )
    metrics_tenants: int = Field(default=50, ge=0, description="Tenants with a label of their own in the metrics.")
    model: ModelSettings = ModelSettings()
    endpoint: EndpointSettings = EndpointSettings()
    context: ContextSettings = ContextSettings()
    store: StoreSettings = StoreSettings()
    limits: Limits = Limits()
    tls: TlsSettings = TlsSettings()
    access: AccessSettings = AccessSettings()
    traces: TracesSettings = TracesSettings()

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Settings:
        known = self.access.keys_file or self.tls.client_ca
        if not is_loopback(self.host) and not (self.tls.certificate and known):
            raise ValueError(
                f"host: {self.host} is beyond loopback, which takes tls.certificate and tls.key, and access.keys_file "
                "or tls.client_ca; without them listen on 127.0.0.1"
            )
        return self


def is_loopback(host: str) -> bool:
    """Does the address lead nowhere but to this machine?"""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_settings(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Settings from defaults, then the file, then the environment, then flags.

    flags: settings by dotted path, e.g. {"store.endpoint": "aws"}; None values are ignored.
    Raises ConfigError.
    """
    values = _read_file(file) if file else {}
    for name, text in environ.items():
        if name.startswith(ENV_PREFIX) and not name.startswith(NOT_SETTINGS) and text:
            _put(values, name[len(ENV_PREFIX) :].lower().split("__"), text, name)
    for path, value in (flags or {}).items():
        if value is not None:
            _put(values, path.split("."), value, path)
    try:
        return Settings(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(e["loc"], e["type"], e["msg"]) for e in error.errors())) from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration file {file} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ConfigError(f"the configuration file {file} is not TOML: {error}") from None


def _put(values: dict[str, Any], path: list[str], value: Any, name: str) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{name}: {part} is a single setting and has no parts")
    values[path[-1]] = value


def _explain(location: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in location)
    if kind == "extra_forbidden":
        return f"{name}: there is no such setting; remove it or correct its name"
    message = message.removeprefix("Value error, ")  # pydantic's word before a check's own
    return f"{name}: {message}" if name else message
