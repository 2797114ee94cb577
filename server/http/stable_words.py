"""Text that is only ever added to, made of results that may change."""

from __future__ import annotations

from asr.text import normalize


class StableWords:
    """The words of one utterance that are sure enough to be sent for good.

    A word is, once two partial results in a row have it at its place, and another word behind it (local agreement, of
    two results: Liu et al. 2020, "Low-latency sequence-to-sequence speech recognition and translation by partial
    hypothesis selection").
    """

    def __init__(self) -> None:
        self._before: list[str] = []
        self._sent: list[str] = []

    def partial(self, text: str) -> str:
        """What a partial result adds to the text that was sent; "" where it adds nothing, or contradicts it."""
        words = text.split()
        agreed = []
        for word, before in zip(words[:-1], self._before[:-1], strict=False):
            if word != before:
                break
            agreed.append(word)
        self._before = words
        if agreed[: len(self._sent)] != self._sent:
            return ""
        added = agreed[len(self._sent) :]
        self._sent += added
        return " ".join(added)

    def final(self, text: str) -> str:
        """What the final result adds; "" where it contradicts what was sent, or adds nothing."""
        words = text.split()
        count = len(self._sent)
        if [normalize(word) for word in words[:count]] != self._sent:
            return ""
        return " ".join(words[count:])
