"""Follow-ups of people's recordings to learn rescoring from (`scripts/make_followups` makes their contexts)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from asr.context.types import Context
from asr.evaluation.conditions import context_for
from asr.evaluation.manifest import read_manifest
from recipes.context.data import FollowUp

GROUP = "people"
"""Set of these follow-ups, in front of the manifest's own."""
_CONDITIONS = ("relevant", "irrelevant", "anti")
_NOISE_DB = (5.0, 25.0)
"""Signal-to-noise ratios at which recordings that the acoustic model learned from have about the errors of others."""


@dataclass(frozen=True)
class People:
    """Rows, and by their id the contexts of each condition."""

    rows: tuple[FollowUp, ...]
    contexts: dict[str, dict[str, Context]]


def read_people(manifest: Path, most: int, *, noisy: bool, seed: int = 1) -> People:
    """At most so many follow-ups of a manifest, drawn, under the conditions of evaluation.

    noisy: with noise, for recordings that the acoustic model learned from: what it hears in them is too good to be
    learned from as it is. Sound-alikes of what is meant stand among the entries already, so nothing is *confusable*.

    Raises:
        ManifestError: the file cannot be read, or none of its lines can be used.
    """
    utterances, _ = read_manifest(manifest)
    rng = random.Random(seed)
    rows, contexts = [], {}
    for i in sorted(rng.sample(range(len(utterances)), min(most, len(utterances)))):
        u = utterances[i]
        name = u.id.replace("/", "_")
        found = {c: context_for(c, utterances, i, seed) for c in _CONDITIONS}
        contexts[name] = {c: context for c, context in found.items() if context}
        noise = random.Random(f"{seed} {name}").uniform(*_NOISE_DB) if noisy else None
        place = str(u.audio.path.resolve())
        rows.append(
            FollowUp(name, f"{GROUP} {u.set}", u.text, u.target, u.context, place, u.audio.member or "", 0.0, noise)
        )
    return People(tuple(rows), contexts)
