"""Fits the rescorer's scorers to lists, and its margins to dev under the condition that no context does harm."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from asr.context.answer_tables import AnswerTables
from asr.context.features import Pool, pool_features
from asr.context.foreign_nbest import ListScorer, candidate_scores, distinct_texts, most_likely, rank_scores
from asr.context.model import ContextModel
from asr.context.phrase_index import PhraseIndex
from asr.context.rescorer import MAX_SCORED, is_silence
from asr.text.tokenizer import Tokenizer
from recipes.context.lists import ContextList

HARM_WEIGHT = {"relevant": 1.0, "confusable": 0.5, "irrelevant": 1.0, "anti": 1.0}
"""Conditions of training, with the weight of their lists. confusable: the right context, with another of its entries
exchanged for one that sounds like what is meant."""
HELPFUL = ("relevant", "confusable")
SET_WEIGHT = {("names", "anti"): 2.0}
"""Of a set's lists under a condition, on top; 1 where none is given. Else callers' names need a margin larger than is
good for follow-ups."""
RIGHT_WEIGHT = 2.0
"""Weight of a list whose plain 1-best is right: nothing may make it wrong."""
MARGINS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
"""Nats; none smaller, however little harm dev shows: dev is small."""
STARTS = (1, 2, 3)
"""Seeds of a scorer's fits: they differ by some points on dev, and one is selected there."""
FALSE_BIAS = 0.01
"""Share of the lists that a context may make wrong."""
WORSE = {"names": 0.02}
"""In its place, where given: share of a set's lists that a context may give more word errors, wrong before or not."""

WHOLE = {"names"}
"""Sets in which only a hypothesis without errors is better than what was heard: half a name is another person's."""


@dataclass(frozen=True)
class Example:
    """One list ready for the scorer. H hypotheses, the plain 1-best first.

    features (H, F), of_list (G,), limits (H,), base (H,): the score without context, errors (H,): word errors.
    """

    id: str
    set: str
    condition: str
    words: int
    texts: tuple[str, ...]
    features: Tensor
    of_list: Tensor
    limits: Tensor
    base: Tensor
    errors: Tensor


def word_errors(reference: str, text: str) -> int:
    """Levenshtein distance of words, as they are."""
    return Levenshtein.distance(reference.split(), text.split())


def example(item: ContextList, model: ContextModel, tokenizer: Tokenizer, tables: AnswerTables) -> Example:
    """A list as another recogniser's: ranks only."""
    texts = item.decoded.texts[:MAX_SCORED]
    values = rank_scores([0.0] * len(texts))
    acoustic = (*values, *candidate_scores(item.texts, texts, values))
    pool = Pool((*texts, *item.texts), acoustic, (0.0,) * len(acoustic),
                (*range(len(texts)), *([-1] * len(item.texts))), distinct_texts(texts))  # fmt: skip
    pool = pool.only([0] if is_silence(texts[0], None) else most_likely(pool))
    known = pool_features(pool, item.embedding, PhraseIndex(item.embedding.phrases), model, tokenizer, tables)
    row = item.decoded.row
    errors = torch.tensor([float(word_errors(row.text, t)) for t in pool.texts])
    return Example(
        row.id, row.set, item.condition, len(row.text.split()), pool.texts, known.rows, known.of_list, known.limits,
        torch.tensor(pool.base), errors,
    )  # fmt: skip


@dataclass(frozen=True)
class _Stack:
    features: Tensor
    of_list: Tensor
    limits: Tensor
    base: Tensor
    errors: Tensor
    weights: Tensor
    absent: Tensor


def _stack(examples: Sequence[Example], right_weight: float) -> _Stack:
    longest = max(len(e.texts) for e in examples)

    def pad(x: Tensor, value: float) -> Tensor:
        shape = (longest - len(x), *x.shape[1:])
        return torch.cat([x, torch.full(shape, value)])

    lengths = torch.tensor([len(e.texts) for e in examples])
    return _Stack(
        torch.stack([pad(e.features, 0.0) for e in examples]),
        torch.stack([e.of_list for e in examples]),
        torch.stack([pad(e.limits, 0.0) for e in examples]),
        torch.stack([pad(e.base, 0.0) for e in examples]),
        torch.stack([pad(_to_learn(e), 0.0) for e in examples]),
        torch.tensor([_weight(e, right_weight) for e in examples]),
        torch.arange(longest)[None, :] >= lengths[:, None],
    )


def _weight(e: Example, right_weight: float) -> float:
    weight = HARM_WEIGHT[e.condition] * SET_WEIGHT.get((e.set, e.condition), 1.0)
    return weight * (right_weight if e.errors[0] == 0 else 1.0)


def _to_learn(e: Example) -> Tensor:
    """Errors of each hypothesis (H,) as training counts them."""
    if e.set not in WHOLE:
        return e.errors
    return torch.where(e.errors == 0, 0.0, torch.maximum(e.errors, e.errors[0].clamp(min=1)))


