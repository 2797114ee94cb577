"""Lists of texts of dev recordings with each model's own score, to fit weights to; kept in a file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from asr.audio import read_container
from asr.errors import ModelError
from asr.evaluation.manifest import Utterance
from asr.evaluation.recordings import AudioReader
from asr.evaluation.wer import align, count
from asr.recognition.recognizer import Recognizer

NBEST = 20


@dataclass(frozen=True)
class Candidate:
    """A text with its scores, nats, unweighted. transducer, ctc, language, attention: log-probabilities. tokens: of the
    acoustic model's."""

    text: str
    transducer: float
    ctc: float
    language: float
    attention: float
    tokens: int


@dataclass(frozen=True)
class TextList:
    """An utterance's texts, as the recogniser ranked them."""

    id: str
    set: str
    reference: str
    candidates: tuple[Candidate, ...]

    @property
    def errors(self) -> list[int]:
        """Word errors of each text."""
        return [count(align(self.reference, c.text)).total for c in self.candidates]

    @property
    def words(self) -> int:
        """Of the reference."""
        return count(align(self.reference, "")).words


def recognise(recognizer: Recognizer, audio: AudioReader, utterance: Utterance) -> TextList:
    samples, rate = read_container(audio.read(utterance.audio))
    result = recognizer.recognize(samples, rate, NBEST)
    found = [h for h in result.nbest if h.text or len(result.nbest) == 1]
    ctc = [0.0] * len(found)
    if result.encoded is not None:
        ctc = recognizer.model.ctc_scores(result.encoded.frames, [h.tokens for h in found]).tolist()
    weights, least = recognizer.weights, result.encoded.score_floor if result.encoded else -math.inf
    candidates = []
    for h, c in zip(found, ctc, strict=True):
        language = (h.language - weights.token_bonus * len(h.tokens)) / (weights.language or 1.0)
        raised = max(0.0, least - h.acoustic - h.language)
        attention = (h.attention - raised - weights.word_bonus * len(h.text.split())) / (weights.attention or 1.0)
        candidates.append(Candidate(h.text, h.acoustic - weights.ctc * c, c, language, attention, len(h.tokens)))
    return TextList(utterance.id, utterance.set, utterance.reference, tuple(candidates))


def text_lists(recognizer: Recognizer, utterances: Sequence[Utterance], file: Path | None = None) -> list[TextList]:
    """Of all utterances; those that stand in the file, made with the same models, are read there, the others are added.

    Raises:
        ModelError: the file was made with other models, or is none of these.
    """
    known = {} if file is None else {(x.set, x.id): x for x in _read(file, asdict(recognizer.models))}
    missing = [u for u in utterances if (u.set, u.id) not in known]
    with AudioReader() as audio:
        for utterance in track(missing, "listening", console=Console(stderr=True)):
            new = recognise(recognizer, audio, utterance)
            known[new.set, new.id] = new
            if file is not None:
                with file.open("a") as out:
                    out.write(json.dumps(asdict(new)) + "\n")
    return [known[u.set, u.id] for u in utterances]


def _read(file: Path, models: dict[str, str]) -> list[TextList]:
    if not file.exists():
        file.write_text(json.dumps(models) + "\n")
        return []
    try:
        made_with, *rows = (json.loads(line) for line in file.read_text().splitlines())
        lists = [
            TextList(row["id"], row["set"], row["reference"], tuple(Candidate(**c) for c in row["candidates"]))
            for row in rows
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: {error}; give another file for --lists") from error
    if made_with != models:
        raise ModelError(f"{file} was made with other models ({made_with}); give another file for --lists")
    return lists
