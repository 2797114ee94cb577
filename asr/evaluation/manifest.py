"""Manifests of utterances with their contexts (JSON Lines, also gzipped)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.context.types import Context, Entry, Turn
from asr.errors import ManifestError
from asr.jsonl import Problem, read_lines
from asr.recordings import AudioPlace, parse_audio
from asr.text import normalize

SPEAKERS = ("user", "system")


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest.

    text: the reference, normalised. set: what kind of turn, or the corpus. dialogue: what the bootstrap draws as one;
    the id where the manifest names none. target: the entity that the answer means, normalised; "" where the manifest
    says that there is none; None where it does not say.
    """

    id: str
    audio: AudioPlace
    text: str
    set: str = ""
    context: Context = field(default_factory=Context)
    dialogue: str = ""
    target: str | None = None


def read_manifest(
    path: Path, sets: Iterable[str] = (), limit: int | None = None
) -> tuple[list[Utterance], list[Problem]]:
    """The usable utterances of a manifest, and the lines that are not.

    Args:
        sets: keep only these sets; none: all. limit: stop after this many usable utterances.
    Raises:
        ManifestError: the file cannot be read, or none of its lines can be used.
    """
    wanted, utterances, problems, seen = set(sets), [], [], set[str]()
    for number, value in read_lines(path):
        if isinstance(value, Problem):
            problems.append(value)
            continue
        try:
            utterance = parse_utterance(value, path.parent)
            if utterance.id in seen:
                raise ManifestError("its id is taken by an earlier line; give each line its own")
        except ManifestError as error:
            problems.append(Problem(number, str(error)))
            continue
        seen.add(utterance.id)
        if not wanted or utterance.set in wanted:
            utterances.append(utterance)
        if limit is not None and len(utterances) >= limit:
            break
    if not utterances:
        first = f"; line {problems[0].line}: {problems[0].reason}" if problems else ""
        of_sets = f" of the sets {', '.join(sorted(wanted))}" if wanted and seen else ""
        raise ManifestError(f"{path}: holds no usable utterance{of_sets}{first}")
    return utterances, problems


def parse_utterance(value: dict[str, Any], folder: Path) -> Utterance:
    """One manifest object; relative audio paths are relative to `folder`.

    Raises:
        ManifestError: says which field is wrong.
    """
    text = value.get("text")
    if not isinstance(text, str):
        raise ManifestError("text is not a string; give the reference")
    target = value.get("target")
    return Utterance(
        id=required_text(value, "id"),
        audio=parse_audio(value, folder),
        text=normalize(text),
        set=str(value.get("set") or value.get("corpus") or ""),
        context=parse_context(value.get("context") or {}),
        dialogue=str(value.get("dialogue") or value["id"]),
        target=normalize(str(target or "")) if "target" in value else None,
    )


def required_text(value: dict[str, Any], name: str) -> str:
    """A field that must be a string with something in it."""
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise ManifestError(f"{name} is missing or no string")
    return text


def parse_context(value: Any) -> Context:
    """`{turns: [{speaker, text}], entities: [{signal, text}]}`, both optional."""
    if not isinstance(value, dict):
        raise ManifestError("context is no object; give {turns, entities}")
    return Context(parse_turns(value.get("turns") or []), parse_entries(value.get("entities") or [], "signal"))


def parse_turns(values: Any) -> tuple[Turn, ...]:
    """`[{speaker: "user"|"system", text}]`, oldest first."""
    if not isinstance(values, list) or not all(isinstance(v, dict) and isinstance(v.get("text"), str) for v in values):
        raise ManifestError("turns of the context must be a list of {speaker, text}")
    if any(v.get("speaker") not in SPEAKERS for v in values):
        raise ManifestError('speaker of a turn must be "user" or "system"')
    return tuple(Turn(v["speaker"], v["text"]) for v in values)


def parse_entries(values: Any, kind: str) -> tuple[Entry, ...]:
    """`[{KIND: ..., text}]`; KIND is "signal" in manifests and "type" in n-best lists, and either is taken in both."""
    if not isinstance(values, list) or not all(isinstance(v, dict) and isinstance(v.get("text"), str) for v in values):
        raise ManifestError(f"entities must be a list of {{{kind}, text}}")
    return tuple(Entry(str(v.get(kind) or v.get("signal") or v.get("type") or "entity"), v["text"]) for v in values)
