"""Measure the beam search beside torchaudio's, and what phrases cost it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from asr.audio import read_container
from asr.commands.terminal import check_writable, console, give_up, report, track
from asr.decoding import BEAM, BeamSearch, BoostedPhrase, PhraseCompiler, PhraseGraph
from asr.errors import AsrError, ManifestError
from asr.evaluation.manifest import Utterance, read_manifest
from asr.evaluation.plots import Bar, bars
from asr.evaluation.recordings import AudioPlace, AudioReader
from asr.evaluation.run import recognise
from asr.evaluation.statistics import Interval
from asr.evaluation.wer import Errors, align, count
from asr.pairing import load_torchaudio
from asr.recognition.recognizer import Recognizer
from asr.text import normalize
from benchmarks.search.torchaudio_peer import TorchaudioSearch

DEMO = Path(__file__).parents[2] / "server" / "demo" / "audio"
KINDS = (".flac", ".wav", ".ogg", ".opus")
SIZES = (0, 100, 1000, 10000)
THEIRS = "RNNTBeamSearch"
WITH_LANGUAGE = "language "
"""In front of a number of phrases: the search as a recogniser has it, with the language model."""

app = typer.Typer(add_completion=False)


@dataclass
class Measured:
    """A search over all utterances: the least processor seconds of each, and its word errors."""

    seconds: list[float] = field(default_factory=list)
    errors: Errors = field(default_factory=Errors)

    def rtf(self, audio_s: float) -> float:
        return round(sum(self.seconds) / audio_s, 6)

    @property
    def wer(self) -> float | None:
        return _rate(self.errors)


@dataclass(frozen=True)
class Encoded:
    """An utterance's encoder output (T, J), its reference, its length, and what recognising it took, all in all."""

    encoded: torch.Tensor
    text: str
    seconds: float
    processor_s: float = 0.0


Search = Callable[[torch.Tensor], Sequence[int]]


def find_audio(source: Path | None) -> list[Utterance]:
    """The utterances of a manifest or of a folder; None: the project's own recordings.

    In a folder the text of NAME.flac (.wav, .ogg, .opus) is in NAME.txt, or else is its name with _ for the spaces.

    Raises:
        ManifestError: nothing usable there.
    """
    if source is not None and not source.is_dir():
        utterances, problems = read_manifest(source)
        report(source, problems)
        return utterances
    files = sorted(f for f in (source or DEMO).glob("*") if f.suffix.lower() in KINDS)
    if not files:
        raise ManifestError(f"{source or DEMO} holds no audio; give a manifest or a folder of {', '.join(KINDS)} files")
    return [Utterance(f.name, AudioPlace(f), _text_of(f)) for f in files]


def _text_of(file: Path) -> str:
    beside = file.with_suffix(".txt")
    return normalize(beside.read_text(encoding="utf-8") if beside.exists() else file.stem.replace("_", " "))


def encode(recognizer: Recognizer, utterances: Sequence[Utterance]) -> Iterator[Encoded]:
    """What the encoder makes of each, streamed as the server does it."""
    with AudioReader() as files:
        for utterance in utterances:
            samples, rate = read_container(files.read(utterance.audio))
            started = time.process_time()
            encoded = recognise(recognizer, samples, rate, 1).encoded
            took = time.process_time() - started
            if encoded is not None:
                yield Encoded(encoded.frames, utterance.text, len(samples) / rate, took)


def names(number: int, seed: int = 0) -> list[str]:
    """Different pronounceable names of one or two words, none of them meant by anybody."""
    rng = np.random.default_rng(seed)
    parts = [c + v for c in "bdfghjklmnprstvwz" for v in "aeiou"] + ["an", "er", "in", "on", "el", "sh", "ck", "th"]
    found: dict[str, None] = {}
    while len(found) < number:
        words = ["".join(rng.choice(parts, rng.integers(2, 4))) for _ in range(rng.integers(1, 3))]
        found[" ".join(words)] = None
    return list(found)


