"""Manifests of utterances with their contexts (JSON Lines, also gzipped)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from asr.context.types import MAX_ALIASES, WEIGHTS, Context, Entry, Turn
from asr.errors import ManifestError
from asr.evaluation.jsonl import Problem, read_lines
from asr.evaluation.recordings import AudioPlace, parse_audio
from asr.text import normalize

EXAMPLE = '{"id": "u1", "path": "u1.wav", "text": "bauer"}'
"""A line as short as it can be; shown where one cannot be used. docs/files.md has every field."""
CONTEXT_EXAMPLE = (
    '{"context": {"turns": [{"speaker": "user", "text": "call Meg"}], '
    '"entities": [{"signal": "contacts", "text": "Meg Bauer"}]}}'
)
SPEAKERS: dict[str, Literal["user", "system"]] = {"user": "user", "system": "system", "assistant": "system"}
"""Who says a turn, as lines may write it."""


@dataclass(frozen=True)
class Utterance:
    """A line of a manifest."""

    id: str
    audio: AudioPlace
    text: str
    """The reference, normalised."""
    set: str = ""
    """What kind of turn, or the corpus."""
    context: Context = field(default_factory=Context)
    dialogue: str = ""
    """What the bootstrap draws as one; the id where the manifest names none."""
    target: str | None = None
    """The entity that the answer means, normalised; "" where the manifest says that there is none; None where it does
    not say."""
    written: str = ""
    """As the manifest has it; "" where that is the same."""
    make: str = ""
    """Who made the recording (a synthesiser, a corpus), "" where it does not say."""

    @property
    def reference(self) -> str:
        """What hypotheses are scored against: as written, since that may be said in several ways."""
        return self.written or self.text


def read_manifests(
    paths: Sequence[Path], sets: Iterable[str] = (), limit: int | None = None
) -> tuple[list[Utterance], list[tuple[Path, Problem]]]:
    """The usable utterances of several manifests, and the lines that are not, each with its file.

    Arguments and errors as of `read_manifest`, for each of them; an id that an earlier manifest has is led by the
    manifest's name.
    """
    utterances: dict[str, Utterance] = {}
    problems: list[tuple[Path, Problem]] = []
    wanted = set(sets)
    for path in paths:
        found, unusable = read_manifest(path, wanted, limit)
        problems += [(path, problem) for problem in unusable]
        for u in found:
            name = f"{path.stem}/{u.id}" if u.id in utterances else u.id
            if name in utterances or paths.count(path) > 1:
                raise ManifestError(f"{path}: is given twice, or shares its name with another that has the same ids")
            utterances[name] = replace(u, id=name, dialogue=name if u.dialogue == u.id else u.dialogue)
    return list(utterances.values()), problems


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
    text = reference_of(value)
    if text is None:
        raise ManifestError(f"text is not a string: give the reference, as in {EXAMPLE}")
    target = value.get("target")
    return Utterance(
        id=required_text(value, "id"),
        audio=parse_audio(value, folder),
        text=normalize(text),
        set=str(value.get("set") or value.get("corpus") or ""),
        context=parse_context(value),
        dialogue=str(value.get("dialogue") or value["id"]),
        target=normalize(str(target or "")) if "target" in value else None,
        written=text,
        make=str(value.get("make") or ""),
    )


def reference_of(value: dict[str, Any]) -> str | None:
    """What was said, by whoever wrote the line: `text`, or `reference`; None where it does not say."""
    return next((value[key] for key in ("text", "reference") if isinstance(value.get(key), str)), None)


def required_text(value: dict[str, Any], name: str) -> str:
    """A field that must be a string with something in it."""
    text = value.get(name)
    if not isinstance(text, str) or not text:
        raise ManifestError(f"{name} is missing or no string: give it, as in {EXAMPLE}")
    return text


def parse_context(value: dict[str, Any]) -> Context:
    """The context of a line: `context: {turns, entities}`, or `context: [turns]` and `entities` on the line itself.

    All of them are optional. Raises ManifestError.
    """
    given = value.get("context") or {}
    if not isinstance(given, dict | list):
        raise ManifestError(f"context is no object and no list: give turns and entities, as in {CONTEXT_EXAMPLE}")
    inside = given if isinstance(given, dict) else {"turns": given}
    turns = parse_turns(inside.get("turns") or [])
    entries = [e for where in (inside, value) for e in parse_entries(where.get("entities") or [])]
    return Context(turns, tuple(entries))


def parse_turns(values: Any) -> tuple[Turn, ...]:
    """`[{speaker: "user"|"system", text}]`, oldest first; "assistant" is the system too."""
    if not isinstance(values, list) or not all(isinstance(v, dict) and isinstance(v.get("text"), str) for v in values):
        raise ManifestError(f"turns of the context must be a list of {{speaker, text}}, as in {CONTEXT_EXAMPLE}")
    speakers = [SPEAKERS.get(v["speaker"]) if isinstance(v.get("speaker"), str) else None for v in values]
    if None in speakers:
        raise ManifestError(f'speaker of a turn must be "user" or "system", as in {CONTEXT_EXAMPLE}')
    return tuple(Turn(s, v["text"]) for s, v in zip(speakers, values, strict=True) if s)


def parse_entries(values: Any) -> tuple[Entry, ...]:
    """`[{signal, text, id?, aliases?, weight?}]`; the signal (contacts, devices, …) may also stand under `type`."""
    if not isinstance(values, list) or not all(isinstance(v, dict) and isinstance(v.get("text"), str) for v in values):
        raise ManifestError(f"entities must be a list of {{signal, text}}, as in {CONTEXT_EXAMPLE}")
    return tuple(map(_entry, values))


def _entry(value: dict[str, Any]) -> Entry:
    aliases, weight = value.get("aliases") or [], value.get("weight", 1.0)
    if not isinstance(aliases, list) or not all(isinstance(a, str) for a in aliases) or len(aliases) > MAX_ALIASES:
        raise ManifestError(f"aliases of an entity must be a list of at most {MAX_ALIASES} names")
    least, most = WEIGHTS
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not least <= weight <= most:
        raise ManifestError(f"weight of an entity must be a factor from {least:g} to {most:g}")
    signal = str(value.get("signal") or value.get("type") or "entity")
    return Entry(signal, value["text"], str(value.get("id", "")), tuple(aliases), float(weight))
