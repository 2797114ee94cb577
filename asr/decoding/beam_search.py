"""Frame-synchronous RNN-T beam search, vectorised over streams × beam.

In a frame every hypothesis may put out up to `symbols` tokens before its blank. Hypotheses that spell the same token
sequence are merged by adding their probabilities, so a score estimates log P(y|x), not that of one alignment
(Graves 2012, section 2.5, with the frame-synchronous pruning of Saon et al. 2020, "alignment-length synchronous").
What a language model and phrases say depends on the tokens alone; it is kept apart and added where hypotheses are
ranked (shallow fusion, Gulcehre et al. 2015). Frames that a CTC head takes for blank may be passed over, as if they
were not there (Wang et al. 2023, arXiv:2210.16481).

The model computes on its device, many frames at once (`asr.decoding.joiner_cache`); `asr.decoding.block` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.decoding.block import Block
from asr.decoding.fusion import Follower
from asr.decoding.joiner_cache import Contexts, Emissions
from asr.decoding.ngram import NGram
from asr.decoding.phrase_graph import PhraseGraph
from asr.decoding.state import FRAME, ROOM, BeamState, Reading, stack_states, unstack_states

BEAM = 32
"""Hypotheses kept: 5% fewer errors than 8 for a tenth more processor time (recipes/acoustic/NOTEBOOK.md)."""
MARGIN = 6.0
"""Nats, what a recogniser takes: on dev it changes no result that all tokens give, and scores by a ten thousandth."""
SILENCE = 0.99
"""The blank's probability, by the CTC head, from which on a recogniser passes a frame over."""
_BLOCK = 8
"""Frames that the model's joiner is asked about at once; of several streams half as many, since then its products take
the time, some of them for hypotheses that are gone by then, and of one stream the starting of operations does."""


