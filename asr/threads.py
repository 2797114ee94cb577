"""How many threads torch computes with while it recognises: one, unless OMP_NUM_THREADS says otherwise.

A stream's tensors are small. A second thread brings nothing even on idle cores, and where other work wants them the two
spend their time waiting for each other, spinning: many times slower (docs/operation.md, "Threads"). Whoever has cores
to spare runs streams, or processes, beside each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, and in functions that it decorates, torch uses one thread in this thread; behind it as many as before.

    Where the environment has OMP_NUM_THREADS nothing is changed.
    """
    before = torch.get_num_threads()
    if before == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
