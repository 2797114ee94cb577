"""A tiny recogniser's view of recordings made here, and a context model that likes whole phrases."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from asr.acoustic import Transducer
from asr.audio import Samples
from asr.context import ContextEncoder, Rescorer
from asr.context.answer_tables import AnswerTables
from asr.context.checkpoint import ContextModels
from asr.context.evidence import EVIDENCE
from asr.context.features import FEATURES
from asr.context.foreign_nbest import ListScorer, TextListScorer
from asr.context.model import ContextModel, ContextModelConfig
from asr.fitted import RescorerConstants
from asr.recognition.recognizer import Recognizer
from asr.text.tokenizer import Tokenizer


@pytest.fixture(scope="session")
def tiny_recognizer(tiny_model: Transducer, tiny_tokenizer: Tokenizer) -> Recognizer:
    """Hears different words in different recordings."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.ctc_out.weight *= 20
        model.join_out.bias[model.blank] += 1.0
    return Recognizer(model, tiny_tokenizer, beam=6, version="tiny", ctc_weight=0.0, second_pass=False)


@pytest.fixture(scope="session")
def context_parts(tiny_tokenizer: Tokenizer) -> ContextModels:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = ContextModel(ContextModelConfig(tiny_tokenizer.vocab_size, dim=16, heads=2)).eval()
    scorer = ListScorer()
    with torch.no_grad():
        for parameter in (scorer.linear.weight, *scorer.value.parameters(), *scorer.gate.parameters()):
            parameter.zero_()
        cast(nn.Linear, scorer.gate[2]).bias.fill_(30.0)
        scorer.linear.weight[0, FEATURES.index("full")] = 30.0
    likes = tuple({"whole": 5.0, "acoustic": 5.0}.get(name, 0.0) for name in EVIDENCE)
    constants = RescorerConstants(likes, likes, 5.0)
    rescorer = Rescorer(TextListScorer(network, tiny_tokenizer, AnswerTables(), scorer, constants), "tiny-1")
    return ContextModels(ContextEncoder(network, tiny_tokenizer, "tiny-1"), rescorer)


@pytest.fixture(scope="session")
def second_readings(tiny_recognizer: Recognizer, speech: Samples) -> list[str]:
    """For each of four recordings, what the recogniser holds second likeliest."""
    return [tiny_recognizer.recognize(samples).nbest[1].text for samples in recordings(speech)]


def recordings(speech: Samples) -> list[Samples]:
    return [np.ascontiguousarray(speech[start : start + 20_000]) for start in (2_000, 12_000, 19_000, 27_000)]


@pytest.fixture
def manifest(tmp_path: Path, speech: Samples, second_readings: list[str]) -> Path:
    """Four utterances; the second reading is the truth and in the context of the first three."""
    lines: list[dict[str, Any]] = []
    for i, (samples, text) in enumerate(zip(recordings(speech), second_readings, strict=True)):
        soundfile.write(tmp_path / f"{i}.wav", samples, 16_000, subtype="FLOAT")
        entities = [{"signal": "contacts", "text": text}, {"signal": "places", "text": f"Nowhere {i}"}] if i < 3 else []
        context = {"turns": [{"speaker": "system", "text": "Who <b>is</b> it?"}] if i < 3 else [], "entities": entities}
        lines.append({
            "id": f"u{i}", "audio": {"path": f"{i}.wav"}, "text": text, "set": "ab"[i % 2], "target": text,
            "context": context,
        })  # fmt: skip
    path = tmp_path / "manifest.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
