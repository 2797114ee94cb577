"""torchaudio for the tests that compare with it, or need what is its own."""

from importlib.metadata import version
from typing import Any

import pytest

from asr.errors import ModelError
from asr.pairing import PAIR, load_torchaudio


def need_torchaudio(*, module: bool = False) -> Any:
    """The module torchaudio; skips the test where another torch is installed than the locked one, as a CPU build.

    module: skips the whole test module, in which this is called.
    """
    try:
        return load_torchaudio()
    except ModelError as error:
        if f"torch=={version('torch')}" in PAIR:
            raise
        pytest.skip(f"torchaudio is not here: {error}", allow_module_level=module)
