"""Figures of a run: every metric for every condition and set, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.context.types import MAX_FORMS
from asr.evaluation.confidence import Reliability, reliability, words_right
from asr.evaluation.endpoint import EndpointFigures, endpoint_figures
from asr.evaluation.run import Outcome
from asr.evaluation.signals import Worth, worths
from asr.evaluation.statistics import Bootstrap, Interval
from asr.evaluation.wer import align, contains, count, oracle, split_by_phrases, spoken_entities
from asr.text import spoken_forms

ALL = "all"
METRICS = {
    "wer": "Word error rate",
    "change": "Change of the errors against none",
    "b_wer": "WER of words in the context's phrases",
    "u_wer": "WER of all other words",
    "entity_recall": "Entities in the 1-best",
    "entity_recall_nbest": "Entities in the n-best",
    "oracle_wer": "WER of the best of each n-best",
    "false_bias": "Utterances that only context made wrong",
    "changed": "Utterances whose 1-best is another than without context",
}
_COUNTS = (
    "words", "substitutions", "insertions", "deletions", "errors", "biased_errors", "biased_words", "other_errors",
    "other_words", "entities", "entities_found", "entities_in_nbest", "oracle_errors", "false_bias", "changed",
)  # fmt: skip


@dataclass(frozen=True)
class Figures:
    """One condition on one set. Rates and shares are 0 to 1 (a WER may be more), with their 95% intervals."""

    counts: dict[str, int]
    wer: Interval
    change: Interval
    b_wer: Interval
    u_wer: Interval
    entity_recall: Interval
    entity_recall_nbest: Interval
    oracle_wer: Interval
    false_bias: Interval
    changed: Interval


@dataclass(frozen=True)
class Summary:
    """figures: by set ("all" first), then by condition, "none" first. utterances: by set."""

    utterances: dict[str, int]
    dialogues: dict[str, int]
    figures: dict[str, dict[str, Figures]]
    statuses: dict[str, dict[str, int]]
    real_time_factor: float
    """Seconds of search a second of audio."""
    encode_ms: tuple[float, float] | None
    """Median and 99th percentile of the time that a context's encoding took."""
    rescore_ms: tuple[float, float] | None
    confidence: Reliability | None
    """Of the words of the plain 1-bests; None where there are none."""
    endpoint: EndpointFigures | None
    """None where no recording was listened to with endpointing on."""
    signals: dict[str, Worth]
    """By signal, where each was tried alone and left out."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is not defined is null."""
        value = without_nan(asdict(self))
        assert isinstance(value, dict)
        return value


def summarize(
    outcomes: Sequence[Outcome],
    conditions: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
    *,
    any_spelling: bool = False,
) -> Summary:
    """The figures of all outcomes (at least one); `conditions` is led by "none". any_spelling: as of `align`."""
    sets = np.array([o.utterance.set for o in outcomes])
    dialogues = np.array([o.utterance.dialogue for o in outcomes])
    tables = {c: np.array([_count(o, c, any_spelling) for o in outcomes], np.float64) for c in conditions}
    named = sorted(set(sets.tolist()) - {""})
    groups = {ALL: np.ones(len(outcomes), bool)} | ({s: sets == s for s in named} if len(named) > 1 else {})
    figures = {}
    for name, chosen in groups.items():
        bootstrap = Bootstrap(dialogues[chosen].tolist(), draws, seed)
        figures[name] = {c: _figures(tables[c][chosen], tables["none"][chosen], bootstrap) for c in conditions}
    errors = {c: table[:, _COUNTS.index("errors")] for c, table in tables.items()}
    heard = [h for o in outcomes for h in o.heard.values()]
    ended = [(o.ending, o.utterance.dialogue) for o in outcomes if o.ending]
    statuses = {c: [o.heard[c].status for o in outcomes] for c in conditions}
    return Summary(
        utterances={name: int(chosen.sum()) for name, chosen in groups.items()},
        dialogues={name: len(set(dialogues[chosen].tolist())) for name, chosen in groups.items()},
        figures=figures,
        statuses={c: {s: names.count(s) for s in dict.fromkeys(names)} for c, names in statuses.items()},
        real_time_factor=sum(o.seconds_wall for o in outcomes) / sum(o.seconds_audio for o in outcomes),
        encode_ms=_percentiles([h.encode_ms for h in heard if h.encode_ms is not None]),
        rescore_ms=_percentiles([h.rescore_ms for h in heard if h.rescore_ms is not None]),
        confidence=_reliability(outcomes),
        endpoint=endpoint_figures([e for e, _ in ended], [d for _, d in ended], draws, seed) if ended else None,
        signals=worths(errors, Bootstrap(dialogues.tolist(), draws, seed)) if "relevant" in errors else {},
    )


