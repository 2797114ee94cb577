"""Text files, plain or gzipped, read line by line; JSON Lines read and written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from asr.errors import ManifestError


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used: its number in the file, from 1, and what to change."""

    line: int
    reason: str


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, without their ends; a name that ends in .gz is a gzipped file.

    Raises:
        ManifestError: the file cannot be opened or is neither UTF-8 text nor gzip.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text lines, or damaged"
        raise ManifestError(f"{path}: {why}") from error


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """The JSON object of each line with its number, blank lines left out; a Problem where there is none.

    Raises:
        ManifestError: as `text_lines`.
    """
    for number, line in enumerate(text_lines(path), 1):
        if line.strip():
            yield number, _parse(number, line)


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON object of each line of a file that has to be whole.

    Raises:
        ManifestError: as `text_lines`, or a line that is no JSON object.
    """
    for number, value in read_lines(path):
        if isinstance(value, Problem):
            raise ManifestError(f"{path}, line {number}: {value.reason}")
        yield value


def write_objects(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """One object a line, gzipped where the name ends in .gz; the same objects give the same bytes.

    The file appears whole or not at all.
    """
    part = path.with_name(path.name + ".part")
    with part.open("wb") as raw:
        file = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with TextIOWrapper(file, encoding="utf-8") as lines:
            lines.writelines(json.dumps(value) + "\n" for value in values)
    part.replace(path)


def _parse(number: int, line: str) -> dict[str, Any] | Problem:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return Problem(number, "not JSON; write one object a line")
    return value if isinstance(value, dict) else Problem(number, "not a JSON object; write {...} on each line")
