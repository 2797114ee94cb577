"""A GPU that is none: tensors that say they are elsewhere, computed on the CPU; operations refuse two devices.

Run as a program, it recognises a recording of the project's own on the CPU and there, and fails where the two differ.
A process of its own, since `inference_mode`, under which such tensors have no views, has to be exchanged before
anything else is imported. The device is called meta, the only one that torch lets nobody own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

THERE, HERE = torch.device("meta"), torch.device("cpu")
_MIX = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_"}
"""Operations that a GPU's tensors may have with the CPU's: indices, and copies."""


class Elsewhere(torch.Tensor):
    """Wraps a tensor; no NumPy array can be had of it, as of a GPU's."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Any:
        out: Any = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=THERE
        )
        out.held = held
        return out

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: Any, kwargs: Any) -> Any:
    """One operation, by what the tensors hold. Raises RuntimeError where they are of two devices."""
    name, leaves = func._schema.name, tree_leaves((args, kwargs))
    tensors = [x for x in leaves if isinstance(x, torch.Tensor)]
    of = [isinstance(x, Elsewhere) for x in tensors]
    if any(of) and name not in _MIX and not all(there or not x.dim() for there, x in zip(of, tensors, strict=True)):
        raise RuntimeError(f"{name}: tensors of two devices, {[tuple(x.shape) for x in tensors]}, elsewhere: {of}")
    wanted = next((x for x in leaves if isinstance(x, torch.device)), None)
    there = of[0] if name == "aten::copy_" else any(of) if wanted is None else wanted == THERE
    args, kwargs = tree_map(_bare, (args, kwargs))
    given = {id(_bare(x)): x for x in tensors}

    def dressed(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if wanted is None and id(x) in given:  # done in place
            return given[id(x)]
        return Elsewhere(x) if there else x

    return tree_map(dressed, func(*args, **kwargs))


def _bare(x: Any) -> Any:
    return x.held if isinstance(x, Elsewhere) else HERE if isinstance(x, torch.device) else x


class Machine(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Literals(TorchFunctionMode):
    """What does not come by an operation: tensors of Python's numbers, lists as indices too, and back."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") == THERE:
            return Elsewhere(torch.tensor(*args, **kwargs | {"device": HERE}))
        if func is torch.Tensor.tolist and isinstance(args[0], Elsewhere):
            return args[0].held.tolist()
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            at = args[1] if isinstance(args[1], tuple) else (args[1],)
            at = tuple(torch.tensor(x, dtype=torch.int64) if isinstance(x, list) else x for x in at)
            args = (args[0], at, *args[2:])
        return func(*args, **kwargs)


def main() -> None:
    torch.inference_mode = lambda *_, **__: torch.no_grad()  # type: ignore[assignment, misc]
    torch.set_num_threads(1)

    from asr.audio import read_container
    from asr.commands.benchmark_search import DEMO
    from asr.hypothesis import Hypothesis
    from asr.model import streaming
    from asr.recognizer import Recognizer, StreamOptions
    from asr.search import BoostedPhrase

    packed = streaming._Linear.__init__
    streaming._Linear.__init__ = lambda self, weight, bias, exact: packed(self, weight, bias, True)  # type: ignore
    samples, rate = read_container((DEMO / "bauer.flac").read_bytes())

    def heard(recognizer: Recognizer) -> list[Hypothesis]:
        """Readings of all that a recogniser does."""
        result = recognizer.recognize(samples, rate, phrases=[BoostedPhrase("meg bauer", 3.0)])
        led = recognizer.with_context(result, recognizer.compile([BoostedPhrase("bauer", 6.0)]))
        assert result.encoded is not None and led.biased
        scores = recognizer.force_score(result.encoded, ["power", "bauer"])
        streams = [recognizer.open(StreamOptions(rate, interim_results=True)) for _ in range(3)]
        said = [*result.nbest, *led.biased, *scores]
        for stream in streams:
            stream.take(samples)
            stream.end()
        while ready := [stream for stream in streams if stream.ready]:
            said += [h for results in recognizer.advance(ready) for r in results for h in r.nbest]
        return said

    loaded = Recognizer.load()
    here = Recognizer(loaded.model, loaded.tokenizer, language=loaded.language, version=loaded.version,
                      calibration=loaded.calibration)  # fmt: skip
    wanted = heard(here)
    for module in here.model.modules():  # type: ignore[attr-defined]
        for kind in (module._parameters, module._buffers):
            kind |= {k: torch.nn.Parameter(Elsewhere(v.detach()), False) for k, v in kind.items() if v is not None}
    here.model.train().eval()  # type: ignore[attr-defined]  # drops the copies made for speed
    with Machine(), Literals():
        there = Recognizer(here.model, here.tokenizer, language=here.language, version=here.version,
                           calibration=here.calibration)  # fmt: skip
        found = heard(there)
        assert isinstance(there.recognize(samples, rate).encoded.frames, Elsewhere)  # type: ignore[union-attr]
    for one, other in zip(wanted, found, strict=True):
        same = (one.tokens, one.token_times, one.bias) == (other.tokens, other.token_times, other.bias)
        assert same and abs(one.score - other.score) < 0.01, f"{one}\n\nthere: {other}"


if __name__ == "__main__":
    main()
