"""The files beside this one: reads, compares and, run as a program, writes what the golden tests freeze.

    python -m tests.golden.record [NAME...]

writes NAME.json anew, or all of them, from what the code does now. Do that only where a change is meant, and say in the
commit what changed and why.
"""

from __future__ import annotations

import json
import math
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from tests.golden import probe

FOLDER = Path(__file__).parent
TOLERANCE = 0.05, 0.5
"""Relative and absolute: how far a number may be off on another kind of machine. Its kernels for 8 bits round
otherwise, and scores of the attention decoder move by tenths of a nat."""
CHANGED = 0.1
"""Share of the values that may differ there by more, as where two hypotheses change places."""


def fingerprint() -> dict[str, str]:
    """What the last bits of a score depend on: the kind of processor and the libraries that compute."""
    cpus = Path("/proc/cpuinfo")
    model = [line for line in cpus.read_text().splitlines() if line.startswith(("model name", "cpu family", "model\t"))]
    return {
        "machine": platform.machine(),
        "processor": ", ".join(sorted({line.partition(":")[2].strip() for line in model}, reverse=True)),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "libsndfile": soundfile.__libsndfile_version__,
    }


def read(name: str) -> dict[str, Any]:
    """What is recorded under a name."""
    recorded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return recorded


def write(name: str, value: dict[str, Any]) -> None:
    """Records a value, one line an entry, so that a difference can be read in a diff."""
    lines = [f"{json.dumps(key)}: {json.dumps(inner, ensure_ascii=False)}" for key, inner in value.items()]
    (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def differences(recorded: Any, now: Any, *, exact: bool, place: str = "") -> Iterator[str]:
    """Where two JSON values differ, one line each. exact: numbers to the last bit, else within `TOLERANCE`."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        for key in dict.fromkeys((*recorded, *now)):
            if key not in now or key not in recorded:
                yield f"{place}/{key}: {'only recorded' if key in recorded else 'not recorded'}"
            else:
                yield from differences(recorded[key], now[key], exact=exact, place=f"{place}/{key}")
    elif isinstance(recorded, list) and isinstance(now, list):
        if len(recorded) != len(now):
            yield f"{place}: {len(recorded)} entries recorded, now {len(now)}"
        for index, pair in enumerate(zip(recorded, now, strict=False)):
            yield from differences(*pair, exact=exact, place=f"{place}/{index}")
    elif not _same(recorded, now, exact):
        yield f"{place}: recorded {recorded!r}, now {now!r}"


def values(recorded: Any) -> int:
    """How many numbers, texts and the like a JSON value holds."""
    inner = recorded.values() if isinstance(recorded, dict) else recorded if isinstance(recorded, list) else None
    return 1 if inner is None else sum(map(values, inner))


def _same(recorded: Any, now: Any, exact: bool) -> bool:
    if not exact and isinstance(recorded, float) and isinstance(now, float):
        return math.isclose(recorded, now, rel_tol=TOLERANCE[0], abs_tol=TOLERANCE[1])
    return type(recorded) is type(now) and recorded == now


def main(names: list[str]) -> None:
    """Writes the files of these names, or all."""
    torch.set_num_threads(1)  # as the tests have it
    for name in names or list(probe.GOLDEN):
        started = time.perf_counter()
        write(name, probe.GOLDEN[name]())
        print(f"{name}: {time.perf_counter() - started:.1f} s")  # noqa: T201
    write("fingerprint", fingerprint())


if __name__ == "__main__":
    main(sys.argv[1:])
