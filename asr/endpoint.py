"""End of utterance from the recogniser's own tokens: how long since the last one was put out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EndpointRule:
    """All in seconds of audio."""

    silence_s: float = 0.8
    """After speech: this long without a new token ends the utterance."""
    start_s: float = 4.0
    """Without any speech: what was heard so long is dropped, and the utterance begins anew."""
    longest_s: float = 30.0
    """An utterance is ended after this, whatever is said."""

    def ended(self, heard_s: float, last_token_s: float | None) -> bool:
        """Is the utterance over, `heard_s` after its start, when its last token came at `last_token_s`?"""
        if heard_s >= self.longest_s:
            return True
        return last_token_s is not None and heard_s - last_token_s >= self.silence_s

    def unspoken(self, heard_s: float, last_token_s: float | None) -> bool:
        return last_token_s is None and heard_s >= self.start_s
