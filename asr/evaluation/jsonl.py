"""Text files, plain or gzipped, read line by line; JSON Lines read and written."""

from __future__ import annotations

import errno
import gzip
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, Literal

from asr.errors import ManifestError


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used: its number in the file, from 1, and what to change."""

    line: int
    reason: str


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 text file, without their ends; a name in .gz is a gzipped file, "-" standard input.

    Raises:
        ManifestError: the file cannot be opened or is neither UTF-8 text nor gzip.
    """
    try:
        with _open(path, "rt", sys.stdin) as lines:
            for line in lines:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text lines, or damaged"
        raise ManifestError(f"{path}: {why}") from error


def text_output(path: Path) -> AbstractContextManager[IO[str]]:
    """A UTF-8 text file to write to, opened at once; a name that ends in .gz is gzipped, "-" is standard output.

    Raises:
        OSError: it cannot be written.
    """
    if str(path) != "-":
        check_folder(path)
    return _open(path, "wt", sys.stdout)


def check_folder(path: Path) -> None:
    """Look whether there is a folder for a file that is to be written. Raises FileNotFoundError, which names it."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}; make it first", str(path))


def _open(path: Path, mode: Literal["rt", "wt"], standard: IO[str]) -> AbstractContextManager[IO[str]]:
    if str(path) == "-":
        return nullcontext(standard)
    encoding = "utf-8-sig" if mode == "rt" else "utf-8"  # some editors begin a file with a byte order mark
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding=encoding)
    return path.open(mode, encoding=encoding)


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