def compile_timed(recognizer: Recognizer, number: int, weight: float) -> tuple[PhraseGraph, float]:
    """The graph of so many names, and the least milliseconds of processor time of five runs (two of the longest)."""
    phrases = [BoostedPhrase(name, weight) for name in names(number)]
    least = float("inf")
    for _ in range(5 if number <= 1000 else 2):
        compiler = PhraseCompiler(recognizer.tokenizer)
        started = time.process_time()
        graph = compiler.compile(phrases)
        least = min(least, time.process_time() - started)
    return graph, round(1000 * least, 2)


def with_graph(search: BeamSearch, graph: PhraseGraph | None) -> Search:
    def best(encoded: torch.Tensor) -> Sequence[int]:
        return search.nbest(search.step(encoded[None], search.start(1), [graph]), 0)[0].tokens

    return best


@torch.inference_mode()
def measure(
    searches: dict[str, Search], rows: Sequence[Encoded], recognizer: Recognizer, rounds: int
) -> dict[str, Measured]:
    """Each search on each utterance in turn, so that what else the machine does meets all alike."""
    found = {name: Measured() for name in searches}
    for search in searches.values():
        search(rows[0].encoded)  # first calls allocate
    for utterance in track(rows, len(rows), "searching"):
        for round_number in range(rounds):
            for name, search in searches.items():
                started = time.process_time()
                tokens = search(utterance.encoded)
                seconds = time.process_time() - started
                result = found[name]
                if round_number:
                    result.seconds[-1] = min(result.seconds[-1], seconds)
                    continue
                result.seconds.append(seconds)
                result.errors += count(align(utterance.text, recognizer.tokenizer.decode(tokens)))
    return found


def _rate(errors: Errors) -> float | None:
    return round(errors.rate, 4) if errors.words else None


def results(
    found: dict[str, Measured], compile_ms: dict[int, float], audio_s: float, settings: dict[str, Any]
) -> dict[str, Any]:
    """The JSON: what was measured, and with what."""
    theirs, ours = found[THEIRS], found["0"]
    rows = {name: {"rtf": one.rtf(audio_s), "wer": one.wer} for name, one in found.items()}
    phrases: dict[str, Any] = {str(size): rows[str(size)] for size in SIZES}
    for size, took in compile_ms.items():
        phrases[str(size)]["compile_ms"] = took
    return {
        **settings,
        "audio_s": round(audio_s, 1),
        "rnnt_beam_search": rows[THEIRS],
        "ours": {"rtf": rows["0"]["rtf"], "wer": rows["0"]["wer"]},
        "speedup": round(sum(theirs.seconds) / sum(ours.seconds), 2),
        "phrases": phrases,
        "with_language": {str(size): rows[f"{WITH_LANGUAGE}{size}"] for size in SIZES},
    }


def _table(values: dict[str, Any]) -> Table:
    table = Table("search", "real-time factor", "WER", "compiling")
    rows = [(THEIRS, values["rnnt_beam_search"]), ("ours", values["ours"])]
    rows += [(f"ours, {size} phrases", values["phrases"][str(size)]) for size in SIZES[1:]]
    for size, row in values["with_language"].items():
        rows.append((f"ours, language model{f', {size} phrases' if int(size) else ''}", row))
    for name, row in rows:
        wer = "" if row["wer"] is None else f"{100 * row['wer']:.1f}%"
        compiling = f"{row['compile_ms']:.0f} ms" if "compile_ms" in row else ""
        table.add_row(name, f"{row['rtf']:.5f}", wer, compiling)
    table.add_row("features, encoder, search with language model", f"{values['recognizer']['rtf']:.5f}", "", "")
    return table


