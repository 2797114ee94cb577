"""A back-off n-gram model over tokens as an automaton of tensors, which a beam search follows beside the transducer.

A state is a context that the model knows arcs for; state 0 is the empty one. What a state has no arc for is looked up
in its back-off state, the longest shorter context that is one (Katz 1987; the form of an ARPA file):

    log P(token | state) = arc's, or back-off weight of the state + log P(token | back-off state)

The blank is never part of a text, so its id stands for the text's edges: as a context for the beginning, as a
prediction for the end.
"""

from __future__ import annotations

import copy
import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.errors import ModelError
from asr.tokens import Tokenizer

SHIPPED = Path(__file__).parent.parent / "weights" / "language"
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
        weight, token_bonus: what a recogniser takes where it is told nothing else: weight * log P is added to a
            hypothesis's score, and token_bonus for each of its tokens; fitted on dev.
    """

    def __init__(
        self,
        token: Tensor,
        log_prob: Tensor,
        children: Tensor,
        left: Tensor,
        *,
        order: int,
        vocab_size: int,
        tokens_hash: str,
        blank: int = Tokenizer.blank,
        weight: float = 0.0,
        token_bonus: float = 0.0,
        version: str = "unnamed",
    ) -> None:
        self.order, self.vocab_size, self.blank = order, vocab_size, blank
        self.tokens_hash, self.weight, self.token_bonus, self.version = tokens_hash, weight, token_bonus, version
        count = torch.cat([torch.tensor([vocab_size]), children[children > 0].long()])
        arcs, states = int(count.sum()), len(count)
        if not len(token) == len(log_prob) == len(children) == arcs or len(left) != states:
            raise ModelError(f"language model: {len(token)} arcs and {len(left)} states, expected {arcs} and {states}")
        source = torch.repeat_interleave(torch.arange(states), count)
        self._key = source * vocab_size + token
        if not torch.equal(token[:vocab_size].long(), torch.arange(vocab_size)) or bool((self._key.diff() <= 0).any()):
            raise ModelError("language model: arcs must ascend, and the empty context needs one for each token")
        self._begin = torch.cat([count.new_zeros(1), count.cumsum(0)])
        self._children, self._log_prob = children, log_prob.float()
        self._back_off, self._lower = torch.zeros(states), torch.zeros(states, dtype=torch.int32)
        self._next = torch.zeros(arcs, dtype=torch.int32)
        self._link(source, left.double())
        self._rows = _Rows(states, vocab_size, self._key.device)

    def _link(self, source: Tensor, left: Tensor) -> None:
        """Scales each state's probabilities to a sum of one and finds where arcs and back-off lead, short to long."""
        own = torch.where(self._children > 0, (self._children > 0).cumsum(0), 0)
        first, after = 0, 1  # the states of one length of context
        while first < after:
            arcs = slice(int(self._begin[first]), int(self._begin[after]))
            state, token = source[arcs], self._key[arcs] % self.vocab_size
            stored = self._log_prob[arcs].double().exp()
            rest = left[first:after].exp() if first else left.new_zeros(1)
            total = rest.index_add(0, state - first, stored)
            self._log_prob[arcs] = (stored / total[state - first]).log().float()
            reached = torch.zeros_like(state)
            if first:
                lower, reached = self._walk(self._lower[state].long(), token)
                unseen = 1 - torch.zeros_like(total).index_add_(0, state - first, lower.double().exp())
                self._back_off[first:after] = (rest / total / unseen.clamp(min=1e-6)).log().float()
            is_state = self._children[arcs] > 0
            self._next[arcs] = torch.where(is_state, own[arcs], reached).int()
            first, after = after, after + int(is_state.sum())
            self._lower[first:after] = reached[is_state].int()

    def _walk(self, state: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """log P(token | state) and the next state, (N,) each, down the back-off chain."""
        log_prob, reached = torch.zeros(len(state), device=state.device), torch.zeros_like(state)
        rows = torch.arange(len(state), device=state.device)
        while len(rows):
            key = state * self.vocab_size + token
            arc = torch.searchsorted(self._key, key).clamp(max=len(self._key) - 1)
            found = self._key[arc] == key
            log_prob[rows] += torch.where(found, self._log_prob[arc], self._back_off[state])
            reached[rows] = self._next[arc].long()
            missed = ~found
            rows, token, state = rows[missed], token[missed], self._lower[state[missed]].long()
        return log_prob, reached

    @property
    def start(self) -> int:
        """The state at the beginning of a text."""
        return int(self._next[self.blank])

    def scores(self, state: Tensor) -> Tensor:
        """(N,) int64 states → (N, V) float32 natural log P(token | state); the blank's column is 0.

        A row depends on nothing but its state: the same bits whatever else is in the batch.
        """
        scores, _ = self._rows.look_up(state, self._dense)
        scores[:, self.blank] = 0.0
        return scores

    def advance(self, state: Tensor, token: Tensor) -> Tensor:
        """(N,) states and the (N,) tokens that they read → (N,) states."""
        _, reached = self._rows.look_up(state, self._dense)
        return reached.gather(1, token[:, None])[:, 0].long()

    def final(self, state: Tensor) -> Tensor:
        """(N,) states → (N,) float32 log P(the text ends here | state)."""
        return self._walk(state, torch.full_like(state, self.blank))[0]

    def _dense(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) → (N, V) log P, the end in the blank's column, and (N, V) int32 next states."""
        chain = [state]
        for _ in range(self.order - 2):
            chain.append(self._lower[chain[-1]].long())
        context = torch.stack(chain[::-1], 1)  # (N, C), shortest first; the empty one, which is dense, is skipped
        begin = self._begin[context].flatten()
        arcs = torch.where(context > 0, self._begin[context + 1] - self._begin[context], 0).flatten()
        back_off = torch.where(context > 0, self._back_off[context], 0.0)
        skipped = back_off.flip(1).cumsum(1).flip(1)  # the weights of a context and the longer ones added up
        of = torch.repeat_interleave(torch.arange(len(arcs), device=state.device), arcs)
        rank = torch.arange(len(of), device=state.device)
        arc = (begin - arcs.cumsum(0) + arcs)[of] + rank
        cell = of // context.shape[1] * self.vocab_size + self._key[arc] % self.vocab_size
        scores = (self._log_prob[: self.vocab_size] + skipped[:, :1]).flatten()
        reached = self._next[: self.vocab_size].repeat(len(state))
        # of several arcs for a token the longest context's counts, which is the last
        last = torch.full_like(scores, -1, dtype=torch.int64).scatter_reduce(0, cell, rank, "amax")
        cell = (last >= 0).nonzero()[:, 0]
        last = last[cell]
        scores[cell] = (self._log_prob[arc] + (skipped - back_off).flatten()[of])[last]
        reached[cell] = self._next[arc][last]
        return scores.unflatten(0, (-1, self.vocab_size)), reached.unflatten(0, (-1, self.vocab_size))

    def score(self, tokens: Sequence[int]) -> float:
        """Natural log P of a whole text, its end included."""
        return self.score_texts([tokens])[0]

    def score_texts(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """`score` of each text, in one batch."""
        device = self._key.device
        length = torch.tensor([len(t) for t in texts], device=device)
        longest = max(map(len, texts), default=0)
        padded = torch.tensor([[*t, *[self.blank] * (longest + 1 - len(t))] for t in texts], device=device)
        state = torch.full((len(texts),), self.start, device=device)
        total = torch.zeros(len(texts), dtype=torch.float64, device=device)
        for u in range(longest + 1 if texts else 0):
            score, state = self._walk(state, padded[:, u])
            total = total + torch.where(u <= length, score, 0.0)
        return total.tolist()

    def fits(self, tokenizer: Tokenizer) -> bool:
        """Whether it was made for these tokens."""
        return self.tokens_hash == hash_tokens(tokenizer)

    def to(self, device: str | torch.device) -> NGram:
        """The same model on a device."""
        moved = copy.copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device))
        moved._rows = _Rows(len(self._lower), self.vocab_size, moved._key.device)
        return moved

    @classmethod
    def load(cls, folder: Path | str | None = None, tokenizer: Tokenizer | None = None) -> NGram:
        """The model in `folder` (None: the shipped one).

        Raises:
            ModelError: a file is missing or damaged, or the model was made for other tokens than the tokenizer's.
        """
        folder = SHIPPED if folder is None else Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            arrays = load_file(folder / "ngram.safetensors")
            model = cls(
                arrays["token"],
                arrays["log_prob"].float() * -STEP,
                arrays["children"],
                arrays["left"].float() * -STEP,
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
        model = cls.load()
        return model if model.fits(tokenizer) else None

    def save(self, folder: Path) -> None:
        """Writes ngram.safetensors, one byte for each number where it fits, and config.json.

        Log-probabilities are rounded to multiples of `STEP`: what `load` gives differs by that.
        """
        folder.mkdir(parents=True, exist_ok=True)
        width = torch.uint8 if self.vocab_size <= 256 else torch.int32

        def rounded(log: Tensor) -> Tensor:
            return (log / -STEP).round().clamp(0, 255).to(torch.uint8)

        source = self._key // self.vocab_size
        used = torch.zeros(len(self._lower), dtype=torch.float64).index_add_(0, source, self._log_prob.double().exp())
        arrays = {
            "token": (self._key % self.vocab_size).to(width),
            "log_prob": rounded(self._log_prob),
            "children": self._children.to(width),
            "left": rounded((1 - used).clamp(min=1e-9).log()),
        }
        save_file(arrays, folder / "ngram.safetensors")
        self.save_config(folder)

    def save_config(self, folder: Path) -> None:
        """Writes config.json alone: where only `weight` and `token_bonus` changed."""
        names = ("version", "order", "vocab_size", "blank", "tokens_hash", "weight", "token_bonus")
        config = {name: getattr(self, name) for name in names}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


class _Rows:
    """Log P and next states of all tokens for the states that were asked for last: hypotheses ask again every frame.

    Full, it is emptied. What it gives does not depend on what it holds.
    """

    def __init__(self, states: int, vocab_size: int, device: torch.device, capacity: int = 8192) -> None:
        self._lock = threading.Lock()
        self._slot = torch.full((states,), -1, dtype=torch.int32, device=device)
        self._scores = torch.empty(capacity, vocab_size, device=device)
        self._next = torch.empty(capacity, vocab_size, dtype=torch.int32, device=device)
        self._used = 0

    def look_up(self, state: Tensor, compute: Callable[[Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """(N,) states → (N, V) and (N, V) as `compute` gives them, copies."""
        with self._lock:
            slot = self._slot[state]
            if bool((slot < 0).any()):
                new = state[slot < 0].unique()
                if self._used + len(new) > len(self._scores):
                    self._slot.fill_(-1)
                    self._used, new = 0, state.unique()
                if len(new) > len(self._scores):
                    return compute(state)
                rows = slice(self._used, self._used + len(new))
                self._scores[rows], self._next[rows] = compute(new)
                self._slot[new] = torch.arange(rows.start, rows.stop, dtype=torch.int32, device=state.device)
                self._used = rows.stop
                slot = self._slot[state]
            return self._scores[slot], self._next[slot]


def hash_tokens(tokenizer: Tokenizer) -> str:
    """SHA-256 of tokens.model."""
    return hashlib.sha256(tokenizer.proto).hexdigest()
