"""Is an answer heard whenever it begins? One-word recordings behind silence or noise of every length.

    python -m benchmarks.onsets WORDS.jsonl --from 3.4 --to 4.6 --step 0.02 --noise-db -60

Each recording is streamed behind a background that lasts from `--from` to `--to` seconds, in steps, and is followed by
`--tail` seconds of it. What was heard of the background alone is shared by all recordings. An answer that is heard
right at an onset of two seconds counts as lost where no final has it, and as changed where one says something else too.
"""

from __future__ import annotations

import copy
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from asr.audio import SAMPLE_RATE, Samples, read_at_16k
from asr.evaluation.jsonl import read_objects
from asr.evaluation.recordings import AudioReader, parse_audio
from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer, Stream, StreamOptions

REFERENCE_S = 2.0
_SHARED_S = 0.16  # how far apart the backgrounds are kept that recordings share


def background(seconds: float, noise_db: float | None) -> Samples:
    """(n,) silence, or white noise so many dB below full scale; a longer one begins with a shorter one."""
    size = round(seconds * SAMPLE_RATE)
    if noise_db is None:
        return np.zeros(size, np.float32)
    noise = np.random.default_rng(0).standard_normal(size)
    return (noise * 10 ** (noise_db / 20)).astype(np.float32)


def streams(recognizer: Recognizer, options: StreamOptions, quiet: Samples) -> list[Stream]:
    """A stream that has heard so many sixths of a second of the background, 0, 1, ..."""
    stream, step, found = recognizer.open(options), round(_SHARED_S * SAMPLE_RATE), []
    for at in range(0, len(quiet), step):
        found.append(_fork(stream))
        stream.accept(quiet[at : at + step])
    return found


def _fork(stream: Stream) -> Stream:
    """The same stream once more: its state is a value."""
    return copy.copy(stream)


def onsets(first: float, last: float, step: float) -> Iterator[float]:
    for i in range(round((last - first) / step) + 1):
        yield round(first + i * step, 4)


def main(
    words: Annotated[Path, typer.Argument(metavar="WORDS.jsonl", help="Recordings: {id, text, path}.")],
    first: Annotated[float, typer.Option("--from", min=0, help="First onset, seconds.")] = 0.0,
    last: Annotated[float, typer.Option("--to", min=0, help="Last onset, seconds.")] = 14.0,
    step: Annotated[float, typer.Option(min=0.001, help="Between onsets, seconds.")] = 0.02,
    tail: Annotated[float, typer.Option(min=0, help="Background behind the answer, seconds.")] = 1.5,
    noise_db: Annotated[float | None, typer.Option(max=0, help="Level of white noise; none: digital silence.")] = None,
    level_db: Annotated[float, typer.Option(max=0, help="By which the recordings are changed.")] = 0.0,
    single: Annotated[bool, typer.Option(help="Ask for a single utterance.")] = False,
    second_pass: Annotated[bool, typer.Option(help="With the second pass.")] = True,
    start_s: Annotated[
        float, typer.Option(min=0, help="The endpoint rule's start_s.")
    ] = EndpointRule.leading_silence_s,
) -> None:
    recognizer = Recognizer.load(second_pass=second_pass)
    options = StreamOptions(single_utterance=single, endpoint=EndpointRule(leading_silence_s=start_s))
    longest = max(last, REFERENCE_S) + tail + 30
    quiet = background(longest, noise_db)
    shared = streams(recognizer, options, quiet[: round((max(last, REFERENCE_S) + _SHARED_S) * SAMPLE_RATE)])
    lost, changed = Counter[float](), Counter[float]()
    known, lines = 0, list(read_objects(words))
    with AudioReader() as audio:
        for line in lines:
            word = read_at_16k(audio.read(parse_audio(line, words.parent))) * np.float32(10 ** (level_db / 20))

            def heard(onset: float, word: Samples = word) -> str:
                at = min(int(onset / _SHARED_S), len(shared) - 1)
                stream, begin = _fork(shared[at]), round(at * _SHARED_S * SAMPLE_RATE)
                end = round(onset * SAMPLE_RATE)
                sound = quiet[begin : end + len(word) + round(tail * SAMPLE_RATE)].copy()
                sound[end - begin : end - begin + len(word)] += word
                finals = [*stream.accept(sound), *stream.finish()]
                return " ".join(final.nbest[0].text for final in finals if final.nbest[0].text)

            if heard(REFERENCE_S) != line["text"]:
                continue
            known += 1
            for onset in onsets(first, last, step):
                said = heard(onset)
                if said != line["text"]:
                    kind = changed if line["text"] in said.split() else lost
                    kind[onset] += 1
                    print(f"{line['id']} at {onset:.3f} s: {said!r}, not {line['text']!r}", file=sys.stderr)
    for onset in onsets(first, last, step):
        if lost[onset] or changed[onset]:
            print(f"{onset:.3f} s: {lost[onset]} lost and {changed[onset]} changed of {known}")
    number = known * len(list(onsets(first, last, step)))
    print(f"{lost.total()} lost and {changed.total()} changed of {number}")


if __name__ == "__main__":
    typer.run(main)
