"""What may be asked of the server's metrics."""

from __future__ import annotations

import re

from server.metrics import Metrics


def exported() -> set[str]:
    """Names of the series that a server exports, with those that counters and histograms have in Prometheus."""
    metrics = Metrics()
    metrics.watch_tasks(lambda: 0)
    families = list(metrics.registry.collect())
    names = {family.name for family in families} | {f"{f.name}_total" for f in families if f.type == "counter"}
    return names | {
        f"{f.name}_{part}" for f in families if f.type == "histogram" for part in ("bucket", "sum", "count")
    }


def asked_for(expression: str) -> set[str]:
    """Names of the server's series in a PromQL expression."""
    return set(re.findall(r"\b(?:carryover|process)_\w+", expression))
