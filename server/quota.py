"""How much of one kind may be under way at once, in all and of each tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from server.errors import LimitError

RETRY_MS = 1000
"""When a client that found all places taken may try again."""


class Places:
    """Belongs to one event loop.

    limit: the name in `Limits` of the most in all; the tenants' is the same with `tenant_` before it. what: says in
    messages what is under way. most: in all; None: any number. most_of_tenant: of each.
    """

    def __init__(self, limit: str, what: str, most: int | None, most_of_tenant: int) -> None:
        self._limit = limit
        self._what = what
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Places taken now."""
        return self._taken.total()

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """While inside, a place is taken. Raises LimitError, which says when to come back."""
        if self._most is not None and self.taken >= self._most:
            advice = f"{self.taken} {self._what}; retry later or on another replica"
            raise LimitError(self._limit, advice, RETRY_MS)
        if self._taken[tenant] >= self._most_of_tenant:
            advice = f"{self._taken[tenant]} of your {self._what}; end some, or retry later"
            raise LimitError(f"tenant_{self._limit}", advice, RETRY_MS)
        self._taken[tenant] += 1
        try:
            yield
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]
