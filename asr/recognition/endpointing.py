"""Endpointing: when an utterance ends, decided by the recogniser's own evidence of speech.

A frame counts as speech where a token is likely to follow the leading hypothesis in it (`speech_probabilities`) and the
frame is not far below the utterance's peak level. Trailing silence is the time since the last token or the last such
frame. `EndpointRule` holds the settings, `EndpointState` the evidence of one utterance, `decide` the decision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from asr.acoustic.interface import AcousticModel
from asr.decoding import BeamSearch, BeamState, NBestEntry
from asr.text.tokenizer import Tokenizer

KEPT_S = 2.0
"""Seconds of leading silence that are kept when the rest is dropped: longer than any word lasts before its first
token."""
_SPLIT_S = 5.0
"""An utterance that grew too long is cut between words of the last so many seconds."""
_AROUND = 2
"""Frames before and behind a cut that have to be quiet."""
_ALIKE_DB = 3.0
"""Places whose levels differ by no more than this are about as quiet."""


@dataclass(frozen=True)
class EndpointRule:
    """The settings of endpointing. What the defaults do on dev stands in recipes/acoustic/NOTEBOOK.md."""

    trailing_silence_s: float = 0.7
    """Silence after speech that ends the utterance, seconds."""
    likely_silence_s: float = 0.4
    """Silence after speech that makes the end likely, seconds: time for a likely final result, which may be
    withdrawn."""
    speech_threshold: float = 0.01
    """A frame in which the probability of a token exceeds this counts as speech; 1: only emitted tokens count."""
    silence_level_db: float = 30.0
    """A frame so many dB below the utterance's peak level is silence, whatever the probability."""
    no_token_s: float = 1.6
    """Time without a new token that ends the utterance, speech or not, seconds; never before `trailing_silence_s`."""
    leading_silence_s: float = 4.0
    """Time without any speech, seconds, at least twice `KEPT_S`, after which the utterance begins anew; the last
    `KEPT_S` are kept, since a word may have begun in them."""
    start_timeout_s: float = math.inf
    """Time without a word, seconds since the last utterance ended, that gives an empty final result."""
    max_utterance_s: float = 30.0
    """An utterance is ended after so many seconds in any case."""

    def ended(self, length_s: float, last_token_s: float | None, last_speech_s: float | None = None) -> bool:
        """Whether the utterance is over.

        Args:
            length_s: seconds since its start.
            last_token_s: when its last token was emitted; None: none was.
            last_speech_s: when a frame last counted as speech; None: none did.
        """
        if length_s >= self.max_utterance_s:
            return True
        if last_token_s is None:
            return False
        silence_s = length_s - _speech_end(last_token_s, last_speech_s)
        return silence_s >= self.trailing_silence_s or length_s - last_token_s >= max(
            self.trailing_silence_s, self.no_token_s
        )

    def likely(self, length_s: float, last_token_s: float | None, last_speech_s: float | None = None) -> bool:
        """Whether the utterance has probably ended. Arguments as for `ended`."""
        return last_token_s is not None and length_s - _speech_end(last_token_s, last_speech_s) >= self.likely_silence_s

    def without_speech(self, length_s: float, last_token_s: float | None) -> bool:
        """Whether there has been no speech for so long that all but the last `kept_s` is to be dropped."""
        return last_token_s is None and length_s >= min(max(self.leading_silence_s, 2 * KEPT_S), self.max_utterance_s)

    def kept_s(self, length_s: float) -> float:
        """Seconds of leading silence that are kept."""
        return min(KEPT_S, length_s / 2)


def _speech_end(last_token_s: float, last_speech_s: float | None) -> float:
    return last_token_s if last_speech_s is None else max(last_token_s, last_speech_s)


@dataclass(frozen=True)
class EndpointState:
    """The evidence of one utterance; frames are encoded frames from its start."""

    frames: int = 0
    """Frames read."""
    last_speech: int | None = None
    """The last frame that counts as speech by probability and level; None: none does."""
    peak_db: float = -math.inf
    """The utterance's peak level."""
    likely_frames: int | None = None
    """Frames read when the end became likely; None while it is not."""
    likely_speech_s: float = 0.0
    """The end of speech by then, seconds."""

    def after(self, rule: EndpointRule, probabilities: Tensor, loudness: Tensor) -> EndpointState:
        """The evidence with (T,) frames more, by their speech probabilities and their loudness in dB."""
        peak_db = max(self.peak_db, float(loudness.max()))
        is_speech = (probabilities > rule.speech_threshold) & (loudness > peak_db - rule.silence_level_db)
        places = is_speech.nonzero()
        last_speech = self.frames + int(places[-1]) if len(places) else self.last_speech
        return replace(self, frames=self.frames + len(loudness), last_speech=last_speech, peak_db=peak_db)


