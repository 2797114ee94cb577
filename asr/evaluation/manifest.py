"""Reads manifests (JSON Lines, also gzipped) and the audio that they name: files, or members of tar shards."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr.context.types import Context, Entry, Turn
from asr.errors import ManifestError
from asr.text import normalize

SPEAKERS = ("user", "system")


@dataclass(frozen=True)
class AudioPlace:
    """Where an utterance's audio is: a file, or a member of an uncompressed tar file (a shard)."""

    path: Path
    member: str | None = None


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


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used: its number in the file, from 1, and what to change."""

    line: int
    reason: str


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The JSON object of each line with its number, blank lines left out; a Problem where there is none.

    Raises:
        ManifestError: the file cannot be opened or is neither UTF-8 text nor gzip.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _parse(number, line)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 JSON Lines, or damaged"
        raise ManifestError(f"{path}: {why}") from error


def _parse(number: int, line: str) -> dict[str, Any] | Problem:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Problem(number, "not JSON; write one object a line")
    return value if isinstance(value, dict) else Problem(number, "not a JSON object; write {...} on each line")


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


def parse_audio(value: dict[str, Any], folder: Path) -> AudioPlace:
    """`audio: {path}`, `audio: {shard, member}`, or the same fields on the line itself."""
    audio = value.get("audio", value)
    if isinstance(audio, dict) and isinstance(audio.get("path"), str):
        return AudioPlace(folder / audio["path"])
    if isinstance(audio, dict) and isinstance(audio.get("shard"), str) and isinstance(audio.get("member"), str):
        return AudioPlace(folder / audio["shard"], audio["member"])
    raise ManifestError("audio names no file; give {path} or {shard, member}")


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
    """`[{KIND: ..., text}]`."""
    if not isinstance(values, list) or not all(isinstance(v, dict) and isinstance(v.get("text"), str) for v in values):
        raise ManifestError(f"entities must be a list of {{{kind}, text}}")
    return tuple(Entry(str(v.get(kind) or "entity"), v["text"]) for v in values)


class AudioReader:
    """Bytes of the audio that a manifest names; keeps the index of each shard. Close it, or use it with `with`."""

    def __init__(self) -> None:
        self._shards: dict[Path, tarfile.TarFile] = {}

    def read(self, place: AudioPlace) -> bytes:
        """
        Raises:
            ManifestError: there is no such file or member.
        """
        try:
            if place.member is None:
                return place.path.read_bytes()
            if place.path not in self._shards:
                self._shards[place.path] = tarfile.open(place.path, "r:")  # noqa: SIM115 - close() closes it
            member = self._shards[place.path].extractfile(place.member)
        except KeyError as error:
            raise ManifestError(f"shard {place.path.name} has no member {place.member}") from error
        except (OSError, tarfile.TarError) as error:
            raise ManifestError(f"audio file {place.path.name} cannot be read: {type(error).__name__}") from error
        if member is None:
            raise ManifestError(f"shard {place.path.name}: member {place.member} is no file")
        return member.read()

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards.clear()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
