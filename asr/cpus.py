"""How many CPUs this process may use, which in a container or under `taskset` is fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """CPUs that the process may use: those of its affinity, at most its cgroup's quota, rounded up; at least 1.

    root: where `proc` and `sys` are found.
    """
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min([_affinity(), *quotas]))


def _affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """CPUs that each cgroup around the process grants; a group without a quota gives nothing."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if not controllers:
            for group in _with_parents(mounted, own):
                yield from _quota(_text(group / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for folder in dict.fromkeys((mounted / controllers, mounted / "cpu")):
                for group in _with_parents(folder, own):
                    yield from _quota(f"{_text(group / 'cpu.cfs_quota_us')} {_text(group / 'cpu.cfs_period_us')}")


def _with_parents(mounted: Path, own: str) -> list[Path]:
    """A group's folder and those above it.

    In a container without a namespace of its own only the mounted one exists, and a group outside the namespace is
    named by "..", where nothing can be read.
    """
    parts = [part for part in own.split("/") if part]
    if ".." in parts:
        parts = []
    return [mounted.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _quota(text: str) -> list[float]:
    """A quota and its period, microseconds, as CPUs. "max" or -1: none."""
    words = text.split()
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return []
    return [int(words[0]) / int(words[1])]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
