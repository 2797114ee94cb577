"""End of utterance from the recogniser itself: how long since it last put out a token, or nearly did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEPT_S = 2.0
"""Of what was heard without speech so much is kept: longer than any word lasts before its first token comes."""
_AROUND = 2
"""Frames before and behind a place that have to be quiet."""
_ALIKE_DB = 3.0


@dataclass(frozen=True)
class EndpointRule:
    """All but `doubt` and `quiet_db` in seconds of audio. Their effect on dev: recipes/acoustic/NOTEBOOK.md."""

    silence_s: float = 0.7
    """After speech: this long in which the model is sure that nothing is said ends the utterance."""
    likely_s: float = 0.4
    """So long a sure silence makes it likely that the utterance has ended: time for a result that may be withdrawn."""
    doubt: float = 0.01
    """A frame in which a token is likelier than this is not sure: an unclear sound keeps the utterance open. 1: only
    tokens that are put out count."""
    quiet_db: float = 30.0
    """A frame so far below the utterance's loudest is sure: nothing sounds there. In dB."""
    wait_s: float = 1.6
    """This long without a new token ends the utterance, sure or not; never before `silence_s`."""
    start_s: float = 4.0
    """Without any speech: after so long, and no sooner than twice `KEPT_S`, the utterance begins anew; of what was
    heard the last `KEPT_S` are kept, since a word may have begun in them."""
    longest_s: float = 30.0
    """An utterance is ended after this, whatever is said."""

    def ended(self, heard_s: float, last_token_s: float | None, doubted_s: float | None = None) -> bool:
        """Is the utterance over, `heard_s` after its start?

        Args:
            last_token_s: when its last token came, None: none did. doubted_s: when a frame was last in doubt.
        """
        if heard_s >= self.longest_s:
            return True
        if last_token_s is None:
            return False
        quiet_s = heard_s - _sounded(last_token_s, doubted_s)
        return quiet_s >= self.silence_s or heard_s - last_token_s >= max(self.silence_s, self.wait_s)

    def likely(self, heard_s: float, last_token_s: float | None, doubted_s: float | None = None) -> bool:
        """Has it probably ended? Arguments as for `ended`."""
        return last_token_s is not None and heard_s - _sounded(last_token_s, doubted_s) >= self.likely_s

    def unspoken(self, heard_s: float, last_token_s: float | None) -> bool:
        """Has nothing been said for so long that all but the last `kept_s` is to be forgotten?"""
        return last_token_s is None and heard_s >= min(max(self.start_s, 2 * KEPT_S), self.longest_s)

    def kept_s(self, heard_s: float) -> float:
        """How much is kept of what was heard where nothing has been said."""
        return min(KEPT_S, heard_s / 2)


def _sounded(last_token_s: float, doubted_s: float | None) -> float:
    return last_token_s if doubted_s is None else max(last_token_s, doubted_s)


def quietest(loudness: Sequence[float], places: Sequence[int]) -> int:
    """The place, a number of frames, with the least loud surroundings; the last of those that are about as quiet.

    Args:
        loudness: of each frame, dB. places: in order, at least one.
    """
    around = [max(loudness[max(0, place - _AROUND) : place + _AROUND], default=0.0) for place in places]
    limit = min(around) + _ALIKE_DB
    return max(place for place, loud in zip(places, around, strict=True) if loud <= limit)
