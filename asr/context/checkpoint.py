"""The context encoder and the rescorer, which share one network, read from a folder; and that folder's files."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.context.answer_tables import AnswerTables
from asr.context.encoder import ContextEncoder
from asr.context.foreign_nbest import ListScorer, TextListScorer
from asr.context.model import ContextModel, ContextModelConfig
from asr.context.rescorer import Rescorer
from asr.errors import ModelError
from asr.fitted import FILE, ModelVersions, RescorerConstants, UnfittedWarning, named_version, read_fitted, require
from asr.text.tokenizer import Tokenizer
from asr.threads import one_thread

WEIGHTS = Path(__file__).parent.parent / "weights" / "context"
"""The shipped weights."""


@dataclass(frozen=True)
class ContextModels:
    """What a recogniser needs to use contexts."""

    encoder: ContextEncoder
    rescorer: Rescorer

    @classmethod
    @one_thread()
    def load(cls, folder: Path | None = None, models: ModelVersions | None = None) -> ContextModels:
        """Read a folder that `scripts/train_context` wrote; the network is loaded once for both.

        Args:
            folder: None: the shipped weights.
            models: those whose lists with exact scores the rescorer will get; None: it gets other recognisers' lists
                only.

        Raises:
            ModelError: files are missing or do not fit together.

        Warns:
            UnfittedWarning: the rescorer was fitted to lists of other models.
        """
        folder = folder or WEIGHTS
        read = read_weights(folder)
        encoder = ContextEncoder(read.model, read.tokenizer, read.version)
        constants = read_fitted(RescorerConstants, folder / FILE)
        version = ModelVersions("", context=read.version)
        require(constants.models, version, folder / FILE, "python -m recipes.rescorer.fit")
        if models is not None and not (constants.models and constants.models.covers(models)):
            warnings.warn(
                f"the rescorer was fitted to lists of other models ({constants.models}) than these ({models}): "
                "contexts may help less or do harm. Fit it: python -m recipes.rescorer.fit",
                UnfittedWarning,
                stacklevel=3,
            )
        try:
            tables, network = read_tables(read.config["tables"]), ListScorer()
            network.load_state_dict(read.part("ranked."))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"context weights in {folder.name!r} cannot be read: {type(error).__name__}") from error
        text_lists = TextListScorer(read.model.eval(), read.tokenizer, tables, network.eval(), constants)
        return cls(encoder, Rescorer(text_lists, read.version))


@dataclass(frozen=True)
class ContextWeights:
    """What a folder holds."""

    model: ContextModel
    tokenizer: Tokenizer
    config: dict[str, Any]
    """The whole of config.json."""
    version: str
    """The configured name, with a digest of the other files behind it."""
    tensors: dict[str, Tensor]
    """All of context.safetensors: ``model.…`` of the network, ``ranked.…`` of the `ListScorer`."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The float32 tensors whose names begin so, without that beginning."""
        return {k.removeprefix(prefix): v.float() for k, v in self.tensors.items() if k.startswith(prefix)}


def read_weights(folder: Path) -> ContextWeights:
    """Read config.json, context.safetensors and tokens.model. Raises ModelError."""
    try:
        config = json.loads((folder / "config.json").read_text())
        files = folder / "context.safetensors", folder / "tokens.model"
        version = named_version(str(config["version"]), *files)
        model, tokenizer = ContextModel(ContextModelConfig(**config["model"])), Tokenizer.load(files[1])
        read = ContextWeights(model, tokenizer, config, version, load_file(files[0]))
        model.load_state_dict(read.part("model."))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"context weights in {folder.name!r} cannot be read: {type(error).__name__}") from error
    return read


def save_model(folder: Path, model: ContextModel, tokenizer: Tokenizer, config: dict[str, object]) -> None:
    """Write what `read_weights` reads, the weights as fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{k}": v.half().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / "context.safetensors")
    (folder / "tokens.model").write_bytes(tokenizer.proto)
    (folder / "config.json").write_text(json.dumps({"model": asdict(model.config), **config}, indent=1) + "\n")


def read_tables(values: dict[str, Any]) -> AnswerTables:
    """Read the answer tables of config.json.

    They are carriers [[before, after, logp]], answers {question: [[text, logp]]}, and given and surnames, names with
    spaces between them.
    """
    carriers = {(str(b), str(a)): float(p) for b, a, p in values["carriers"]}
    answers = {str(q): {str(t): float(p) for t, p in rows} for q, rows in values["answers"].items()}
    given, surnames = (frozenset(str(values.get(kind, "")).split()) for kind in ("given", "surnames"))
    return AnswerTables(carriers, answers, given, surnames)
