"""Where a manifest's audio is, and its bytes: files, or members of tar shards."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import ManifestError


@dataclass(frozen=True)
class AudioPlace:
    """Where an utterance's audio is: a file, or a member of an uncompressed tar file (a shard)."""

    path: Path
    member: str | None = None


def parse_audio(value: dict[str, Any], folder: Path) -> AudioPlace:
    """`audio: {path}`, `audio: {shard, member}`, the same fields on the line itself, or `audio: path`.

    Raises:
        ManifestError: neither is there.
    """
    audio = value.get("audio", value)
    if isinstance(audio, str):
        audio = {"path": audio}
    if isinstance(audio, dict) and isinstance(audio.get("path"), str):
        return AudioPlace(folder / audio["path"])
    if isinstance(audio, dict) and isinstance(audio.get("shard"), str) and isinstance(audio.get("member"), str):
        return AudioPlace(folder / audio["shard"], audio["member"])
    raise ManifestError(
        'audio names no file: give "path": "u1.wav", or "shard": "part-00.tar" with "member": "u1.opus"'
    )


class AudioReader:
    """Bytes of the audio that a manifest names; keeps the index of each shard. Close it, or use it with `with`."""

    def __init__(self) -> None:
        self._shards: dict[Path, tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]] = {}

    def read(self, place: AudioPlace) -> bytes:
        """The bytes of a recording. Raises ManifestError where there is no such file or member."""
        try:
            if place.member is None:
                return place.path.read_bytes()
            shard, members = self._shard(place.path)
            member = shard.extractfile(members[place.member])
        except KeyError as error:
            raise ManifestError(f"shard {place.path.name} has no member {place.member}") from error
        except (OSError, tarfile.TarError) as error:
            raise ManifestError(f"audio file {place.path.name} cannot be read: {type(error).__name__}") from error
        if member is None:
            raise ManifestError(f"shard {place.path.name}: member {place.member} is no file")
        return member.read()

    def _shard(self, path: Path) -> tuple[tarfile.TarFile, dict[str, tarfile.TarInfo]]:
        if path not in self._shards:
            shard = tarfile.open(path, "r:")  # noqa: SIM115 - close() closes it
            self._shards[path] = shard, {member.name: member for member in shard}
        return self._shards[path]

    def close(self) -> None:
        """Close the shards."""
        for shard, _ in self._shards.values():
            shard.close()
        self._shards.clear()

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
