"""Constants that were fitted to one set of models, in a small file beside the weights that they belong to.

A model's version ends in a digest of its weights, and each constant is kept with the versions of the models whose
scores it was fitted to. With other models it is not used: defaults take its place, and a warning says so once.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from asr.errors import ModelError

FILE = "fitted.json"
_REFIT = "python -m recipes.second_pass.weights DEV-MANIFEST..."


class UnfittedWarning(UserWarning):
    """Models work together whose constants were never fitted to each other."""


def content_digest(*files: Path) -> str:
    """The first 12 hex digits of the SHA-256 of the files' contents, one after the other. Raises OSError."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def named_version(name: str, *files: Path) -> str:
    """A model's version: its name and the digest of its weights."""
    return f"{name}-{content_digest(*files)}"


@dataclass(frozen=True)
class ModelVersions:
    """Of the models whose scores meet; "" where there is none."""

    acoustic: str
    language: str = ""
    attention: str = ""
    context: str = ""
    """The context model's."""

    def __str__(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in asdict(self).items() if version) or "no models"

    def covers(self, used: ModelVersions) -> bool:
        """Whether what was fitted to these holds for the models used: some may be left out, none may be another."""
        pairs = zip(asdict(self).values(), asdict(used).values(), strict=True)
        return all(mine == theirs or not theirs for mine, theirs in pairs)


@dataclass(frozen=True)
class FittedWeights:
    """What each score counts in a recogniser; the defaults are for models that nothing was fitted to.

    score = transducer + ctc × CTC head + language × n-gram + token_bonus × tokens + attention × attention decoder
            + word_bonus × words
    """

    language: float = 0.35
    token_bonus: float = 1.7
    """These two count in the search already, the others where final results are ranked."""
    ctc: float = 0.3
    attention: float = 2.0
    word_bonus: float = 0.0
    """In lists that the attention decoder has scored."""
    limit: float = 20.0
    """Nats that a text is at most behind the best by the first four scores in such lists: where the transducer has
    misrecognised, it does not outvote the attention decoder."""
    models: ModelVersions | None = None
    """Those that they were fitted to; None: to none."""


@dataclass(frozen=True)
class RescorerConstants:
    """What a context's score counts beside the recogniser's."""

    attended: tuple[float, ...]
    unattended: tuple[float, ...]
    """Weights of `asr.context.evidence.EVIDENCE` for hypotheses that name an entry, log-odds, in lists that the
    attention decoder has a part in and in those that it has not (`python -m recipes.rescorer.fit`)."""
    margin: float
    """Nats that a hypothesis must win by in another recogniser's list."""
    contacts: tuple[float, ...] = ()
    """Weights of `asr.context.contact_classifier.FEATURES` and a constant, for the whole names of contacts in such
    lists (`recipes.rescorer.callers`); none: those are weighed as all else is."""
    models: ModelVersions | None = None
    """Those whose lists they were fitted to, the context model with its scorer among them."""


Constants = TypeVar("Constants", FittedWeights, RescorerConstants)


def save_fitted(constants: FittedWeights | RescorerConstants, file: Path) -> None:
    """Writes them with the versions of their models. Raises ValueError where there are none, OSError."""
    if constants.models is None:
        raise ValueError("constants that were fitted to no models are not kept")
    models = {name: version for name, version in asdict(constants.models).items() if version}
    file.write_text(json.dumps(asdict(constants) | {"models": models}, indent=1) + "\n")


def read_fitted(kind: type[Constants], file: Path) -> Constants:
    """What `save_fitted` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    try:
        values: dict[str, Any] = json.loads(file.read_text())
        models = ModelVersions(**{name: str(version) for name, version in values.pop("models").items()})
        numbers = {name: _numbers(value) for name, value in values.items()}
        return kind(**numbers, models=models)
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file}: {error}; fit it again") from error


def _numbers(value: object) -> Any:
    if isinstance(value, list):
        return tuple(map(_numbers, value))
    number = float(value)  # type: ignore[arg-type]
    if not math.isfinite(number):
        raise ValueError("a constant is no number")
    return number


def weights_for(used: ModelVersions, folders: Sequence[Path], named: Path | None = None) -> FittedWeights:
    """The weights for a recogniser of these models.

    Args:
        folders: of the models; the first whose fitted.json belongs to the models used is taken.
        named: a file that has to belong to them.

    Raises:
        ModelError: the named file is of other models, or a file is damaged.

    Warns:
        UnfittedWarning: none belongs to them, and the defaults stand in.
    """
    if named is not None:
        found = read_fitted(FittedWeights, named)
        require(found.models, used, named)
        return found
    files = [folder / FILE for folder in folders if (folder / FILE).exists()]
    known = [read_fitted(FittedWeights, file) for file in files]
    for weights in known:
        if weights.models and weights.models.covers(used):
            return weights
    if not used.language and not used.attention:  # no scores of different models meet
        return FittedWeights()
    without = replace(used, attention="")
    partly = next((w for w in known if w.models and w.models.covers(without)), None)
    default = FittedWeights()
    weights = replace(partly, attention=default.attention, word_bonus=default.word_bonus) if partly else default
    what = "the attention decoder's weight was" if partly else "the scores' weights were"
    values = ", ".join(f"{f.name} {getattr(weights, f.name):g}" for f in fields(weights) if f.name != "models")
    warnings.warn(
        f"{what} never fitted to these models together ({used}); they work with {values}. "
        f"Fit them on recordings of yours: {_REFIT}",
        UnfittedWarning,
        stacklevel=4,
    )
    return weights


def require(fitted_to: ModelVersions | None, used: ModelVersions, file: Path, refit: str = _REFIT) -> None:
    """Raise ModelError where constants of a file were fitted to other models than those used.

    Args:
        refit: the command that fits them.
    """
    if fitted_to is None or not fitted_to.covers(used):
        raise ModelError(f"{file} was fitted to {fitted_to}, not to {used}: fit anew ({refit}) or leave it out")
