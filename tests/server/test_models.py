"""The models that a server loads."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest

from asr.fitted import ModelVersions, UnfittedWarning
from server import app
from server.settings import load_settings


def test_models_that_nothing_was_fitted_to_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: dict[str, Any] = {}

    class Loaded:
        models = ModelVersions("a-1")

        @classmethod
        def load(cls, *_: object, **options: object) -> Loaded:
            asked.update(options)
            warnings.warn("never fitted to a-1", UnfittedWarning, stacklevel=2)
            return cls()

    class Silent:
        encoder = rescorer = None

        @classmethod
        def load(cls, *_: object) -> Silent:
            return cls()

    monkeypatch.setattr(app, "Recognizer", Loaded)
    monkeypatch.setattr(app, "ContextModels", Silent)
    monkeypatch.setattr(logging.getLogger("carryover"), "propagate", True)
    with caplog.at_level(logging.WARNING, "carryover"):
        app.load_parts(load_settings(flags={"model.fitted": "mine.json"}, environ={}), None)  # type: ignore[arg-type]
    assert str(asked["fitted"]) == "mine.json"
    assert [(r.getMessage(), r.fields["what"]) for r in caplog.records] == [  # type: ignore[attr-defined]
        ("models_not_fitted", "never fitted to a-1")
    ]
