"""The phrase graph alone: what texts gain, by example and against a scorer that reads words."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding import BoostedPhrase, PhraseCompiler, PhraseGraph, compile_phrases
from asr.decoding import phrase_graph as graph_module
from asr.decoding.automaton import UNIT, Pieces, build, encode
from asr.decoding.phrase_graph import MAX_LETTERS, MAX_WEIGHT, PER_TOKEN
from asr.text.tokenizer import Tokenizer
from tests.support.phrase_rules import TABLE, gained, vocabularies


def graph_of(tokenizer: Tokenizer, weights: dict[str, float]) -> PhraseGraph:
    return compile_phrases([BoostedPhrase(text, weight) for text, weight in weights.items()], tokenizer)


@pytest.mark.parametrize(("weights", "text", "bonus"), TABLE)
def test_what_a_text_gains(tiny_tokenizer: Tokenizer, weights: dict[str, float], text: str, bonus: float) -> None:
    graph = graph_of(tiny_tokenizer, weights)
    assert graph.bonus(tiny_tokenizer.encode(text)) == bonus


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("St. John", ["saint john", "st john"]),
        ("MTV", ["mtv", "m t v"]),
        ("Boeing 747", ["boeing seven forty seven", "boeing seven four seven", "boeing seven hundred and forty seven"]),
        ("the 90s", ["the nineties", "the nineteen nineties"]),
        ("$5.50", ["five dollars and fifty cents", "five fifty", "five dollars fifty"]),
        ("Dr. Smith", ["doctor smith", "dr smith"]),
        ("Mr. Jones", ["mister jones", "mr jones"]),
        ("Blink-182", ["blink one eighty two", "blink one hundred and eighty two"]),
        ("Simon & Garfunkel", ["simon and garfunkel", "simon n garfunkel"]),
        ("Kow\u00adalski", ["kowalski"]),
    ],
)
def test_a_phrase_matches_each_of_its_spoken_forms(tiny_tokenizer: Tokenizer, written: str, said: list[str]) -> None:
    phrase = BoostedPhrase(written, 3.0, "x")
    graph = compile_phrases([phrase], tiny_tokenizer)
    assert len(graph) == 1 and graph.accepted[0].signal == "x" and not graph.dropped
    for text in said:
        assert graph.bonus(tiny_tokenizer.encode(f"a {text} now")) == 3
        assert graph.spoken[text] == phrase


def test_phrases_of_one_form_make_the_graph_of_their_texts(tiny_tokenizer: Tokenizer) -> None:
    """Bit for bit: other forms cost nothing where there are none, and those of one phrase leave the others' grants."""
    names = ["meg bauer", "meg", "the kitchen light", "don't stop", "paris"]
    graph = graph_of(
        tiny_tokenizer, {"Meg Bauer": 5.0, "Meg": 2.0, "the kitchen light": 4.0, "Don't stop": 1.0, "Paris": 3}
    )
    letters, length = encode(names)
    alone = build(letters, length, np.array([5.0, 2, 4, 1, 3]), PER_TOKEN, Pieces(tiny_tokenizer))
    state = np.arange(len(alone.next))
    assert [p.text for p in graph.accepted] == names and set(graph.spoken) == set(names)
    assert np.array_equal(graph.gains(state), alone.gain * np.float32(UNIT))
    for token in range(tiny_tokenizer.vocab_size):
        assert np.array_equal(graph.advance(state, np.full(len(state), token))[1], alone.next[:, token])
    with_others = graph_of(tiny_tokenizer, {"Meg Bauer": 5.0, "Dr. Meg": 4.0})
    assert with_others.bonus(tiny_tokenizer.encode("meg bauer")) == 5


def test_other_forms_give_way_where_the_list_is_long(
    tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "MAX_CELLS", 56 * 120)
    graph = compile_phrases([BoostedPhrase(t) for t in ("mtv", "dvd", "u s b", "paris")], tiny_tokenizer)
    assert [p.text for p in graph.accepted] == ["mtv", "dvd", "u s b", "paris"] and not graph.dropped
    assert set(graph.spoken) == {"mtv", "dvd", "u s b", "paris", "m t v", "d v d"}


