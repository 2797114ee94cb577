"""Figures of a run: every metric for every condition and set, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.context.types import MAX_FORMS
from asr.evaluation.endpoint_delay import EndpointFigures, endpoint_figures
from asr.evaluation.reliability import Reliability, reliability, words_right
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
    "exact": "Utterances without any error",
    "named": "Utterances that name what is meant, or no entry where none is",
}
_COUNTS = (
    "words", "substitutions", "insertions", "deletions", "errors", "biased_errors", "biased_words", "other_errors",
    "other_words", "entities", "entities_found", "entities_in_nbest", "oracle_errors", "false_bias", "changed",
    "exact", "named", "to_name",
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
    exact: Interval
    named: Interval


@dataclass(frozen=True)
class OfMake:
    """The figures of one make of recordings, by condition."""

    utterances: int
    dialogues: int
    figures: dict[str, Figures]


@dataclass(frozen=True)
class Summary:
    """All figures of a run."""

    utterances: dict[str, int]
    """By set."""
    dialogues: dict[str, int]
    """By set."""
    figures: dict[str, dict[str, Figures]]
    """By set ("all" first), then by condition, "none" first."""
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
    makes: dict[str, OfMake] = field(default_factory=dict)
    """By make, where the utterances are of several."""

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
    dialogues = np.array([o.utterance.dialogue for o in outcomes])
    counts = np.array([_counts(o, conditions, any_spelling) for o in outcomes], np.float64)
    tables = {c: counts[:, number] for number, c in enumerate(conditions)}
    groups = {ALL: np.ones(len(outcomes), bool)} | _groups([o.utterance.set for o in outcomes])
    makes = _groups([o.utterance.make for o in outcomes])

    def of_group(chosen: npt.NDArray[np.bool_]) -> dict[str, Figures]:
        bootstrap = Bootstrap(dialogues[chosen].tolist(), draws, seed)
        return {c: _figures(tables[c][chosen], tables["none"][chosen], bootstrap) for c in conditions}

    errors = {c: table[:, _COUNTS.index("errors")] for c, table in tables.items()}
    results = [h for o in outcomes for h in o.results.values()]
    ended = [(o.ending, o.utterance.dialogue) for o in outcomes if o.ending]
    statuses = {c: [o.results[c].status for o in outcomes] for c in conditions}
    return Summary(
        utterances={name: int(chosen.sum()) for name, chosen in groups.items()},
        dialogues={name: len(set(dialogues[chosen].tolist())) for name, chosen in groups.items()},
        figures={name: of_group(chosen) for name, chosen in groups.items()},
        statuses={c: {s: names.count(s) for s in dict.fromkeys(names)} for c, names in statuses.items()},
        real_time_factor=sum(o.seconds_wall for o in outcomes) / sum(o.seconds_audio for o in outcomes),
        encode_ms=_percentiles([h.encode_ms for h in results if h.encode_ms is not None]),
        rescore_ms=_percentiles([h.rescore_ms for h in results if h.rescore_ms is not None]),
        confidence=_reliability(outcomes),
        endpoint=endpoint_figures([e for e, _ in ended], [d for _, d in ended], draws, seed) if ended else None,
        signals=worths(errors, Bootstrap(dialogues.tolist(), draws, seed)) if "relevant" in errors else {},
        makes={
            name: OfMake(int(chosen.sum()), len(set(dialogues[chosen].tolist())), of_group(chosen))
            for name, chosen in makes.items()
        },
    )


def _groups(names: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """By name, which utterances have it; none where all that have one have the same."""
    found = sorted(set(names) - {""})
    return {name: np.array([n == name for n in names]) for name in found} if len(found) > 1 else {}


def _reliability(outcomes: Sequence[Outcome]) -> Reliability | None:
    pairs: list[tuple[float, bool]] = []
    for outcome in outcomes:
        right = words_right(outcome.utterance.reference, outcome.results["none"].nbest[0])
        pairs += zip(outcome.confidences, right, strict=True)
    return reliability([sure for sure, _ in pairs], [right for _, right in pairs])


def _counts(outcome: Outcome, conditions: Sequence[str], any_spelling: bool) -> list[list[int]]:
    """The counts of one utterance under each condition, in the order of _COUNTS.

    Words and entities are those of the utterance's own context whatever the condition, so that conditions compare.
    """
    utterance = outcome.utterance
    forms = {
        form: of_one
        for e in utterance.context.entries
        for of_one in [spoken_forms(e.text, MAX_FORMS)]
        for form in of_one
    }
    words = {word for phrase in forms for word in phrase.split()}
    entities = spoken_entities(utterance.text, utterance.target, list(forms))
    plain = outcome.results["none"].nbest[0]
    plain_errors = count(align(utterance.reference, plain, any_spelling=any_spelling)).total

    def of_condition(nbest: Sequence[str]) -> list[int]:
        steps = align(utterance.reference, nbest[0], any_spelling=any_spelling)
        errors = count(steps)
        biased, others = split_by_phrases(steps, words)
        found = sum(_says(nbest[0], entity, forms) for entity in entities)
        if utterance.target:
            named, to_name = found, len(entities)
        else:  # where nothing is meant, no word of an entry may stand in the text that was not said
            invented = words & set(nbest[0].split()) - set(utterance.text.split())
            named, to_name = int(not invented), int(utterance.target == "" and bool(words))
        return [
            errors.words, errors.substitutions, errors.insertions, errors.deletions, errors.total,
            biased.total, biased.words, others.total, others.words,
            len(entities),
            found,
            sum(any(_says(text, entity, forms) for text in nbest) for entity in entities),
            oracle(utterance.reference, nbest, any_spelling=any_spelling).total,
            int(errors.total > 0 == plain_errors),
            int(nbest[0] != plain),
            int(errors.total == 0),
            named * to_name, to_name,
        ]  # fmt: skip

    return [of_condition(outcome.results[condition].nbest) for condition in conditions]


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
        exact=bootstrap.ratio(column["exact"], each),
        named=bootstrap.ratio(column["named"], column["to_name"]),
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
