"""The order, the life and the erasure of dialogues, over two replicas and one store, as one state machine.

`player` does the steps and checks them, `model` says what may be; `soak` plays the same steps for hours.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.dialogues.player import RULES, Player, Step, Tally
from tests.dialogues.rig import Rig, rig

EXAMPLES, STEPS = 24, 50
SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),  # `soak` looks for fewer steps
    suppress_health_check=[*HealthCheck],
)


@pytest.fixture(scope="module")
def replicas() -> Iterator[Rig]:
    """They live on from example to example; only their rules restart them."""
    with rig() as running:
        yield running


@pytest.fixture
def _quiet() -> Iterator[None]:
    """What is broken on purpose is logged by the thousand."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Steps, each rule's as often as its weight says."""
    rule = draw(st.sampled_from([name for name, rule in RULES.items() for _ in range(rule.weight)]))
    return Step(rule, tuple((name, draw(st.sampled_from(values))) for name, values in RULES[rule].choices.items()))


class Dialogues(RuleBasedStateMachine):
    """One example: some dialogues from their beginning."""

    numbers = itertools.count()

    def __init__(self, replicas: Rig, tally: Tally) -> None:
        super().__init__()
        self.player = Player(replicas, f"machine-{next(self.numbers)}", tally)

    @rule(step=steps())
    def step(self, step: Step) -> None:
        """One of `player.RULES`."""
        self.player.do(step)

    def teardown(self) -> None:
        self.player.finish()


@pytest.mark.slow
@pytest.mark.usefixtures("_quiet")
def test_no_context_is_foreign_stale_expired_erased_or_missing(replicas: Rig) -> None:
    tally = Tally()
    run_state_machine_as_test(partial(Dialogues, replicas, tally), settings=SETTINGS)  # type: ignore[arg-type]
    assert sum(tally.rules.values()) >= EXAMPLES * STEPS / 2
    assert tally.rules.keys() == RULES.keys()
    assert tally.had_to_apply >= EXAMPLES