def test_a_form_of_two_phrases_belongs_to_the_phrase_whose_normal_form_it_is(tiny_tokenizer: Tokenizer) -> None:
    graph = graph_of(tiny_tokenizer, {"MTV": 2.0, "m t v": 3.0})
    assert graph.bonus(tiny_tokenizer.encode("m t v")) == 3 and graph.bonus(tiny_tokenizer.encode("mtv")) == 2
    assert graph.spoken["m t v"].text == "m t v"


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_graphs_agree_with_reading_the_words(tiny_tokenizer: Tokenizer, data: st.DataObject) -> None:
    word = st.sampled_from(data.draw(vocabularies))
    texts = st.lists(word, max_size=8).map(" ".join)
    phrases = st.lists(word, min_size=1, max_size=4).map(" ".join)
    weights = data.draw(st.dictionaries(phrases, st.sampled_from([-2.0, 0.5, 1.0, 3.0]), min_size=1, max_size=5))
    graph = graph_of(tiny_tokenizer, weights)
    assert {p.text: p.weight for p in graph.accepted} == weights and len(graph) == len(weights)
    for text in data.draw(st.lists(texts, min_size=1, max_size=4)):
        spelled = data.draw(spellings(tiny_tokenizer, text))
        assert tiny_tokenizer.decode(spelled) == text
        assert graph.bonus(spelled) == gained(weights, text)


@st.composite
def spellings(draw: st.DrawFn, tokenizer: Tokenizer, text: str) -> list[int]:
    """Any tokens that spell the text, not only SentencePiece's choice."""
    left, tokens = "".join("▁" + word for word in text.split()), []
    while left:
        fitting = [i for i, piece in enumerate(tokenizer.pieces) if piece and left.startswith(piece)]
        tokens.append(draw(st.sampled_from(fitting)))
        left = left[len(tokenizer.pieces[tokens[-1]]) :]
    return tokens


@settings(max_examples=60, deadline=None)
@given(tokens=st.lists(st.integers(1, 55), max_size=30), end=st.integers(0, 29))
def test_grants_are_taken_back_exactly(tiny_tokenizer: Tokenizer, tokens: list[int], end: int) -> None:
    """A search never holds more than the phrases' weights, and whatever it holds, the end settles it."""
    weights = {"meg bauer": 6.0, "meg": 2.5, "the lights": 4.0, "play good times": 7.0}
    graph = graph_of(tiny_tokenizer, weights)
    state, held = np.zeros(1, np.int64), 0.0
    for token in tokens[:end]:
        gains = graph.gains(state)
        assert gains.shape == (1, tiny_tokenizer.vocab_size) and gains[0, tiny_tokenizer.blank] == 0
        held += float(gains[0, token])
        state = graph.advance(state, np.array([token]))[1]
        assert 0 <= held <= (end + 1) * max(weights.values())
    assert held + float(graph.final(state)[0]) == graph.bonus(tokens[:end]) >= 0


def test_a_phrase_is_granted_as_it_is_spelled(tiny_tokenizer: Tokenizer) -> None:
    graph = graph_of(tiny_tokenizer, {"meg bauer": 8.0})
    spelled = [tiny_tokenizer.pieces.index(x) for x in "▁meg▁bauer"]
    state, steps = np.zeros(1, np.int64), []
    for token in spelled:
        steps.append(float(graph.gains(state)[0, token]))
        state = graph.advance(state, np.array([token]))[1]
    assert sum(steps) == 8 and all(0.5 < step < 1.1 for step in steps)
    assert float(graph.final(state)[0]) == 0
    in_word = tiny_tokenizer.pieces.index("s")
    assert float(graph.gains(state)[0, in_word]) == -8


