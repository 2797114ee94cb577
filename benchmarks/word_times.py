"""How far are word times from where words are? People's recordings, measured against other judges than the recogniser.

    python -m benchmarks.word_times words DEV.jsonl          # one word a recording, bounds by its energy
    python -m benchmarks.word_times sentences DEV.jsonl      # bounds by PocketSphinx's alignment of the transcript

`words` takes the recordings with a quiet background, alone and joined to streams with 0.15 to 1.5 s of digital silence
between them, which end utterances or do not. `sentences` takes PocketSphinx's bounds between words, and at its pauses
of 0.1 s and more the edges of the sound there: its own words end in the silence, 60 ms late in the median of one-word
recordings. Each line of what is printed: what was timed, the number of words, and the errors of their starts and ends,
ms: the median and 90th percentile of the distance, and the median with its sign (late is positive). "recognised": words
of the final result that the transcript has; "forced": the transcript, timed as the second pass and the context have
texts timed that the search did not find.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from asr.audio import SAMPLE_RATE, Samples, read_at_16k
from asr.evaluation.jsonl import read_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from asr.recognition.recognizer import Recognizer, StreamOptions
from asr.recognition.results import Result, Word

_STEP = SAMPLE_RATE // 200  # 5 ms
_BELOW_LOUDEST_DB, _ABOVE_BACKGROUND_DB = 35.0, 10.0  # of a word's sound
_LEAST_RANGE_DB = 32.0  # of a quiet recording
_CLOSURE_S = 0.1  # of silence inside a word, as before a plosive
_PAUSES_S = (0.15, 0.3, 0.5, 1.5)
_PAUSE_S = 0.1
_ABOVE_PAUSE_DB = 12.0  # sound of a word, over the quietest of a pause
_AROUND_S = 0.2  # that an edge of sound may be from PocketSphinx's
_CHUNK = SAMPLE_RATE // 10

app = typer.Typer(add_completion=False, help="Errors of word times on people's recordings.")


@dataclass(frozen=True)
class Said:
    """A word and where it is, seconds. after_pause, before_pause: whether its bounds are edges of sound."""

    text: str
    start_s: float
    end_s: float
    after_pause: bool = True
    before_pause: bool = True


@dataclass(frozen=True)
class Recording:
    """An utterance and what was said in it."""

    name: str
    text: str
    samples: Samples


def recordings(manifest: Path, most: int) -> Iterator[Recording]:
    with AudioReader() as audio:
        for line in list(read_objects(manifest))[:most]:
            samples = read_at_16k(audio.read(parse_audio(line, manifest.parent)))
            yield Recording(str(line["id"]), str(line["text"]), samples)


def energy_bounds(samples: Samples) -> tuple[float, float] | None:
    """Start and end of the sound around the loudest place, seconds; None: the background is not quiet, or the sound
    reaches to the recording's edge."""
    levels = _levels(samples)
    background, most = np.quantile(levels, 0.2), levels.max()
    if most - background < _LEAST_RANGE_DB:
        return None
    loud = np.flatnonzero(levels > max(most - _BELOW_LOUDEST_DB, background + _ABOVE_BACKGROUND_DB))
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > _CLOSURE_S * SAMPLE_RATE / _STEP) + 1)
    run = next(run for run in runs if run[0] <= levels.argmax() <= run[-1])
    if run[0] == 0 or run[-1] >= len(levels) - 1:
        return None
    return float(run[0] * _STEP / SAMPLE_RATE), float((run[-1] + 1) * _STEP / SAMPLE_RATE)