def _reliability(outcomes: Sequence[Outcome]) -> Reliability | None:
    pairs: list[tuple[float, bool]] = []
    for outcome in outcomes:
        right = words_right(outcome.utterance.reference, outcome.heard["none"].nbest[0])
        pairs += zip(outcome.confidences, right, strict=True)
    return reliability([sure for sure, _ in pairs], [right for _, right in pairs])


def _count(outcome: Outcome, condition: str, any_spelling: bool) -> list[int]:
    """The counts of one utterance, in the order of _COUNTS.

    Words and entities are those of the utterance's own context whatever the condition, so that conditions compare.
    """
    utterance, nbest = outcome.utterance, outcome.heard[condition].nbest
    plain = outcome.heard["none"].nbest[0]
    reference = utterance.reference
    forms = {
        form: of_one
        for e in utterance.context.entries
        for of_one in [spoken_forms(e.text, MAX_FORMS)]
        for form in of_one
    }
    steps = align(reference, nbest[0], any_spelling=any_spelling)
    errors = count(steps)
    biased, others = split_by_phrases(steps, {word for phrase in forms for word in phrase.split()})
    entities = spoken_entities(utterance.text, utterance.target, list(forms))
    return [
        errors.words, errors.substitutions, errors.insertions, errors.deletions, errors.total,
        biased.total, biased.words, others.total, others.words,
        len(entities),
        sum(_says(nbest[0], entity, forms) for entity in entities),
        sum(any(_says(text, entity, forms) for text in nbest) for entity in entities),
        oracle(reference, nbest, any_spelling=any_spelling).total,
        int(errors.total > 0 == count(align(reference, plain, any_spelling=any_spelling)).total),
        int(nbest[0] != plain),
    ]  # fmt: skip


def _says(text: str, entity: str, forms: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a text has an entity in any of its spoken forms."""
    return any(contains(text, form) for form in forms.get(entity, (entity,)))


def _figures(table: npt.NDArray[np.float64], plain: npt.NDArray[np.float64], bootstrap: Bootstrap) -> Figures:
    column = dict(zip(_COUNTS, table.T, strict=True))
    each = np.ones(len(table))
    return Figures(
        counts={name: int(values.sum()) for name, values in column.items()},
        wer=bootstrap.ratio(column["errors"], column["words"]),
        change=bootstrap.change(column["errors"], plain.T[_COUNTS.index("errors")]),
        b_wer=bootstrap.ratio(column["biased_errors"], column["biased_words"]),
        u_wer=bootstrap.ratio(column["other_errors"], column["other_words"]),
        entity_recall=bootstrap.ratio(column["entities_found"], column["entities"]),
        entity_recall_nbest=bootstrap.ratio(column["entities_in_nbest"], column["entities"]),
        oracle_wer=bootstrap.ratio(column["oracle_errors"], column["words"]),
        false_bias=bootstrap.ratio(column["false_bias"], each),
        changed=bootstrap.ratio(column["changed"], each),
    )


def _percentiles(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    median, high = np.percentile(values, [50, 99])
    return round(float(median), 2), round(float(high), 2)


def without_nan(value: Any) -> Any:
    """The same values, rounded, with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {k: without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(v) for v in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
