"""Quotas: how many operations of one kind may run at once, in total and per tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import LimitError

RETRY_MS = 1000
"""When a client that was over a quota may try again."""


class Quota:
    """Counts the operations of one kind that run now. Belongs to one event loop.

    Args:
        limit: the name in `Limits` of the total; the tenants' is the same with `tenant_` before it.
        what: says in messages what runs.
        total: at once; None: any number.
        per_tenant: at once.
    """

    def __init__(self, limit: str, what: str, total: int | None, per_tenant: int) -> None:
        self._limit = limit
        self._what = what
        self._total = total
        self._per_tenant = per_tenant
        self._running: Counter[str] = Counter()

    @property
    def running(self) -> int:
        """Operations that run now."""
        return self._running.total()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """While inside, one of a tenant's operations runs. Raises LimitError, which says when to come back."""
        if self._total is not None and self.running >= self._total:
            advice = f"{self.running} {self._what}; retry later or on another replica"
            raise LimitError(self._limit, advice, RETRY_MS)
        if self._running[tenant] >= self._per_tenant:
            advice = f"{self._running[tenant]} of your {self._what}; end some, or retry later"
            raise LimitError(f"tenant_{self._limit}", advice, RETRY_MS)
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
