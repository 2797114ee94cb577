"""Checks of single fields: each names the field and says what to change."""

from __future__ import annotations

import unicodedata

from context_store import DialogueId
from context_store.validation import check_name
from server.errors import InvalidRequestError, LimitError
from server.settings import Limits


def required_dialogue(tenant: str, dialogue_id: str) -> DialogueId:
    """The tenant's dialogue of a request that must name one. Raises InvalidEventError."""
    return DialogueId(tenant, check_name("dialogue_id", dialogue_id))


def dialogue_and_turn(tenant: str, dialogue_id: str, turn_id: str) -> tuple[DialogueId | None, str]:
    """Both ids checked, where they are set. Raises InvalidRequestError, InvalidEventError."""
    if turn_id and not dialogue_id:
        raise InvalidRequestError("dialogue_id", "is required when turn_id is set")
    return (required_dialogue(tenant, dialogue_id) if dialogue_id else None), optional_turn(turn_id)


def optional_turn(turn_id: str) -> str:
    """The id of a turn, "": none is named. Raises InvalidEventError."""
    return check_name("turn_id", turn_id) if turn_id else ""


def check_text(field: str, text: str, limits: Limits) -> str:
    """What was said, or may have been. Raises LimitError."""
    if len(text) > limits.text_characters:
        advice = f"{len(text)} characters; send at most {limits.text_characters}"
        raise LimitError("text_characters", advice, field=field)
    return text


def check_phrase(field: str, phrase: str, limits: Limits) -> str:
    """A phrase, or an entry. Raises LimitError."""
    if len(phrase) > limits.phrase_characters:
        advice = f"{len(phrase)} characters; send at most {limits.phrase_characters}"
        raise LimitError("phrase_characters", advice, field=field)
    return phrase


def has_control(text: str) -> bool:
    """Is there a control character or a line separator, which no name may hold?"""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text)
