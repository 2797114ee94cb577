"""What doors have in common: checks of fields, and errors in a protocol's own names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from carryover.v1 import recognizer_pb2 as pb
from context_store import InvalidEventError
from server.codec.recognition import MAX_BOOST, SILENCE_S
from server.errors import InvalidRequestError, LimitError

LANGUAGE = "en-US"
"""What is recognised, as other protocols name it."""


@contextmanager
def in_terms(names: Mapping[str, str]) -> Iterator[None]:
    """Around what may raise errors of a field: one of `carryover.v1` is told by its name in another protocol.

    Args:
        names: those names, by the name here. A list's is that of its elements too, without their `[index]`.
    """
    try:
        yield
    except LimitError as error:
        if error.field is None or (name := _term(error.field, names)) is None:
            raise
        raise LimitError(error.limit, error.advice, error.retry_ms, name) from None
    except InvalidRequestError as error:
        if error.field not in names:
            raise
        raise InvalidRequestError(names[error.field], error.advice) from None
    except InvalidEventError as error:  # of an id
        field, _, advice = str(error).partition(": ")
        if field not in names:
            raise
        raise InvalidRequestError(names[field], advice) from None


def _term(field: str, names: Mapping[str, str]) -> str | None:
    """The name of a field, or of a list's element; None: there is none."""
    if field in names:
        return names[field]
    of, bracket, index = field.rpartition("[")
    return f"{names[of]}[{index}" if bracket and of in names else None


def silence(field: str, milliseconds: float | None) -> pb.Endpointing:
    """Endpointing where the silence that ends an utterance is given in milliseconds; None: it is not.

    Raises:
        InvalidRequestError: it is too short or too long.
    """
    least, most = (1000 * seconds for seconds in SILENCE_S)
    if milliseconds is not None and not least <= milliseconds <= most:
        raise InvalidRequestError(field, f"send {least:g} to {most:g} ms of silence, or leave it out")
    return pb.Endpointing(trailing_silence_s=None if milliseconds is None else milliseconds / 1000)


def check_english(field: str, code: str) -> None:
    """Raise InvalidRequestError for a language that is not recognised; unset ("") is English, and so is its name."""
    if code and code.replace("_", "-").split("-")[0].lower() not in ("en", "english"):
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
