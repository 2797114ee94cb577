"""End of utterance from the recogniser itself: how long since it last put out a token, or nearly did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EndpointRule:
    """All but `doubt` and `quiet_db` in seconds of audio. What the defaults do on dev stands in docs/results.md."""

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
    """Without any speech: what was heard so long is dropped, and the utterance begins anew."""
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
        return last_token_s is None and heard_s >= self.start_s


def _sounded(last_token_s: float, doubted_s: float | None) -> float:
    return last_token_s if doubted_s is None else max(last_token_s, doubted_s)
