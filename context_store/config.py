"""How to reach the store."""

from __future__ import annotations

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class StoreConfig:
    """How to reach the two tables, and how long to keep what is in them."""

    endpoint_url: str | None = None
    """None for AWS itself, else e.g. `http://127.0.0.1:8000`."""
    region: str = "us-east-1"
    """AWS region; any name for an endpoint of one's own."""
    events_table: str = "carryover-events"
    payload_table: str = "carryover-payloads"
    connect_timeout_s: float = 1.0
    read_timeout_s: float = 2.0
    """Of one attempt."""
    max_attempts: int = 2
    """In all, with botocore's standard retries."""
    max_connections: int = 16
    """At least the number of threads that use the store."""
    ttl_s: int = 24 * 3600
    """Seconds from the first write of a turn or payload until it expires."""
    max_events: int = 256
    """Of one turn; the call that reaches it is the last one that adds any."""
    key_cache_entries: int = 1024
    key_cache_s: float = 300.0
    """How many unwrapped dialogue keys to hold in memory, and for how long."""
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    """Only for an endpoint that takes any credentials (moto, DynamoDB Local); None lets boto3 find them as usual
    (environment, profile, role)."""

    def patient(self) -> StoreConfig:
        """The same with time for slow answers: for work that no speaker waits for, and for busy machines."""
        return replace(self, connect_timeout_s=20.0, read_timeout_s=20.0, max_attempts=5)
