"""The recogniser on a GPU, as far as can be told without one."""

import subprocess
import sys
from pathlib import Path


def test_everything_that_meets_is_on_one_device_and_says_the_same() -> None:
    """Streams in a batch, both passes, phrases, the search led by a context's, exact scores, the endpoint."""
    program = Path(__file__).with_name("pretended_gpu.py")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
