"""The model by itself: what may, must and must not be."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.dialogues.model import CONTEXT_TTL_S, STORE_TTL_S, Asked, FaultError, Key, Model, Turn

KEY, OTHER = Key("acme", "one"), Key("umbra", "one")


class Story:
    """A model that is told what happens, one thing after the other."""

    def __init__(self) -> None:
        self.model = Model()
        self._names = itertools.count()

    def record(self, *kinds: str, key: Key = KEY, turn: Turn | None = None, acknowledged: bool = True) -> Turn:
        """Events of a turn, or of a new one."""
        found = turn or self.model.turn(key, -1, lambda: f"t{next(self._names)}")
        assert found is not None
        events = self.model.add(found, kinds, lambda: f"w{next(self._names)}")
        self.model.begin(events)
        if acknowledged:
            self.model.acknowledge(events)
        return found

    def asked(self, own: str = "own", replica: int = 0) -> Asked:
        moment = self.model.tick()
        return Asked(KEY, own, moment, replica, moment)

    def erase(self, key: Key = KEY, replica: int = 0) -> None:
        self.model.begin_erasure(key)
        self.model.erased(key, replica)


def words(*turns: Turn) -> Sequence[str]:
    return [word for turn in turns for event in turn.events for word in event.words]


@pytest.fixture
def story() -> Story:
    return Story()


def fault_of(story: Story, used: Sequence[str], asked: Asked, made_for: Turn) -> str:
    with pytest.raises(FaultError) as caught:
        story.model.check_words(used, asked, made_for.id)
    return caught.value.kind


def test_the_newest_turn_that_expects_speech_has_to_apply(story: Story) -> None:
    first = story.record("entities", "expect_speech")
    second = story.record("entities", "expect_speech")
    story.record("entities", turn=first)  # late
    story.record("entities")  # expects nothing
    asked = story.asked()
    assert story.model.must(asked) is second
    story.model.check_words(words(first, second), asked, second.id)
    assert fault_of(story, words(first), asked, first) == "stale"
    assert story.model.must(story.asked(own=second.id)) is first


def test_a_context_has_what_was_recorded_before_it_was_made(story: Story) -> None:
    first = story.record("entities")
    second = story.record("entities", "expect_speech")
    before = words(first, second)
    story.record("utterance", turn=first)
    assert story.model.required(second) == {*before}


def test_words_of_others_of_newer_turns_and_of_no_one(story: Story) -> None:
    foreign = story.record("entities", "expect_speech", key=OTHER)
    mine = story.record("entities", "expect_speech")
    newer = story.record("entities")
    asked = story.asked()
    assert fault_of(story, words(foreign), asked, mine) == "foreign"
    assert fault_of(story, ["unheard"], asked, mine) == "foreign"
    assert fault_of(story, words(mine, newer), asked, mine) == "order"
    assert fault_of(story, words(mine), story.asked(own=mine.id), mine) == "own"


def test_an_erasure_counts_for_what_is_asked_after_it(story: Story) -> None:
    turn = story.record("entities", "expect_speech")
    before = story.asked(replica=1)
    story.erase(replica=0)
    story.model.check_words(words(turn), before, turn.id)  # another replica's utterance had begun
    after = story.asked(replica=1)
    assert story.model.must(after) is None
    assert fault_of(story, words(turn), after, turn) == "erased"
    with pytest.raises(FaultError, match="holds it"):
        story.model.check_held(words(turn), KEY, 0, swept=0.0)
    story.model.check_held(words(turn), KEY, 1, swept=0.0)
    with pytest.raises(FaultError, match="holds it"):
        story.model.check_held(words(turn), KEY, 1, swept=story.model.tick())


def test_time_ends_contexts_and_turns(story: Story) -> None:
    turn = story.record("entities", "expect_speech")
    story.model.now_s = CONTEXT_TTL_S + 60
    asked = story.asked()
    assert story.model.must(asked) is None
    assert fault_of(story, words(turn), asked, turn) == "expired"
    with pytest.raises(FaultError):
        story.model.check_status("NOT_READY", asked, well=True)
    story.model.check_status("EXPIRED", asked, well=True)
    story.model.now_s = STORE_TTL_S + 60.0
    again = story.model.turn(KEY, -2, lambda: "unused")
    assert again is not None
    assert again is not turn
    assert again.id == turn.id


def test_what_was_not_acknowledged_may_be_or_not(story: Story) -> None:
    sure = story.record("entities", "expect_speech")
    unsure = story.record("entities", "expect_speech", acknowledged=False)
    asked = story.asked()
    assert story.model.must(asked) is None
    story.model.check_words(words(sure), asked, sure.id)
    story.model.check_words(words(sure, unsure), asked, unsure.id)


def test_a_context_that_is_there_is_not_called_absent(story: Story) -> None:
    story.record("expect_speech")
    for status in ("NOT_FOUND", "EXPIRED"):
        with pytest.raises(FaultError, match="missing"):
            story.model.check_status(status, story.asked(), well=False)
    story.model.check_status("NOT_READY", story.asked(), well=False)
