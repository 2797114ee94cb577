"""How phrases sound like a list of hypotheses as a whole, where there is no audio."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from asr.context import ContextEncoder
from asr.context.answer_tables import AnswerTables
from asr.context.features import FEATURES, LIST_FEATURES, ListDistances, Pool, pool_features
from asr.context.phrase_index import PhraseIndex
from asr.context.types import Context, Entry, Phrase

INDEX = PhraseIndex([Phrase(name, "contacts", -1.0) for name in ("carly palmer", "gemma smith", "kevin horn")])


def test_the_phrase_that_the_list_sounds_like_is_nearest() -> None:
    heard = ListDistances.of(("harley palmer", "carl palmer", "call palmer"), INDEX)
    assert heard.best == 0
    assert heard.of_phrase(0)[0] < heard.of_phrase(1)[0]
    assert heard.of_phrase(0)[1] > 0 > heard.of_phrase(1)[1]
    assert heard.of_phrase(0)[1] == -heard.of_phrase(heard.second)[1]


def test_readings_that_each_sound_a_bit_like_it_count_together() -> None:
    one, several = (ListDistances.of(texts, INDEX) for texts in (("harley palmer",), ("harley palmer", "carl palmer")))
    assert several.of_phrase(0)[0] < one.of_phrase(0)[0]


def test_a_single_phrase_has_no_rival() -> None:
    assert ListDistances.of(("mac bower",), PhraseIndex(INDEX.phrases[:1])).of_phrase(0)[1] == 3.0


def test_only_lists_without_audio_are_asked(encoder: ContextEncoder, tables: AnswerTables) -> None:
    embedding = encoder.encode(Context(entries=tuple(Entry("contacts", p.text) for p in INDEX.phrases)))
    texts = ("harley palmer", "carly palmer")
    pools = [Pool(texts, (0.0, -1.0), (0.0, 0.0), (0, -1), heard) for heard in ((), ("harley palmer",))]
    exact, ranked = (
        pool_features(p, embedding, PhraseIndex(embedding.phrases), encoder.model, encoder.tokenizer, tables)
        for p in pools
    )
    rows, lists = FEATURES.index("phrase_distance"), LIST_FEATURES.index("best_phrase_distance")
    assert not np.any(exact.rows[:, rows:].numpy()) and not np.any(exact.of_list[lists:].numpy())
    assert ranked.rows[1, rows] > 0 and ranked.rows[1, rows + 1] > 0 and ranked.of_list[lists] == ranked.rows[1, rows]
    assert np.array_equal(exact.rows[:, :rows], ranked.rows[:, :rows])


def test_words_that_are_names_are_known_in_lists_without_audio(encoder: ContextEncoder, tables: AnswerTables) -> None:
    known = replace(tables, given=frozenset({"carly"}), surnames=frozenset({"palmer"}))
    embedding = encoder.encode(Context(entries=tuple(Entry("contacts", p.text) for p in INDEX.phrases)))
    texts = ("carly palmer", "barley palmer", "carly farmer", "carly", "carly ann palmer", "")
    first, plain = FEATURES.index("given_name"), LIST_FEATURES.index("plain_given_name")
    for heard, expected in ((texts, [[1, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]]), ((), 0)):
        pool = Pool(texts, (0.0,) * 6, (0.0,) * 6, tuple(range(6)), heard)
        found = pool_features(pool, embedding, PhraseIndex(embedding.phrases), encoder.model, encoder.tokenizer, known)
        assert np.array_equal(found.rows[:, first : first + 3].numpy(), np.broadcast_to(expected, (6, 3)))
        assert np.array_equal(found.of_list[plain : plain + 3].numpy(), found.rows[0, first : first + 3].numpy())
