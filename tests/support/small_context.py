"""A context model with random weights and a rescorer whose taste is set by hand: it likes whole phrases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest
import torch
from torch import nn

from asr.context import ContextEncoder, Rescorer
from asr.context.answer_tables import AnswerTables
from asr.context.evidence import EVIDENCE
from asr.context.features import FEATURES
from asr.context.foreign_nbest import ListScorer, TextListScorer
from asr.context.model import ContextModel, ContextModelConfig
from asr.context.phonetics import distance, phones
from asr.context.rescorer import ForceScore
from asr.fitted import RescorerConstants
from asr.recognition.results import Hypothesis
from asr.text.tokenizer import Tokenizer

_WEIGHTS = {"constant": 4.0, "acoustic": 12.0, "language": 1.0, "attention": 1.0, "unlike": -1.0, "offered": 1.0,
            "strange": -0.5}  # fmt: skip
_BY_HAND = tuple(_WEIGHTS.get(name, 0.0) for name in EVIDENCE)
CONSTANTS = RescorerConstants(_BY_HAND, _BY_HAND, 0.5)


@pytest.fixture(scope="session")
def network(tiny_tokenizer: Tokenizer) -> ContextModel:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        return ContextModel(ContextModelConfig(tiny_tokenizer.vocab_size, dim=16, heads=2)).eval()


@pytest.fixture(scope="session")
def encoder(network: ContextModel, tiny_tokenizer: Tokenizer) -> ContextEncoder:
    return ContextEncoder(network, tiny_tokenizer, "tiny-1")


def scorer_that_likes(**weights: float) -> ListScorer:
    """A list scorer with these weights of features and nothing else, its gate open."""
    scorer = ListScorer()
    with torch.no_grad():
        for parameter in (scorer.linear.weight, *scorer.value.parameters(), *scorer.gate.parameters()):
            parameter.zero_()
        cast(nn.Linear, scorer.gate[2]).bias.fill_(30.0)
        for name, weight in weights.items():
            scorer.linear.weight[0, FEATURES.index(name)] = weight
    return scorer


@pytest.fixture(scope="session")
def likes() -> Callable[..., ListScorer]:
    return scorer_that_likes


@pytest.fixture(scope="session")
def tables() -> AnswerTables:
    carriers = {("", ""): -0.5, ("", "please"): -2.0, ("i mean", ""): -3.0, ("play", ""): -3.0}
    return AnswerTables(carriers, {"which": {"the second one": -2.0}, "yes_no": {"yes": -1.0, "no": -1.0}})


@pytest.fixture(scope="session")
def rescorer(network: ContextModel, tiny_tokenizer: Tokenizer, tables: AnswerTables) -> Rescorer:
    scorer = scorer_that_likes(full=8.0, last=4.0, first=3.0)
    return Rescorer(TextListScorer(network, tiny_tokenizer, tables, scorer, CONSTANTS), "tiny-1")


@pytest.fixture
def sounds_like() -> Callable[[str], ForceScore]:
    """A recogniser's forced scoring of someone who says the given text: three nats for each unit of distance."""

    def of(said: str) -> ForceScore:
        def force_score(texts: Sequence[str]) -> list[Hypothesis]:
            return [Hypothesis(t, -3.0 * distance(phones(t), phones(said)) - 5.0) for t in texts]

        return force_score

    return of
