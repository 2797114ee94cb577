"""A back-off n-gram model over tokens as an automaton of arrays, which a beam search advances beside the transducer.

A state is a context that the model knows arcs for; state 0 is the empty one. What a state has no arc for is looked up
in its back-off state, the longest shorter context that is one (Katz 1987; the form of an ARPA file):

    log P(token | state) = arc's, or back-off weight of the state + log P(token | back-off state)

The blank is never part of a text, so its id stands for the text's edges: as a context for the beginning, as a
prediction for the end.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from asr.errors import ModelError
from asr.fitted import named_version
from asr.text.tokenizer import Tokenizer

Array = npt.NDArray[Any]
SHIPPED = Path(__file__).parent.parent / "weights" / "language"
CACHED_STATES = 8192
"""States whose log-probabilities of all tokens are kept."""
STEP = 0.07
"""Nats between the log-probabilities of a file, which are bytes: 0 to -17.85."""


class NGram:
    """S: states, A: arcs, V: vocabulary with the blank, N: rows of a call.

    Args:
        token: (A,) arcs state by state, a state's tokens ascending. The first V are the empty context's, one a token;
            states stand in the order of the arcs that lead to them, so shorter contexts come first.
        log_prob: (A,) natural log P(token | state); with `left` it is scaled so that each state's sum is one.
        children: (A,) arcs of the state that the arc leads to; 0: that context is no state.
        left: (S,) log of the probability that a state's arcs leave to all other tokens; not used for state 0.
        order: tokens in the longest n-gram.
        tokens_hash: of the tokens that it was made for, see `hash_tokens`.
        version: its name; of a model that was loaded, with a digest of its arrays behind it.
    """

    def __init__(
        self,
        token: Array,
        log_prob: Array,
        children: Array,
        left: Array,
        *,
        order: int,
        vocab_size: int,
        tokens_hash: str,
        blank: int = Tokenizer.blank,
        version: str = "unnamed",
    ) -> None:
        self.order, self.vocab_size, self.blank = order, vocab_size, blank
        self.tokens_hash, self.version = tokens_hash, version
        count = np.concatenate([[vocab_size], children[children > 0].astype(np.int64)])
        arcs, states = int(count.sum()), len(count)
        if not len(token) == len(log_prob) == len(children) == arcs or len(left) != states:
            raise ModelError(f"language model: {len(token)} arcs and {len(left)} states, expected {arcs} and {states}")
        source = np.repeat(np.arange(states), count)
        self._key = source * vocab_size + token
        if not np.array_equal(token[:vocab_size], np.arange(vocab_size)) or (np.diff(self._key) <= 0).any():
            raise ModelError("language model: arcs must ascend, and the empty context needs one for each token")
        self._begin = np.concatenate([[0], count.cumsum()])
        self._token, self._children, self._log_prob = token, children, log_prob.astype(np.float32)
        self._back_off, self._lower = np.zeros(states, np.float32), np.zeros(states, np.int32)
        self._next = np.zeros(arcs, np.int32)
        self._link(source, left.astype(np.float64))
        self._rows = _RowCache(self._dense, states, vocab_size, blank)

    def _link(self, source: Array, left: Array) -> None:
        """Scale each state's probabilities to a sum of one and find where arcs and back-off lead, short to long."""
        own = np.where(self._children > 0, (self._children > 0).cumsum(), 0)
        first, after = 0, 1  # the states of one length of context
        while first < after:
            arcs = slice(self._begin[first], self._begin[after])
            state, token = source[arcs], self._token[arcs]
            stored = np.exp(self._log_prob[arcs].astype(np.float64))
            rest = np.exp(left[first:after]) if first else np.zeros(1)
            total = rest + np.bincount(state - first, stored)
            self._log_prob[arcs] = np.log(stored / total[state - first])
            reached = np.zeros(len(state), np.int32)
            if first:
                lower, reached = self._walk(self._lower[state], token)
                unseen = 1 - np.bincount(state - first, np.exp(lower))
                self._back_off[first:after] = np.log(rest / total / unseen.clip(1e-6))
            is_state = self._children[arcs] > 0
            self._next[arcs] = np.where(is_state, own[arcs], reached)
            first, after = after, after + int(is_state.sum())
            self._lower[first:after] = reached[is_state]

    def _walk(self, state: Array, token: Array) -> tuple[Array, Array]:
        """Log P(token | state) (N,) float64 and the next state (N,), down the back-off chain."""
        log_prob, reached, rows = np.zeros(len(state)), np.zeros(len(state), np.int32), np.arange(len(state))
        while len(rows):
            key = state.astype(np.int64) * self.vocab_size + token
            arc = np.searchsorted(self._key, key).clip(max=len(self._key) - 1)
            found = self._key[arc] == key
            log_prob[rows] += np.where(found, self._log_prob[arc], self._back_off[state])
            reached[rows] = self._next[arc]
            rows, token, state = rows[~found], token[~found], self._lower[state[~found]]
        return log_prob, reached

    def _dense(self, states: Sequence[int]) -> tuple[Array, Array]:
        """Log P of all tokens, the end in the blank's column, and the states that they lead to: (N, V) float32, int32.

        Row by row: most calls want a few states, each with a handful of stretches of arcs.
        """
        scores = np.empty((len(states), self.vocab_size), np.float32)
        reached = np.empty((len(states), self.vocab_size), np.int32)
        empty = slice(0, self.vocab_size)
        for score, follow, state in zip(scores, reached, states, strict=True):
            chain, skipped = [], np.float32(0.0)
            while state:
                chain.append((state, skipped))
                skipped, state = skipped + self._back_off[state], self._lower[state]
            score[:], follow[:] = self._log_prob[empty] + skipped, self._next[empty]
            for context, above in reversed(chain):  # the longest context that has an arc decides: it writes last
                arcs = slice(self._begin[context], self._begin[context + 1])
                token = self._token[arcs]
                score[token], follow[token] = self._log_prob[arcs] + above, self._next[arcs]
        return scores, reached

    @property
    def start(self) -> int:
        """The state at the beginning of a text."""
        return int(self._next[self.blank])

    def scores(self, state: Array) -> Array:
        """(N,) int64 states → (N, V) float32 natural log P(token | state); the blank's column is 0.

        A row depends on nothing but its state: the same bits whatever else is in the batch.
        """
        return self._rows.scores(state)

    def max_score(self, state: Array) -> Array:
        """(N,) states → (N,) log P of the likeliest token, the end aside."""
        return self._rows.max_score(state)

    def advance(self, state: Array, token: Array) -> tuple[Array, Array]:
        """(N,) states and the (N,) tokens that they read → (N,) log P of each token, (N,) int64 states."""
        return self._rows.advance(state, token)

    def final(self, state: Array) -> Array:
        """(N,) states → (N,) float32 log P(the text ends here | state)."""
        return self._rows.final(state)

    def score(self, tokens: Sequence[int]) -> float:
        """Natural log P of a whole text, its end included."""
        return self.score_texts([tokens])[0]

    def score_texts(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """`score` of each text, in one batch."""
        total, state = np.zeros(len(texts)), np.full(len(texts), self.start)
        length = np.array([len(t) for t in texts], np.int64)
        for u in range(length.max(initial=-1) + 1):
            token = np.array([t[u] if u < len(t) else self.blank for t in texts])
            score, state = self._walk(state, token)
            total += np.where(u <= length, score, 0.0)
        return [float(score) for score in total]

    def token_scores(self, texts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Natural log P of each token of each text, and last of the text's end; quick where a search has just been."""
        length = np.array([len(t) for t in texts], np.int64)
        columns, state = [], np.full(len(texts), self.start)
        for u in range(length.max(initial=-1) + 1):
            token = np.array([t[u] if u < len(t) else self.blank for t in texts])
            score, after = self.advance(state, token)
            columns.append(np.where(u == length, self.final(state), score).tolist())
            state = np.where(u < length, after, state)
        return [[column[i] for column in columns[: n + 1]] for i, n in enumerate(length.tolist())]

    def fits(self, tokenizer: Tokenizer) -> bool:
        """Whether it was made for these tokens."""
        return self.tokens_hash == hash_tokens(tokenizer)

    @classmethod
    def load(cls, folder: Path | str | None = None, tokenizer: Tokenizer | None = None) -> NGram:
        """Load the model in `folder` (None: the shipped one).

        Raises:
            ModelError: a file is missing or damaged, or the model was made for other tokens than the tokenizer's.
        """
        folder = SHIPPED if folder is None else Path(folder)
        try:
            config, file = _read_config(folder), folder / "ngram.safetensors"
            arrays = load_file(file)
            config["version"] = named_version(str(config.get("version", "unnamed")), file)
            model = cls(
                arrays["token"],
                arrays["log_prob"].astype(np.float32) * -STEP,
                arrays["children"],
                arrays["left"].astype(np.float32) * -STEP,
                **config,
            )
        except ModelError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"language model in {folder}: {error}") from error
        if tokenizer is not None and not model.fits(tokenizer):
            raise ModelError(
                f"language model in {folder} was made for other tokens than the acoustic model's: train it for that"
                " tokens.model (scripts/train_language --tokens)"
            )
        return model

    @classmethod
    def load_shipped(cls, tokenizer: Tokenizer) -> NGram | None:
        """The shipped model; None where there is none, or none for these tokens."""
        if not (SHIPPED / "config.json").exists():
            return None
        return cls.load() if _read_config(SHIPPED).get("tokens_hash") == hash_tokens(tokenizer) else None

    def save(self, folder: Path) -> None:
        """Write ngram.safetensors, one byte for each number where it fits, and config.json.

        Log-probabilities are rounded to multiples of `STEP`: what `load` gives differs by that.
        """
        folder.mkdir(parents=True, exist_ok=True)
        width = np.uint8 if self.vocab_size <= 256 else np.int32

        def rounded(log: Array) -> Array:
            return (log / -STEP).round().clip(0, 255).astype(np.uint8)

        used = np.bincount(self._key // self.vocab_size, np.exp(self._log_prob.astype(np.float64)))
        arrays = {
            "token": self._token.astype(width),
            "log_prob": rounded(self._log_prob),
            "children": self._children.astype(width),
            "left": rounded(np.log((1 - used).clip(1e-9))),
        }
        save_file(arrays, folder / "ngram.safetensors")
        names = ("version", "order", "vocab_size", "blank", "tokens_hash")
        config = {name: getattr(self, name) for name in names}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


class _RowCache:
    """log P and next states of all tokens for the states of late: hypotheses need them again in every frame.

    When it is full it is emptied. What it gives does not depend on what it holds.

    Args:
        compute: `NGram._dense`.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[int]], tuple[Array, Array]],
        states: int,
        vocab_size: int,
        blank: int,
    ) -> None:
        self._compute, self._vocab_size, self._blank, self._used = compute, vocab_size, blank, 0
        self._lock = threading.Lock()
        self._slot = np.full(states, -1)
        self._make(CACHED_STATES)

    def _make(self, capacity: int) -> None:
        self._scores = np.empty((capacity, self._vocab_size), np.float32)
        self._reached = np.empty((capacity, self._vocab_size), np.int32)
        self._final, self._max_score = np.empty((2, capacity), np.float32)

    def scores(self, state: Array) -> Array:
        """(N,) states → (N, V), a copy."""
        with self._lock:
            slot = self._slots(state)
            return self._scores.take(slot, 0)

    def final(self, state: Array) -> Array:
        with self._lock:
            slot = self._slots(state)
            return self._final.take(slot)

    def max_score(self, state: Array) -> Array:
        with self._lock:
            slot = self._slots(state)
            return self._max_score.take(slot)

    def advance(self, state: Array, token: Array) -> tuple[Array, Array]:
        """(N,) states and (N,) tokens → (N,) log P, (N,) int64 states."""
        with self._lock:
            place = self._slots(state) * self._vocab_size + token
            return self._scores.take(place), self._reached.take(place).astype(np.int64)

    def _slots(self, state: Array) -> Array:
        slot = self._slot.take(state)
        if len(slot) and slot.min() < 0:
            new = np.unique(state[slot < 0])
            if self._used + len(new) > len(self._scores):
                new = np.unique(state)
                self._slot.fill(-1)
                self._used = 0
                if len(new) > len(self._scores):
                    self._make(len(new))
            scores, reached = self._compute(new.tolist())
            rows = slice(self._used, self._used + len(new))
            self._final[rows] = scores[:, self._blank]
            scores[:, self._blank] = -np.inf
            self._max_score[rows] = scores.max(1)
            scores[:, self._blank] = 0.0
            self._scores[rows], self._reached[rows] = scores, reached
            self._slot[new] = np.arange(rows.start, rows.stop)
            self._used += len(new)
            slot = self._slot[state]
        return slot


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ModelError(f"language model in {folder}: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"language model in {folder}: config.json is not an object")
    return config


def hash_tokens(tokenizer: Tokenizer) -> str:
    """SHA-256 of tokens.model."""
    return hashlib.sha256(tokenizer.proto).hexdigest()
