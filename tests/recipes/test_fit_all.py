"""One run of every fit: what was done is left out, what has changed is done again."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from rich.console import Console

from asr.errors import ModelError
from recipes.fit_all import Step, figures, run, steps


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for folder in ("sets", "lists", "logs", "done"):
        (tmp_path / folder).mkdir()
    return tmp_path


def test_every_step_is_a_command_that_there_is(tmp_path: Path) -> None:
    planned = steps(tmp_path, tmp_path, tmp_path, small=False)
    modules = {command[0] for step in planned for command in step.commands}
    assert all(importlib.util.find_spec(module) for module in modules) and len(modules) >= 7
    assert len({step.name for step in planned}) == len(planned)
    without = steps(tmp_path, tmp_path, None, small=True)
    assert not any("kokoro" in word or "piper" in word for s in without for c in s.commands for word in c)


def test_a_step_that_has_run_is_left_out_unless_it_or_one_before_it_changed(work: Path) -> None:
    console = Console(quiet=True)
    first, other = Step("a", (("this",),)), Step("a", (("this",), ("this",)))
    key = run(first, work, "", console)
    log = work / "logs" / "a.txt"
    assert "Zen of Python" in log.read_text()
    log.write_text("kept")
    assert run(first, work, "", console) == key and log.read_text() == "kept"
    assert run(first, work, "an earlier step's", console) != key and log.read_text() != "kept"
    assert run(other, work, "", console) != key
    assert "## a" in figures(work, [other]) and figures(work, [other]).count("Zen of Python") == 2


def test_a_step_that_fails_says_where_its_output_is_and_runs_again(work: Path) -> None:
    console = Console(quiet=True)
    broken = Step("b", (("this",), ("no_such_module",)))
    for _ in range(2):
        with pytest.raises(ModelError, match=r"step b failed.*b\.txt"):
            run(broken, work, "", console)
    assert not (work / "done" / "b").exists()
