"""Decoding: batched beam search, shallow fusion with phrases and a language model, and forced alignment."""

from asr.decoding.alignment import force_score
from asr.decoding.beam_search import BEAM, BeamSearch
from asr.decoding.phrase_graph import BoostedPhrase, PhraseCompiler, PhraseGraph, compile_phrases
from asr.decoding.state import BeamState, NBestEntry, stack_states, unstack_states

__all__ = [
    "BEAM",
    "BeamSearch",
    "BeamState",
    "BoostedPhrase",
    "NBestEntry",
    "PhraseCompiler",
    "PhraseGraph",
    "compile_phrases",
    "force_score",
    "stack_states",
    "unstack_states",
]