class BeamSearch:
    """Batched beam search over `model`.

    Args:
        beam: hypotheses kept for each stream, unless its state was started with another number.
        symbols: most tokens of one hypothesis in one frame.
        language: followed by every hypothesis; None: none.
        language_weight: by which log P(token | history) is multiplied.
        token_bonus: nats for each token, against the shortness that both models prefer; counted in `language`.
        margin: nats below the best hypothesis from which on a token is not looked at.
        silence: the blank's probability by the model's CTC head above which a frame is passed over; 1: none is.
    """

    def __init__(
        self,
        model: AcousticModel,
        beam: int = BEAM,
        symbols: int = 3,
        language: NGram | None = None,
        language_weight: float = 0.0,
        token_bonus: float = 0.0,
        margin: float = math.inf,
        silence: float = 1.0,
    ) -> None:
        if beam < 1 or symbols < 1:
            raise ValueError(f"beam is {beam} and symbols {symbols}; both must be at least 1")
        if not margin > 0:
            raise ValueError(f"margin is {margin}; it must be above 0")
        if not 0 < silence <= 1:
            raise ValueError(f"silence is {silence}; it is a probability above 0")
        self.model, self.beam, self.symbols, self._margin = model, beam, symbols, np.float32(margin)
        self._silence = silence
        self._contexts = Contexts(model)
        self._follower = Follower(model.vocab_size, language, language_weight, token_bonus)

    def start(self, streams: int, beam: int | None = None) -> BeamState:
        """One empty hypothesis for each stream, and room for `beam`; None: as many as the search's."""
        shape = (streams, self.beam if beam is None else beam)
        predicted, predictor = (None, ()) if self._contexts.seen else self.model.start(shape[0] * shape[1])
        acoustic = np.full(shape, -np.inf, np.float32)
        acoustic[:, 0] = 0.0
        return BeamState(
            acoustic=acoustic,
            key=np.tile(1 - np.arange(shape[1]), (streams, 1)),
            context=np.full(shape, self._contexts.start),
            predicted=predicted,
            predictor=predictor,
            spelled=np.zeros((*shape, ROOM), np.int64),
            emitted=np.zeros((*shape, ROOM, 2), np.float32),
            length=np.zeros(shape, np.int64),
            time=np.zeros(streams, np.int64),
            followed=self._follower.start(shape, ()),
        )

    def step(
        self,
        encoded: Tensor,
        state: BeamState,
        graphs: Sequence[PhraseGraph | None] = (),
        lengths: Sequence[int] | None = None,
    ) -> BeamState:
        """Reads (B, T, J) encoded frames of each stream.

        Args:
            graphs: each stream's phrases or None, the same from its first frame to its last; empty: as before.
            lengths: frames of each stream, behind which the others are not looked at; None: T each.

        However the frames are cut the result is the same; bit for bit where all cuts are at multiples of 8 frames.

        Raises:
            ValueError: not one graph a stream, or a stream's phrases changed after its first frame.
        """
        given = tuple(graph or None for graph in graphs)
        if given and given != (state.graphs or (None,) * len(state.time)):
            state = self._with_graphs(state, given)
        at, block = 0, _BLOCK if len(encoded) == 1 else _BLOCK // 2
        begun, ends = state.time, np.array([encoded.shape[1]] * len(encoded) if lengths is None else lengths)
        while at < encoded.shape[1]:
            size = block - int(begun[0] + at) % block
            part = encoded[:, at : at + size]
            heard = (self.model.blank_chances(part) <= self._silence).cpu().numpy()
            heard &= np.arange(at, at + part.shape[1]) < ends[:, None]
            at, some = at + size, np.flatnonzero(heard.any(0))
            time = begun + ends.clip(max=at)
            if len(some):
                part = part.index_select(1, torch.from_numpy(some).to(part.device))
                before = state.context, state.predicted, state.predictor
                said = Emissions(self.model, self._contexts, part, heard[:, some], *before)
                state = Block(said, state, some, self._follower, self.symbols, self._margin).run()
            state = replace(state, time=time)
        return state

    def _with_graphs(self, state: BeamState, graphs: tuple[PhraseGraph | None, ...]) -> BeamState:
        if len(graphs) != len(state.time):
            raise ValueError(f"{len(graphs)} graphs for {len(state.time)} streams; give one or None for each")
        parts = []
        for part, graph in zip(unstack_states(state), graphs, strict=True):
            if (part.graphs[0] if part.graphs else None) is not graph:
                if part.time[0]:
                    raise ValueError("a stream's phrases changed within an utterance; set them before its first frame")
                own = (graph,) if graph else ()
                part = replace(part, followed=self._follower.start(part.acoustic.shape, own), graphs=own)
            parts.append(part)
        return stack_states(parts)

    def predicted(self, state: BeamState, stream: int) -> Tensor:
        """(J,) what the predictor says after the hypothesis of a stream that leads."""
        rank = state.acoustic if state.followed is None else state.acoustic + state.followed.total()
        best = int(rank[stream].argmax())
        if state.predicted is None:
            return self._contexts.predicted(state.context[stream, best : best + 1])[0]
        return state.predicted[stream * state.acoustic.shape[1] + best]

    def nbest(self, state: BeamState, stream: int) -> list[Reading]:
        """The hypotheses of one stream, best first."""
        acoustic = state.acoustic
        language = bias = np.zeros_like(acoustic)
        if state.followed is not None:
            language, bias = self._follower.end(state.followed, state.graphs)
        rank = acoustic + language + bias
        out = []
        for k in (-rank[stream]).argsort(kind="stable").tolist():
            if acoustic[stream, k] == -np.inf:
                continue
            n = int(state.length[stream, k])
            score, blank = state.emitted[stream, k, :n].T
            certainty = score - np.log1p(-np.exp(blank).clip(max=np.float32(1 - 1e-6)))
            frame, token = np.divmod(state.spelled[stream, k, :n], FRAME)
            out.append(
                Reading(
                    tuple(token.tolist()),
                    tuple(frame.tolist()),
                    tuple(certainty.tolist()),
                    float(acoustic[stream, k]),
                    float(language[stream, k]),
                    float(bias[stream, k]),
                )
            )
        return out
