"""Structured logs: one JSON object a line on standard error, without any user text.

Only names, numbers, states and error types are logged; ids of dialogues appear as a short hash. An exception is logged
as its type and the lines of code it passed, never with its message, which may quote what a user said.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import time
import traceback
from contextvars import ContextVar
from typing import Any

from server import tracing

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the call that the current task serves."""

_NOTES: ContextVar[dict[str, Any] | None] = ContextVar("notes", default=None)
_LOGGER = logging.getLogger("carryover")


def configure(level: str = "INFO") -> None:
    """Send the server's logs to standard error.

    Of libraries' logs, from WARNING on, only the logger's name is kept: their messages may quote requests.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(level)
    _LOGGER.propagate = False
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)


def event(name: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log one event.

    Args:
        name: what happened.
        fields: numbers, states and type names; no text of a user.
    """
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, name, extra={"fields": fields})


def begin_call(request_id: str) -> dict[str, Any]:
    """Start and return the notes of the current task's call, which `note` adds to: fields of its one log line."""
    notes: dict[str, Any] = {}
    REQUEST_ID.set(request_id)
    _NOTES.set(notes)
    return notes


def note(**fields: Any) -> None:
    """Add fields to the log line of the call that the current task serves. No text of a user."""
    notes = _NOTES.get()
    if notes is not None:
        notes.update(fields)


def failure(name: str, error: BaseException, **fields: Any) -> None:
    """Log an error with where it happened, without its message."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in frames]
    event(name, level=logging.ERROR, error=type(error).__name__, at=places, **fields)


def short_hash(text: str) -> str:
    """12 hex digits that stand for an id in logs."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ours = record.name == _LOGGER.name
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "event": record.getMessage() if ours else "library_warning",
        }
        if not ours:
            line["logger"] = record.name
        if REQUEST_ID.get():
            line["request_id"] = REQUEST_ID.get()
        if trace_id := tracing.trace_id():
            line["trace_id"] = trace_id
        line.update(getattr(record, "fields", {}))
        return json.dumps(line, default=str)
