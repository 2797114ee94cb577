"""Streams a file, or the microphone, to a server and shows what it understands while it does."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from asr.audio import read_container
from asr.errors import AudioError
from carryover import Audio, CarryoverError, ChangeRequestError, Final, LikelyFinal, RetryLaterError, aio
from carryover.audio import linear16
from carryover.microphone import Microphone

app = typer.Typer(add_completion=False)
_err = Console(stderr=True)


@app.command()
def main(
    file: Annotated[str, typer.Argument(help="WAV, FLAC or Ogg file; '-' is the microphone (Ctrl-C ends it).")] = "-",
    server: Annotated[
        str, typer.Option(help="HOST:PORT of the server, or a gRPC target with several of them.")
    ] = "127.0.0.1:50051",
    dialogue: Annotated[str, typer.Option(help="Dialogue whose context the turn is recognised with.")] = "",
    turn: Annotated[str, typer.Option(help="This turn's id, with --dialogue.")] = "",
    fast: Annotated[bool, typer.Option("--fast", help="As fast as the server takes it, instead of real time.")] = False,
    nbest: Annotated[int, typer.Option(help="Alternatives to show.", min=1, max=32)] = 1,
    microphone: Annotated[bool, typer.Option("--microphone", help="Listen to the microphone.")] = False,
    phrase: Annotated[list[str] | None, typer.Option(help="A phrase that is expected; may be repeated.")] = None,
    ca: Annotated[
        Path | None, typer.Option(envvar="CARRYOVER_CLIENT_CA", help="PEM file: who signed the server's certificate.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(envvar="CARRYOVER_CLIENT_KEY_FILE", help="File that holds the bearer key.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(envvar="CARRYOVER_CLIENT_CERTIFICATE", help="PEM file: the client's certificate.")
    ] = None,
    certificate_key: Annotated[
        Path | None, typer.Option(envvar="CARRYOVER_CLIENT_CERTIFICATE_KEY", help="PEM file: its private key.")
    ] = None,
    written: Annotated[
        bool, typer.Option("--written", help="Final results cased, punctuated, with numbers as digits.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a final result on standard output.")] = False,
) -> None:
    """Recognise FILE with live partial results on standard error and final ones on standard output."""
    source = None if microphone or file == "-" else Path(file)
    options: dict[str, Any] = {
        "dialogue": dialogue, "turn": turn, "max_alternatives": nbest, "word_times": True, "phrases": phrase or (),
        "automatic_punctuation": written, "real_time": source is not None and not fast,
    }  # fmt: skip
    key = _read_key(key_file) if key_file else None
    try:
        client = aio.Client(server, key=key, ca=ca, certificate=certificate, certificate_key=certificate_key)
    except ChangeRequestError as error:
        _end(f"{error} (the options are --ca, --key-file, --certificate and --certificate-key)")
    try:
        asyncio.run(_run(client, source, options, as_json=as_json))
    except AudioError as error:
        _end(f"{source}: {error}")
    except RetryLaterError as error:
        if error.request_id is not None:
            _end(f"{error.code}: {error}")
        advice = f"no server answers at {server}; start one with scripts/serve, or name another by --server"
        _end(advice if ca else f"{advice} (one with TLS needs --ca)")
    except CarryoverError as error:
        _end(f"{error.code}: {error}" if error.code else str(error))
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _end(problem: str) -> NoReturn:
    typer.echo(f"stream_client: {problem}", err=True)
    raise typer.Exit(2)


def _read_key(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError as error:
        _end(f"--key-file: {file} cannot be read ({error.strerror})")


async def _run(client: aio.Client, source: Path | None, options: dict[str, Any], *, as_json: bool) -> None:
    audio: Audio | Microphone
    if source is None:
        audio = Microphone()
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, audio.stop)  # the last words still get a result
    else:
        samples, rate = read_container(source)
        audio = Audio(linear16(samples), rate)
    async with client, client.stream(audio, **options) as results:
        with Live(console=_err, refresh_per_second=10, transient=True) as live:
            async for result in results:
                open_end = not isinstance(result, LikelyFinal)
                text = "" if isinstance(result, Final) else "… " * open_end + result.transcript
                live.update(Text(text, style="dim" * open_end))
                if isinstance(result, Final):
                    typer.echo(_as_json(result) if as_json else _as_text(result))
        for rejected in results.phrase_report.rejected if results.phrase_report else ():
            _err.print(f"phrase {rejected.phrase!r} is not used: {rejected.reason}", soft_wrap=True)


def _as_json(result: Final) -> str:
    best = result.alternatives[0]
    return json.dumps(
        {
            "transcript": best.transcript,
            "confidence": round(best.confidence, 4),
            "start": round(result.start_s, 3),
            "end": round(result.end_s, 3),
            "words": [
                {"word": w.word, "start": w.start_s, "end": w.end_s, "confidence": w.confidence} for w in best.words
            ],
            "alternatives": [{"transcript": a.transcript, "score": round(a.score, 4)} for a in result.alternatives],
            "context": result.context.summary(),
            "passes": result.passes,
            "skipped_passes": result.skipped_passes,
        }
    )


def _as_text(result: Final) -> str:
    info = result.context
    note = f"  (context: {info.status}{', ' + info.reason if info.reason else ''})"
    if info.changed:
        note = f"  (context: {info.status}, without it: {info.plain_transcript!r})"
    if result.skipped_passes:
        note += f"  (the server was busy and left out: {', '.join(result.skipped_passes)})"
    lines = [f"{result.start_s:7.2f} s  {result.transcript or '(nothing said)'}{note}"]
    lines += [f"           {a.score:9.2f}  {a.transcript}" for a in result.alternatives[1:]]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
