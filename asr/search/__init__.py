"""Search: batched beam search and forced scoring over an acoustic model."""

from asr.search.beam import BeamSearch, BeamState, Reading
from asr.search.forced import force_score

__all__ = ["BeamSearch", "BeamState", "Reading", "force_score"]
