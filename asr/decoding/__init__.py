"""Search: batched beam search, phrases and a language model beside it, and forced scoring over an acoustic model."""

from asr.decoding.alignment import force_score
from asr.decoding.beam_search import BEAM, MARGIN, SILENCE, BeamSearch
from asr.decoding.phrase_graph import BoostedPhrase, PhraseCompiler, PhraseGraph, compile_phrases
from asr.decoding.state import BeamState, Reading, stack_states, unstack_states

__all__ = [
    "BEAM",
    "MARGIN",
    "SILENCE",
    "BeamSearch",
    "BeamState",
    "BoostedPhrase",
    "PhraseCompiler",
    "PhraseGraph",
    "Reading",
    "compile_phrases",
    "force_score",
    "stack_states",
    "unstack_states",
]
