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
from collections.abc import Sequence
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
        self._children, self._left = children, left.float().clone()
        self._count = torch.cat([torch.tensor([vocab_size]), children[children > 0].long()])
        self._check(token, log_prob, left)
        self._begin = self._count.cumsum(0) - self._count
        self._token = token.long()
        self._log_prob, self._back_off = log_prob.float(), torch.zeros(len(self._count))
        self._lower = torch.zeros_like(self._count)
        self._next = torch.zeros_like(self._token)
        source = torch.repeat_interleave(torch.arange(len(self._count)), self._count)
        self._key = source * vocab_size + self._token
        self._link(source, children, left)

    def _check(self, token: Tensor, log_prob: Tensor, left: Tensor) -> None:
        arcs, states = int(self._count.sum()), len(self._count)
        if not len(token) == len(log_prob) == arcs or len(left) != states:
            raise ModelError(f"language model: {len(token)} arcs and {len(left)} states, expected {arcs} and {states}")
        if not torch.equal(token[: self.vocab_size].long(), torch.arange(self.vocab_size)):
            raise ModelError("language model: the empty context must have one arc for each token")

    def _link(self, source: Tensor, children: Tensor, left: Tensor) -> None:
        """Scales each state's probabilities to a sum of one and finds where arcs and back-off lead, short to long."""
        target = torch.where(children > 0, (children > 0).cumsum(0), 0)
        first = 0  # the first state of a context length
        after = 1
        while first < after:
            arcs = slice(int(self._begin[first]), int(self._begin[after - 1] + self._count[after - 1]))
            state, token = source[arcs] - first, self._token[arcs]
            stored = self._log_prob[arcs].double().exp()
            rest = left[first:after].double().exp() if first else torch.zeros(1, dtype=torch.float64)
            total = rest.clone().index_add_(0, state, stored)
            self._log_prob[arcs] = (stored / total[state]).log().float()
            self._left[first:after] = (rest / total).log().float()
            if first:
                lower, reached = self._walk(self._lower[source[arcs]], token)
                unseen = 1 - torch.zeros_like(total).index_add_(0, state, lower.double().exp())
                self._back_off[first:after] = (rest / total / unseen.clamp(min=1e-6)).log().float()
            else:
                reached = torch.zeros_like(token)
            own = target[arcs]
            self._next[arcs] = torch.where(own > 0, own, reached)
            self._lower[own[own > 0]] = reached[own > 0]
            first, after = after, after + int((own > 0).sum())

    def _arc(self, state: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """The arc of each pair, and whether there is one."""
        key = state * self.vocab_size + token
        arc = torch.searchsorted(self._key, key).clamp(max=len(self._key) - 1)
        return arc, self._key[arc] == key

    def _walk(self, state: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
        """log P(token | state) and the next state, (N,) each, down the back-off chain."""
        arc, found = self._arc(state, token)
        skipped = torch.zeros_like(self._log_prob[arc])
        for _ in range(self.order):
            if bool(found.all()):
                break
            skipped = skipped + torch.where(found, 0.0, self._back_off[state])
            state = torch.where(found, state, self._lower[state])
            arc, found = self._arc(state, token)
        return skipped + self._log_prob[arc], self._next[arc]

    @property
    def start(self) -> int:
        """The state at the beginning of a text."""
        return int(self._next[self.blank])

    def scores(self, state: Tensor) -> Tensor:
        """(N,) int64 states → (N, V) float32 natural log P(token | state); the blank's column is 0.

        A row depends on nothing but its state: the same bits whatever else is in the batch.
        """
        chain = [state]
        for _ in range(self.order - 2):
            chain.append(self._lower[chain[-1]])
        context = torch.stack(chain[::-1], 1)  # (N, C), shortest first; the empty one, which is dense, is skipped
        arcs = torch.where(context > 0, self._count[context], 0).flatten()
        back_off = torch.where(context > 0, self._back_off[context], 0.0)
        skipped = back_off.flip(1).cumsum(1).flip(1)  # by what a context's own weight and the longer ones' add up to
        of = torch.repeat_interleave(torch.arange(len(arcs), device=state.device), arcs)
        rank = torch.arange(len(of), device=state.device)
        arc = (self._begin[context].flatten() - arcs.cumsum(0) + arcs)[of] + rank
        cell = of // context.shape[1] * self.vocab_size + self._token[arc]
        scores = (self._log_prob[: self.vocab_size] + skipped[:, :1]).flatten()
        # of several arcs for a token the longest context's counts, which is the last
        last = torch.full_like(scores, -1, dtype=torch.int64).scatter_reduce(0, cell, rank, "amax")
        known = last >= 0
        seen = self._log_prob[arc] + (skipped - back_off).flatten()[of]
        if len(seen):
            scores = torch.where(known, seen[last.clamp(min=0)], scores)
        scores = scores.unflatten(0, (len(state), self.vocab_size))
        scores[:, self.blank] = 0.0
        return scores

    def advance(self, state: Tensor, token: Tensor) -> Tensor:
        """(N,) states and the (N,) tokens that they read → (N,) states."""
        return self._walk(state, token)[1]

    def final(self, state: Tensor) -> Tensor:
        """(N,) states → (N,) float32 log P(the text ends here | state)."""
        return self._walk(state, torch.full_like(state, self.blank))[0]

    def score(self, tokens: Sequence[int]) -> float:
        """Natural log P of a whole text, its end included."""
        return self.score_texts([tokens])[0]

    def score_texts(self, texts: Sequence[Sequence[int]]) -> list[float]:
        """`score` of each text, in one batch."""
        device = self._token.device
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
            return (log / -STEP).round().clamp(0, 255).to(torch.uint8).cpu()

        arrays = {
            "token": self._token.to(width).cpu(),
            "log_prob": rounded(self._log_prob),
            "children": self._children.to(width).cpu(),
            "left": rounded(self._left),
        }
        save_file(arrays, folder / "ngram.safetensors")
        names = ("version", "order", "vocab_size", "blank", "tokens_hash", "weight", "token_bonus")
        config = {name: getattr(self, name) for name in names}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def hash_tokens(tokenizer: Tokenizer) -> str:
    """SHA-256 of tokens.model."""
    return hashlib.sha256(tokenizer.proto).hexdigest()
