"""The cache is bounded, keeps tenants and dialogues apart, and knows which context applies to which turn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from asr.context.bundle import ContextBundle, build_bundle
from asr.context.types import ContextEmbedding
from asr.decoding import BoostedPhrase, PhraseGraph
from asr.recognition.recognizer import Recognizer
from context_store import DialogueId
from server.contexts.cache import TURNS_PER_DIALOGUE, ContextCache, State, TurnContext


def context(dialogue: str, turn: str, order: int, tenant: str = "a", state: State = State.READY) -> TurnContext:
    made = TurnContext(
        DialogueId(tenant, dialogue), turn, 1, (order, 0.0, turn), expires_s=100.0, stored_until=200, tick=order
    )
    made.enter(State.TRIGGERED, 1.0)
    made.enter(state, 2.0)
    return made


def bundle(graph: PhraseGraph | None = None) -> ContextBundle:
    embedding = ContextEmbedding(np.zeros((0, 4), np.float32), np.zeros(4, np.float32), (), "none", "v")
    return replace(build_bundle(embedding, lambda phrases: None), graph=graph)


def test_the_latest_context_that_is_not_the_turns_own() -> None:
    cache, dialogue = ContextCache(8, 0), DialogueId("a", "d")
    for turn, order in (("1", 1), ("3", 3), ("2", 2)):
        cache.put(context("d", turn, order))
    assert cache.latest(dialogue, besides="4").turn == "3"  # type: ignore[union-attr]
    assert cache.latest(dialogue, besides="3").turn == "2"  # type: ignore[union-attr]
    assert cache.latest(DialogueId("b", "d")) is None
    assert cache.get(DialogueId("b", "d"), "1") is None


def test_a_dialogue_with_an_open_stream_is_in_use() -> None:
    """However many other dialogues' contexts are made while it speaks."""
    cache, dialogue = ContextCache(2, 0), DialogueId("a", "x")
    cache.put(context("x", "1", 0))
    pushed: list[TurnContext | None] = []
    with cache.pushing(dialogue, "2", pushed.append):
        for i in range(1, 6):
            cache.put(context(f"y{i}", "1", i))
        cache.evict_stale_generations(dialogue, "", before=9)
        assert pushed[-1] is not None and cache.latest(dialogue) is pushed[-1]
    cache.put(context("z", "1", 7))
    cache.put(context("zz", "1", 8))
    assert cache.latest(dialogue) is None


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = ContextCache(2, 0)
    for i, name in enumerate("xyz"):
        cache.put(context(name, "1", i))
        with cache.pushing(DialogueId("a", "x"), "2", lambda context: None):
            pass
    assert len(cache) == 2
    assert cache.latest(DialogueId("a", "y")) is None
    assert cache.latest(DialogueId("a", "x")) is not None


def test_a_dialogues_old_turns_go() -> None:
    cache = ContextCache(2, 0)
    for i in range(TURNS_PER_DIALOGUE + 3):
        cache.put(context("d", str(i), i))
    assert sorted(int(c.turn) for c in cache) == list(range(3, TURNS_PER_DIALOGUE + 3))


def test_forget() -> None:
    cache, dialogue = ContextCache(8, 0), DialogueId("a", "d")
    cache.put(context("d", "1", 1))
    cache.put(context("e", "1", 1))
    assert [c.turn for c in cache.forget(dialogue)] == ["1"]
    assert [c.dialogue.id for c in cache] == ["e"]


def test_what_was_made_before_an_erasure_goes() -> None:
    """But for what may be of a generation that is newer still."""
    cache, dialogue = ContextCache(8, 0), DialogueId("a", "d")
    for turn, order, generation in (("1", 1, "old"), ("2", 2, "now"), ("3", 5, "newer")):
        cache.put(replace(context("d", turn, order), generation=generation))
    assert [c.turn for c in cache.evict_stale_generations(dialogue, "now", before=3)] == ["1"]
    assert [c.turn for c in cache] == ["2", "3"]
    assert [c.turn for c in cache.evict_stale_generations(dialogue, "", before=6)] == ["2", "3"]
    assert not len(cache)


def test_contexts_past_their_time_go_where_no_stream_is_open() -> None:
    cache = ContextCache(8, 0)
    cache.put(context("x", "1", 1))
    cache.put(context("y", "1", 1))
    cache.evict_unused(99.0)
    assert len(cache) == 2
    with cache.pushing(DialogueId("a", "x"), "2", lambda context: None):
        cache.evict_unused(100.0)
        assert [c.dialogue.id for c in cache] == ["x"]


def test_expiry_drops_the_bundle() -> None:
    ready = context("d", "1", 1)
    ready.bundle = bundle()
    assert not ready.expire(99.9)
    assert ready.bundle is not None
    assert ready.expire(100.0)
    assert (ready.state, ready.bundle) == (State.EXPIRED, None)
    assert not context("d", "1", 1, state=State.FAILED).expire(1e9)


def test_graphs_past_the_bound_go_and_contexts_stay(tiny_recognizer: Recognizer) -> None:
    graph = tiny_recognizer.compile([BoostedPhrase("meg bauer")])
    cache = ContextCache(8, 2 * graph.bytes)
    for i, name in enumerate("xyz"):
        made = context(name, "1", i)
        made.bundle = bundle(graph)
        cache.put(made)
    with cache.pushing(DialogueId("a", "x"), "2", lambda context: None):
        pass
    cache.bound_graphs()
    assert {c.dialogue.id: c.bundle is not None and c.bundle.graph is not None for c in cache} == {
        "x": True,
        "y": False,
        "z": True,
    }


def test_the_context_that_applies_is_pushed_whenever_it_is_another() -> None:
    cache, dialogue = ContextCache(8, 0), DialogueId("a", "d")
    pushed: list[str | None] = []

    def push(context: TurnContext | None) -> None:
        pushed.append(context.turn if context else None)

    def changes() -> list[str | None]:
        new, pushed[:] = pushed[:], []
        return new

    cache.put(context("d", "1", 1))
    with cache.pushing(dialogue, "9", push):
        assert changes() == ["1"]
        cache.put(context("d", "2", 2))
        assert changes() == ["2"]
        cache.put(context("d", "9", 9))  # a turn's own context is not for itself
        assert changes() == ["2"]
        cache.put(context("e", "1", 1))
        assert changes() == []
        cache.forget(dialogue)
        assert changes() == [None]
        cache.put(context("d", "3", 3))
        assert changes() == ["3"]
    cache.put(context("d", "4", 4))
    assert changes() == []