class Decision(Enum):
    """What becomes of an utterance."""

    CONTINUE = "continue"
    """It goes on; its end may be likely (`EndpointState.likely_frames`)."""
    RESTART = "restart"
    """There has been no speech: it begins anew."""
    END = "end"
    """It is over."""


@torch.inference_mode()
def speech_probabilities(
    model: AcousticModel, search: BeamSearch, encoded: Sequence[Tensor], beams: Sequence[BeamState]
) -> list[Tensor]:
    """The probability that a token, not the blank, follows each stream's leading hypothesis, in one joiner call.

    It says something about the frames after the hypothesis's last token.

    Args:
        encoded: (T, J) encoded frames of each stream.
        beams: each stream's hypotheses behind them.

    Returns:
        (T,) of each stream, on the CPU.
    """
    if not beams:
        return []
    leading = search.leading_outputs(beams)
    predicted = torch.cat([row.expand(len(frames), -1) for row, frames in zip(leading, encoded, strict=True)])
    blank = model.join(torch.cat(list(encoded)), predicted).softmax(-1)[:, model.blank]
    return list((1 - blank).cpu().split([len(frames) for frames in encoded]))


def decide(
    rule: EndpointRule, state: EndpointState, last_token: int | None, frame_s: float
) -> tuple[EndpointState, Decision]:
    """Decide whether an utterance goes on.

    Args:
        last_token: frame of the last token of the leading hypothesis; None: it has none.
        frame_s: seconds between encoded frames.

    Returns:
        The state, which says since when the end is likely, and the decision.
    """
    length_s = state.frames * frame_s
    last_token_s, last_speech_s = _seconds(last_token, frame_s), _seconds(state.last_speech, frame_s)
    if rule.without_speech(length_s, last_token_s):
        return state, Decision.RESTART
    speech_end_s = max(last_token_s or 0.0, last_speech_s or 0.0)
    if not rule.likely(length_s, last_token_s, last_speech_s):
        state = replace(state, likely_frames=None)
    elif state.likely_frames is None or speech_end_s > state.likely_speech_s:
        state = replace(state, likely_frames=state.frames, likely_speech_s=speech_end_s)
    return state, Decision.END if rule.ended(length_s, last_token_s, last_speech_s) else Decision.CONTINUE


def _seconds(frame: int | None, frame_s: float) -> float | None:
    return None if frame is None else frame * frame_s


def cut_place(
    state: EndpointState, best: NBestEntry, loudness: Tensor, chunk: int, tokenizer: Tokenizer, frame_s: float
) -> int:
    """Where an utterance that has ended is cut from the next: every frame is of one of them.

    It is where its end became likely, if a chunk has passed since; else the quietest place of the last chunk or, where
    its end was not likely, behind its last token; where speech goes on, between words.

    Args:
        best: the leading hypothesis.
        loudness: (T,) dB of the utterance's frames.
        chunk: frames of the last chunk.
        frame_s: seconds between encoded frames.

    Returns:
        The number of its frames that are the utterance's.
    """
    length, likely = state.frames, state.likely_frames
    if likely is not None and likely < length:
        return likely
    places = list(range(length - chunk if likely is not None else best.frames[-1] + chunk, length - 1))
    if not places:
        first = max(length // 2, length - round(_SPLIT_S / frame_s))
        steps = zip(best.frames, best.frames[1:], best.tokens[1:], strict=False)
        gaps = [range(max(a + 1, first), b) for a, b, token in steps if tokenizer.starts_word(token)]
        places = [place for gap in gaps for place in gap] or list(range(first, length - 1))
    return quietest_place(loudness.tolist(), places) if places else length


def quietest_place(loudness: Sequence[float], places: Sequence[int]) -> int:
    """The place, a number of frames, with the least loud surroundings; the last of those that are about as quiet.

    Args:
        loudness: of each frame, dB.
        places: in order, at least one.
    """
    around = [max(loudness[max(0, place - _AROUND) : place + _AROUND], default=0.0) for place in places]
    limit = min(around) + _ALIKE_DB
    return max(place for place, loud in zip(places, around, strict=True) if loud <= limit)
