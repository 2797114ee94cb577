"""The cache is bounded, keeps tenants and dialogues apart, and knows which context applies to which turn."""

from __future__ import annotations

from asr.decoding import BoostedPhrase
from asr.recognition.recognizer import Recognizer
from context_store import DialogueId
from server.embedding_cache import TURNS_PER_DIALOGUE, EmbeddingCache, State, TurnContext


def context(dialogue: str, turn: str, order: int, tenant: str = "a", state: State = State.READY) -> TurnContext:
    made = TurnContext(
        DialogueId(tenant, dialogue), turn, 1, (float(order), turn), expires_s=100.0, stored_until=200, tick=order
    )
    made.enter(State.TRIGGERED, 1.0)
    made.enter(state, 2.0)
    return made


def test_the_latest_context_that_is_not_the_turns_own() -> None:
    cache, dialogue = EmbeddingCache(8, 0), DialogueId("a", "d")
    for turn, order in (("1", 1), ("3", 3), ("2", 2)):
        cache.put(context("d", turn, order))
    assert cache.latest(dialogue, besides="4").turn == "3"  # type: ignore[union-attr]
    assert cache.latest(dialogue, besides="3").turn == "2"  # type: ignore[union-attr]
    assert cache.latest(DialogueId("b", "d")) is None
    assert cache.get(DialogueId("b", "d"), "1") is None


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = EmbeddingCache(2, 0)
    for i, name in enumerate("xyz"):
        cache.put(context(name, "1", i))
        cache.latest(DialogueId("a", "x"))
    assert len(cache) == 2
    assert cache.latest(DialogueId("a", "y")) is None
    assert cache.latest(DialogueId("a", "x")) is not None


def test_a_dialogues_old_turns_go() -> None:
    cache = EmbeddingCache(2, 0)
    for i in range(TURNS_PER_DIALOGUE + 3):
        cache.put(context("d", str(i), i))
    assert sorted(int(c.turn) for c in cache) == list(range(3, TURNS_PER_DIALOGUE + 3))


def test_forget() -> None:
    cache, dialogue = EmbeddingCache(8, 0), DialogueId("a", "d")
    cache.put(context("d", "1", 1))
    cache.put(context("d", "2", 5))
    cache.put(context("e", "1", 1))
    cache.put(context("d", "3", 2))
    cache.forget_turns(dialogue, besides={"3"}, before=3)
    assert [c.turn for c in cache if c.dialogue == dialogue] == ["2", "3"]
    cache.forget(dialogue)
    assert [c.dialogue.id for c in cache] == ["e"]


def test_expiry_lets_go_of_the_embedding() -> None:
    ready = context("d", "1", 1)
    ready.embedding = object()  # type: ignore[assignment]
    assert not ready.expire(99.9)
    assert ready.embedding is not None
    assert ready.expire(100.0)
    assert (ready.state, ready.embedding) == (State.EXPIRED, None)
    assert not context("d", "1", 1, state=State.FAILED).expire(1e9)


def test_graphs_past_the_bound_go_and_contexts_stay(tiny_recognizer: Recognizer) -> None:
    graph = tiny_recognizer.compile([BoostedPhrase("meg bauer")])
    cache = EmbeddingCache(8, 2 * graph.bytes)
    for i, name in enumerate("xyz"):
        made = context(name, "1", i)
        made.graph = graph
        cache.put(made)
    cache.latest(DialogueId("a", "x"))
    cache.bound_graphs()
    assert {c.dialogue.id: c.graph is not None for c in cache} == {"x": True, "y": False, "z": True}
