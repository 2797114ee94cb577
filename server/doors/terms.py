"""What doors have in common: checks of fields, and errors in a protocol's own names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from context_store import InvalidEventError
from server.codec.recognition import MAX_BOOST
from server.errors import InvalidRequestError

LANGUAGE = "en-US"
"""What is recognised, as other protocols name it."""


@contextmanager
def in_terms(names: Mapping[str, str]) -> Iterator[None]:
    """Around what may raise InvalidRequestError: a field of `carryover.v1` is told by its name in another protocol.

    Args:
        names: those names, by the name here.
    """
    try:
        yield
    except InvalidRequestError as error:
        if error.field not in names:
            raise
        raise InvalidRequestError(names[error.field], error.advice) from None
    except InvalidEventError as error:  # of an id
        field, _, advice = str(error).partition(": ")
        if field not in names:
            raise
        raise InvalidRequestError(names[field], advice) from None


def check_english(field: str, code: str) -> None:
    """Raise InvalidRequestError for a language that is not recognised; unset ("") is English."""
    if code and code.replace("_", "-").split("-")[0].lower() != "en":
        raise InvalidRequestError(field, "only English is recognised here; send en-US, another en- code, or nothing")


def nats(field: str, boost: float) -> float | None:
    """A boost as `SpeechContext.boost` takes it: 0 is unset, more than the most is the most.

    Raises:
        InvalidRequestError: it is negative or no number.
    """
    if math.isnan(boost) or boost < 0:
        raise InvalidRequestError(field, f"send a number from 0 to {MAX_BOOST:g}; phrases cannot be made unlikelier")
    return min(boost, MAX_BOOST) or None


def refuse(field: str, is_set: bool, advice: str) -> None:
    """Raise InvalidRequestError where a field that cannot be honoured is set."""
    if is_set:
        raise InvalidRequestError(field, advice)