def test_weights_have_a_range(tiny_tokenizer: Tokenizer) -> None:
    long = "play good times bad times and call meg bauer"
    graph = graph_of(tiny_tokenizer, {"a": 1000.0, long: 1000.0, "jack": -1000.0})
    weight = {p.text: p.weight for p in graph.accepted}
    tokens = tiny_tokenizer.encode("a")
    assert weight["a"] == PER_TOKEN * len(tokens)
    assert weight[long] == MAX_WEIGHT and weight["jack"] == -MAX_WEIGHT


def test_what_cannot_be_taken_is_dropped_with_a_reason(tiny_tokenizer: Tokenizer) -> None:
    phrases = [
        BoostedPhrase("Meg Bauer!", 3.0, "contacts"), BoostedPhrase("meg bauer", 5.0), BoostedPhrase("東京"),
        BoostedPhrase("jack", 0.0), BoostedPhrase("zoe", float("nan")), BoostedPhrase("so long " * MAX_LETTERS),
        BoostedPhrase("   "), BoostedPhrase("meg bauer", 1.0),
    ]  # fmt: skip
    graph = compile_phrases(phrases, tiny_tokenizer)
    assert graph.accepted == (BoostedPhrase("meg bauer", 5.0, ""),)
    reasons = [reason.split(":")[0] for _, reason in graph.dropped]
    assert reasons == [
        "listed before", "no words in it", "its weight must be finite and not 0", "its weight must be finite and not 0",
        f"longer than {MAX_LETTERS} letters", "no words in it", "listed before",
    ]  # fmt: skip


def test_letters_that_no_token_spells(tiny_tokenizer: Tokenizer) -> None:
    class NoZ(Tokenizer):
        def __init__(self, proto: bytes) -> None:
            super().__init__(proto)
            self.pieces = tuple("" if "z" in piece else piece for piece in self.pieces)

    graph = compile_phrases(
        [BoostedPhrase("zoe"), BoostedPhrase("zoe meg"), BoostedPhrase("meg")], NoZ(tiny_tokenizer.proto)
    )
    assert [p.text for p in graph.accepted] == ["meg"]
    assert {reason for _, reason in graph.dropped} == {"no tokens spell it"}
    assert graph.bonus(tiny_tokenizer.encode("meg")) == graph.accepted[0].weight


def test_a_list_without_end_is_cut(tiny_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "MAX_CELLS", 56 * 40)
    graph = compile_phrases([BoostedPhrase(t) for t in ("meg bauer", "jack quick", "paris")], tiny_tokenizer)
    assert [p.text for p in graph.accepted] == ["meg bauer", "paris"]
    assert [(p.text, reason.split(":")[0]) for p, reason in graph.dropped] == [("jack quick", "the list is too long")]


def test_no_phrases_make_a_false_graph(tiny_tokenizer: Tokenizer) -> None:
    for phrases in ([], [BoostedPhrase("!")]):
        graph = compile_phrases(phrases, tiny_tokenizer)
        assert not graph and graph.bonus(tiny_tokenizer.encode("call meg")) == 0


def test_threads_share_a_compiler(tiny_tokenizer: Tokenizer) -> None:
    compiler, found = PhraseCompiler(tiny_tokenizer), []

    def work() -> None:
        for i in range(12):
            name = ["meg", "jack", "zoe", "paris"][i % 4]
            graph = compiler.compile([BoostedPhrase(name, 2.0)])
            found.append(graph.bonus(tiny_tokenizer.encode(name)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2.0] * 48


def test_many_phrases(tiny_tokenizer: Tokenizer) -> None:
    """More states than 16 bits count."""
    words = [f"{a}{b}{c}" for a in "bdfgklmnpr" for b in "aeiou" for c in "bdfgklmnprstvw"]
    names = [f"{a} {b}" for a, b in zip(words, words[1:] + words[:1], strict=True)] + [
        f"{a} {b} {c}" for a, b, c in zip(words, words[5:], words[9:], strict=False)
    ]
    graph = compile_phrases([BoostedPhrase(name, 3.0) for name in names], tiny_tokenizer)
    assert len(graph) == len(names)
    for name in names[::97]:
        assert graph.bonus(tiny_tokenizer.encode(f"call {name} now")) == 3