def fit(
    examples: Sequence[Example], right_weight: float, *, steps: int = 1600, batch: int = 256, seed: int = 1
) -> ListScorer:
    """Minimum word error rate over lists, with a little cross-entropy towards the best hypothesis to begin with.

    right_weight: of a list whose plain 1-best is right.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    scorer = ListScorer()
    data = _stack(examples, right_weight)
    rows = data.features[~data.absent]
    scorer.mean.data = rows.mean(0)
    spread = rows.std(0)
    # what never varied here (no language model, say) must not count where it does
    scorer.scale.data = torch.where(spread > 1e-6, spread.clamp(min=0.05), 1e6)
    with torch.no_grad():
        torch.nn.init.constant_(cast(torch.nn.Linear, scorer.gate[2]).bias, 2.0)
    # an open gate that learns slowly: closed early, it would keep the value network from learning when to speak
    learning = [(scorer.gate.parameters(), 1e-3), ([*scorer.linear.parameters(), *scorer.value.parameters()], 6e-3)]
    optimiser = torch.optim.AdamW([{"params": list(p), "lr": lr} for p, lr in learning], weight_decay=0.05)
    places = list(range(len(examples)))
    for step in range(steps):
        for group, (_, lr) in zip(optimiser.param_groups, learning, strict=True):
            group["lr"] = lr * (1 - step / steps)
        chosen = torch.tensor(rng.sample(places, min(batch, len(places))))
        loss = _loss(scorer, data, chosen, mix=max(0.1, 0.7 - step / steps))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(scorer.parameters(), 1.0)
        optimiser.step()
    return scorer.eval()


def _loss(scorer: ListScorer, data: _Stack, chosen: Tensor, mix: float) -> Tensor:
    absent = data.absent[chosen]
    total = data.base[chosen] + scorer(data.features[chosen], data.of_list[chosen], data.limits[chosen])
    logp = total.masked_fill(absent, -1e4).log_softmax(1)
    errors = data.errors[chosen]
    risk = (logp.exp() * (errors - errors[:, :1]) * ~absent).sum(1)
    least = errors.masked_fill(absent, 1e4).min(1, keepdim=True).values
    best = (errors == least) & ~absent
    entropy = -(logp.masked_fill(~best, -1e4)).logsumexp(1)
    loss: Tensor = ((risk + mix * entropy) * data.weights[chosen]).mean()
    return loss


def choose(examples: Sequence[Example], scorer: ListScorer, margin: float) -> list[int]:
    """Place of the hypothesis that wins each list."""
    return _winners(_totals(examples, scorer), margin)


@torch.inference_mode()
def _totals(examples: Sequence[Example], scorer: ListScorer) -> list[Tensor]:
    """The scores of each list's hypotheses, context included."""
    return [e.base + scorer(e.features, e.of_list, e.limits) for e in examples]


def _winners(totals: Sequence[Tensor], margin: float) -> list[int]:
    firsts = [int(total.argmax()) for total in totals]
    return [first if total[first] > total[0] + margin else 0 for first, total in zip(firsts, totals, strict=True)]


@dataclass(frozen=True)
class Outcome:
    """One condition's word errors before and after, and words; utterances that only the context made wrong
    (false_bias), and those to which it gave more errors (worse)."""

    plain: float
    rescored: float
    words: int
    false_bias: int
    worse: int
    utterances: int

    @property
    def relative(self) -> float:
        return self.rescored / max(1.0, self.plain) - 1.0


def outcome(examples: Sequence[Example], chosen: Sequence[int]) -> Outcome:
    pairs = [(float(e.errors[0]), float(e.errors[c])) for e, c in zip(examples, chosen, strict=True)]
    return Outcome(
        sum(p for p, _ in pairs),
        sum(r for _, r in pairs),
        sum(e.words for e in examples),
        sum(p == 0 and r > 0 for p, r in pairs),
        sum(r > p for p, r in pairs),
        len(examples),
    )


@dataclass(frozen=True)
class Judged:
    """Lists, and the scores of their hypotheses by a scorer that did not learn from them."""

    lists: Sequence[Example]
    totals: Sequence[Tensor]

    def choose(self, margin: float) -> list[int]:
        """Place of the hypothesis that wins each list."""
        return _winners(self.totals, margin)


def cross_fit(parts: Sequence[Sequence[Example]], others: Sequence[Example], right_weight: float) -> Judged:
    """The lists of all parts, each scored by a fit to the other parts and to `others`: where lists are few, all of them
    can be learned from and still say how much harm is done to those that were not."""
    lists: list[Example] = []
    totals: list[Tensor] = []
    for place, part in enumerate(parts):
        rest = [e for other in (*parts[:place], *parts[place + 1 :]) for e in other]
        lists += part
        totals += _totals(part, fit([*others, *rest], right_weight, seed=STARTS[0]))
    return Judged(lists, totals)


def select(
    scorers: Sequence[ListScorer], groups: Sequence[Sequence[Example]], held_out: Sequence[Judged] = ()
) -> tuple[ListScorer, float]:
    """Of fits from different starts, and of margins, those with the fewest errors on relevant contexts under which no
    other context does harm: at most +1% errors, and made wrong at most what FALSE_BIAS and WORSE say, under each
    condition in each group of dev lists. The largest margin where there are none.

    held_out: lists that have been scored already: they have a say in the margin alone.
    """
    weighed = [[*held_out, *(Judged(dev, _totals(dev, scorer)) for dev in groups)] for scorer in scorers]
    tried = [
        (sum(_left(judged.lists, judged.choose(margin)) for judged in of_scorer), place, margin)
        for place, of_scorer in enumerate(weighed)
        for margin in MARGINS
    ]
    errors, place, margin = min(tried)
    return (scorers[place], margin) if errors < math.inf else (scorers[0], MARGINS[-1])


def _left(dev: Sequence[Example], chosen: Sequence[int]) -> float:
    """Share of the errors that relevant contexts leave; infinite where other contexts do harm."""
    by, worse = {}, WORSE.get(dev[0].set)
    for condition in HARM_WEIGHT:
        picked = [i for i, e in enumerate(dev) if e.condition == condition]
        by[condition] = outcome([dev[i] for i in picked], [chosen[i] for i in picked])
    made_wrong = all(
        o.false_bias <= FALSE_BIAS * o.utterances if worse is None else o.worse <= worse * o.utterances
        for o in by.values()
    )
    harmless = made_wrong and all(o.relative <= 0.01 for c, o in by.items() if c not in HELPFUL and o.utterances)
    return by["relevant"].relative + 1.0 if harmless else math.inf