def _levels(samples: Samples) -> NDArray[np.float64]:
    """(n,) dB of every 5 ms, over 15 ms."""
    power = np.square(samples[: len(samples) // _STEP * _STEP].astype(np.float64)).reshape(-1, _STEP).mean(1)
    smooth: NDArray[np.float64] = np.convolve(power, np.full(3, 1 / 3), "same")
    return 10 * np.log10(smooth + 1e-12)


def pause_edges(levels: NDArray[np.float64], start_s: float, end_s: float) -> tuple[float | None, float | None]:
    """Where sound ends and begins again around a pause, seconds; None: not near by."""
    first, last = (min(max(round(s * SAMPLE_RATE / _STEP), 0), len(levels)) for s in (start_s, end_s))
    if last - first < 2:
        return None, None
    quietest = first + int(levels[first:last].argmin())
    loud = levels > levels[quietest] + _ABOVE_PAUSE_DB
    reach = round(_AROUND_S * SAMPLE_RATE / _STEP)
    before = [i for i in range(max(2, first - reach), quietest) if loud[i - 2 : i + 1].all()]
    behind = [i for i in range(quietest, min(len(loud) - 2, last + reach)) if loud[i : i + 3].all()]
    end = (before[-1] + 1) * _STEP / SAMPLE_RATE if before else None
    return end, behind[0] * _STEP / SAMPLE_RATE if behind else None


def joined(recordings: Sequence[Recording], seed: int, count: int = 4) -> tuple[Samples, list[Said]]:
    """Some recordings of one word with digital silence between them, and where the words are."""
    dice = np.random.default_rng(seed)
    pieces, said = [np.zeros(round(0.4 * SAMPLE_RATE), np.float32)], []
    for i in dice.choice(len(recordings), count, replace=False):
        begin_s = sum(map(len, pieces)) / SAMPLE_RATE
        start_s, end_s = energy_bounds(recordings[i].samples) or (0.0, 0.0)
        said.append(Said(recordings[i].text, begin_s + start_s, begin_s + end_s))
        pieces += [recordings[i].samples, np.zeros(round(dice.choice(_PAUSES_S) * SAMPLE_RATE), np.float32)]
    return np.concatenate(pieces), said


def sphinx_alignment(samples: Samples, text: str) -> list[Said] | None:
    """The words where PocketSphinx aligns them; None: it has not all in its dictionary, or finds no alignment."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", bestpath=False)
    if any(decoder.lookup_word(word) is None for word in text.split()):
        return None
    decoder.set_align_text(text)
    decoder.start_utt()
    decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return None
    frames = [(s.word, s.start_frame / 100, (s.end_frame + 1) / 100) for s in decoder.seg()]
    found = [(w.split("(")[0], a, b) for w, a, b in frames if w[0] not in "<["]
    if [w for w, _, _ in found] != text.split():
        return None
    return at_pauses(samples, found)


def at_pauses(samples: Samples, found: Sequence[tuple[str, float, float]]) -> list[Said]:
    """Aligned words (text, start, end), those beside a pause with the edges of the sound there."""
    levels, length_s = _levels(samples), len(samples) / SAMPLE_RATE
    before = [0.0, *(end for *_, end in found)]
    behind = [*(start for _, start, _ in found), length_s]
    edges = [
        pause_edges(levels, a, b) if b - a >= _PAUSE_S else (None, None) for a, b in zip(before, behind, strict=True)
    ]
    out = []
    for i, (text, start, end) in enumerate(found):
        at, until = edges[i][1], edges[i + 1][0]
        whole = (start if at is None else at, end if until is None else until)
        out.append(Said(text, *whole, at is not None, until is not None))
    return out


def streamed(recognizer: Recognizer, samples: Samples) -> list[Result]:
    """The final results of a stream with endpointing."""
    stream = recognizer.open(StreamOptions())
    found = [r for at in range(0, len(samples), _CHUNK) for r in stream.accept(samples[at : at + _CHUNK])]
    return [r for r in [*found, *stream.finish()] if r.is_final]


def matched(said: Sequence[Said], words: Sequence[Word]) -> list[tuple[Said, Word]]:
    """The words that both have, in order."""
    matcher = SequenceMatcher(a=[s.text for s in said], b=[w.text for w in words], autojunk=False)
    return [(said[a + i], words[b + i]) for a, b, size in matcher.get_matching_blocks() for i in range(size)]


def report(what: str, pairs: Iterable[tuple[Said, Word]]) -> None:
    found = list(pairs)
    starts = [1000 * (word.start_s - said.start_s) for said, word in found if said.after_pause]
    ends = [1000 * (word.end_s - said.end_s) for said, word in found if said.before_pause]
    print(f"{what:<34}{len(found):5} words   start {_errors(starts)}   end {_errors(ends)}")


def _errors(errors: Sequence[float]) -> str:
    if not errors:
        return "none"
    far = np.abs(errors)
    return f"{np.median(far):3.0f} p90 {np.quantile(far, 0.9):3.0f} ({np.median(errors):+.0f}) ms"


def forced(recognizer: Recognizer, result: Result, text: str) -> Sequence[Word]:
    """A text as the context's candidates are timed."""
    if result.encoded is None or recognizer.unspellable([text]):
        return ()
    return recognizer.force_score(result.encoded, [text])[0].words


Manifest = Annotated[Path, typer.Argument(metavar="DEV.jsonl", help="Recordings: {id, text, path} or shards.")]
Most = Annotated[int, typer.Option(help="Recordings of the list, at most.")]
SecondPass = Annotated[bool, typer.Option(help="With the second pass.")]


@app.command()
def words(
    manifest: Manifest,
    most: Most = 1000,
    streams: Annotated[int, typer.Option(help="Streams of joined words.")] = 40,
    second_pass: SecondPass = True,
) -> None:
    """Recordings of one word, and streams of them."""
    recognizer = Recognizer.load(second_pass=second_pass)
    kept = [r for r in recordings(manifest, most) if energy_bounds(r.samples)]
    alone, told = [], []
    for one in kept:
        bounds = energy_bounds(one.samples)
        if bounds is None:
            continue
        said = [Said(one.text, *bounds)]
        result = recognizer.recognize(one.samples)
        alone += matched(said, result.nbest[0].words)
        told += matched(said, forced(recognizer, result, one.text))
    report("one word, recognised", alone)
    report("one word, forced", told)
    found, utterances = [], 0
    for seed in range(streams):
        samples, where = joined(kept, seed)
        results = streamed(recognizer, samples)
        utterances += len(results)
        found += matched(where, [word for result in results for word in result.nbest[0].words])
    report(f"{streams} streams, {utterances} utterances", found)


@app.command()
def sentences(manifest: Manifest, most: Most = 60, second_pass: SecondPass = True) -> None:
    """Recordings of several words, as PocketSphinx aligns them."""
    recognizer = Recognizer.load(second_pass=second_pass)
    found, told = [], []
    for one in recordings(manifest, most):
        said = sphinx_alignment(one.samples, one.text)
        if said is None:
            continue
        result = recognizer.recognize(one.samples)
        found += matched(said, result.nbest[0].words)
        told += matched(said, forced(recognizer, result, one.text))
    for name, pairs in (("recognised", found), ("forced", told)):
        report(f"{name}, at pauses", pairs)
        report(f"{name}, all", [(replace(s, after_pause=True, before_pause=True), w) for s, w in pairs])


if __name__ == "__main__":
    app()