def plot(values: dict[str, Any]) -> str:
    """The real-time factors as an SVG file."""
    rows = [(THEIRS, "theirs", values["rnnt_beam_search"]["rtf"])]
    rows += [("ours" if not n else f"ours, {n} phrases", "ours", values["phrases"][str(n)]["rtf"]) for n in SIZES]
    none = float("nan")
    drawn = bars(
        [Bar(name, [(kind, rtf)], Interval(rtf, none, none), f"{100 * rtf:.2f}%") for name, kind, rtf in rows],
        f"processor time of the search, of the audio's; beam {values['beam']}, one thread",
    )
    style = (
        "<style>text{font:14px sans-serif;fill:#333}.grid{stroke:#ddd}.theirs{fill:#b8b8b8}.ours{fill:#2a6fb0}</style>"
        '<rect width="100%" height="100%" fill="#fff"/>'
    )
    head, body = drawn.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}\n'


@app.command()
def main(
    audio: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A manifest or a folder of recordings; without: the project's own."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many utterances, from all of them evenly.")] = None,
    beam: Annotated[int, typer.Option(min=1, help="Hypotheses that both searches keep.")] = BEAM,
    rounds: Annotated[int, typer.Option(min=1, help="Times each utterance is searched; the fastest counts.")] = 3,
    weight: Annotated[float, typer.Option(help="Nats of each phrase.")] = BoostedPhrase("").weight,
    token_bonus: Annotated[
        float,
        typer.Option(help="Nats for each token in our search; torchaudio's divides scores by the length instead."),
    ] = 0.0,
    silence: Annotated[
        float,
        typer.Option(help="Our search passes frames over whose blank is likelier than this; 1: none."),
    ] = 0.99,
    model: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Without: the shipped one.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw them here.")] = None,
) -> None:
    """Search the same encoder output with torchaudio's RNNTBeamSearch and with ours, on one thread.

    Phrases are made-up names that nobody says: what they cost, and what they spoil, beside a plain search and beside
    one with the language model, as a recogniser has it. Times are the process's own on the processor, without the
    encoder, the least of --rounds; the whole recogniser is timed once. Prints a table, and JSON without --json.
    """
    try:
        check_writable(json_file, plot_file)
        load_torchaudio()
        torch.set_num_threads(1)
        recognizer = Recognizer.load(model, beam=beam)
        utterances = find_audio(audio)
        if limit is not None and limit < len(utterances):
            utterances = [utterances[i * len(utterances) // limit] for i in range(limit)]
        rows = list(track(encode(recognizer, utterances), len(utterances), "encoding"))
    except (AsrError, OSError) as error:
        give_up(error)
    search = BeamSearch(recognizer.model, beam, token_bonus=token_bonus, blank_threshold=silence)
    searches: dict[str, Search] = {
        THEIRS: TorchaudioSearch(recognizer.model, beam, search.max_symbols).best,
        "0": with_graph(search, None),
        f"{WITH_LANGUAGE}0": with_graph(recognizer.search, None),
    }
    compile_ms: dict[int, float] = {}
    for size in track(SIZES[1:], len(SIZES) - 1, "compiling"):
        graph, compile_ms[size] = compile_timed(recognizer, size, weight)
        searches[str(size)] = with_graph(search, graph)
        searches[f"{WITH_LANGUAGE}{size}"] = with_graph(recognizer.search, graph)
    found = measure(searches, rows, recognizer, rounds)
    settings = {
        "beam": beam, "model": recognizer.version, "utterances": len(rows), "weight": weight,
        "token_bonus": token_bonus, "rounds": rounds, "silence": silence,
    }  # fmt: skip
    values = results(found, compile_ms, sum(h.seconds for h in rows), settings)
    values["recognizer"] = {"rtf": round(sum(h.processor_s for h in rows) / sum(h.seconds for h in rows), 6)}
    console.print(_table(values))
    if plot_file:
        plot_file.write_text(plot(values), encoding="utf-8")
    if json_file:
        json_file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    else:
        Console(highlight=False).print_json(json.dumps(values))


if __name__ == "__main__":
    app()
