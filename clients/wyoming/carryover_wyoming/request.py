"""What a `transcribe` event asks for, checked, as options of a stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carryover import Endpointing
from carryover_wyoming.conversations import Place
from carryover_wyoming.names import Names, request_names

SILENCES_S: Mapping[object, float] = {"aggressive": 0.25, "default": 0.7, "relaxed": 1.25}
"""Silence that ends a command, by `vad_sensitivity`: Home Assistant's own."""

NO_SPEECH_S = 15.0
"""Where the server ends commands: time without speech that ends one, as Home Assistant has it."""


class RequestError(Exception):
    """A request cannot be honoured. The message says what to send."""


@dataclass(frozen=True)
class Request:
    """How the next recording is to be recognised."""

    names: Names = field(default_factory=Names)
    """Of the request itself."""
    place: Place | None = None
    """The dialogue and turn that it names."""
    sensitivity: str | None = None
    """How soon silence ends the command; None: the client ends it."""

    @property
    def endpointing(self) -> Endpointing | None:
        """When utterances end; None: as the server is set."""
        if self.sensitivity is None:
            return None
        silence_s = SILENCES_S[self.sensitivity]
        return Endpointing(min(silence_s, 0.4), silence_s, NO_SPEECH_S)


def request_of(data: Mapping[str, Any], *, ends_itself: bool, most_characters: int) -> Request:
    """The request of a `transcribe` event's data.

    Args:
        ends_itself: whether the end of a command is found here where the request does not say.
        most_characters: longer names are left out.

    Raises:
        RequestError: another language, or an unknown sensitivity.
    """
    language = data.get("language")
    if isinstance(language, str) and language and language.replace("_", "-").split("-")[0].lower() != "en":
        raise RequestError(f"language: {language[:16]!r} is not recognised here; send en")
    sensitivity = data.get("vad_sensitivity") or ("default" if ends_itself else None)
    if sensitivity is not None and not (isinstance(sensitivity, str) and sensitivity in SILENCES_S):
        raise RequestError(f"vad_sensitivity: send {', '.join(map(str, SILENCES_S))}, or nothing")
    names = Names(request_names(data.get("transcript_names"), data.get("transcript_terms")), most_characters)
    return Request(names, _place(data.get("context")), sensitivity)


def _place(context: object) -> Place | None:
    fields = context if isinstance(context, Mapping) else {}
    dialogue, turn = fields.get("dialogue_id"), fields.get("turn_id")
    if not dialogue and not turn:
        return None
    if not isinstance(dialogue, str) or not dialogue or not isinstance(turn or "", str):
        raise RequestError("context: send dialogue_id and turn_id as strings, or neither")
    return Place(dialogue, turn or "")
