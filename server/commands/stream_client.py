"""Streams a file, or the microphone, to a server and shows what it understands while it does."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from asr.audio import read_container
from asr.errors import AudioError
from carryover import microphone
from carryover.client import context_summary, pass_names, pieces, recognise
from carryover.connect import ConnectError, Credentials, open_channel
from carryover.v1 import recognizer_pb2 as pb
from carryover.v1.recognizer_pb2_grpc import RecognizerStub

app = typer.Typer(add_completion=False)
_err = Console(stderr=True)
_LOST_STATUS = "Internal error from Core"
"""What grpc.aio makes of a server's status that arrives during a write."""


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
    credentials = Credentials(ca, key_file, certificate, certificate_key)
    contexts = [pb.SpeechContext(phrases=phrase)] if phrase else []
    config = pb.StreamingConfig(
        encoding=pb.LINEAR16, interim_results=True, max_alternatives=nbest, enable_word_time_offsets=True,
        dialogue_id=dialogue, turn_id=turn, speech_contexts=contexts, automatic_punctuation=written,
    )  # fmt: skip
    source = None if microphone or file == "-" else Path(file)
    try:
        asyncio.run(_run(server, credentials, config, source, real_time=not fast, as_json=as_json))
    except (_ClientError, ConnectError) as problem:
        typer.echo(f"stream_client: {problem}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


class _ClientError(Exception):
    """What the user should know, in one line."""


async def _run(
    server: str, credentials: Credentials, config: pb.StreamingConfig, source: Path | None,
    *, real_time: bool, as_json: bool,
) -> None:  # fmt: skip
    try:
        if source is None:
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)  # the last words still get a result
            audio, config.sample_rate_hertz = microphone.listen(stop), microphone.RATE
        else:
            samples, config.sample_rate_hertz = read_container(source)
            audio = pieces(samples, config.sample_rate_hertz, real_time=real_time)
        async with open_channel(server, credentials) as channel:
            stub: Any = RecognizerStub(channel)  # type: ignore[no-untyped-call]
            with Live(console=_err, refresh_per_second=10, transient=True) as live:

                def show(result: pb.StreamingRecognitionResult) -> None:
                    text = result.alternatives[0].transcript
                    open_end = not result.is_final and not result.likely_final
                    live.update(Text("" if result.is_final else "… " * open_end + text, style="dim" * open_end))
                    if result.is_final:
                        typer.echo(_as_json(result) if as_json else _as_text(result))

                _, report = await recognise(stub, config, audio, show)
            for rejected in report.rejected if report else ():
                _err.print(f"phrase {rejected.phrase_index + 1} is not used: {rejected.reason}", soft_wrap=True)
    except AudioError as error:
        raise _ClientError(f"{source}: {error}") from None
    except microphone.MicrophoneError as error:
        raise _ClientError(str(error)) from None
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            advice = f"no server answers at {server}; start one with scripts/serve, or name another by --server"
            if credentials.ca is None:
                advice += " (one with TLS needs --ca)"
            raise _ClientError(advice) from None
        if error.code() is grpc.StatusCode.INTERNAL and error.details() == _LOST_STATUS and not real_time:
            advice = "the server ended the call while audio was on its way; without --fast it says why"
            raise _ClientError(advice) from None
        raise _ClientError(f"{error.code().name}: {error.details()}") from None


def _as_json(result: pb.StreamingRecognitionResult) -> str:
    best = result.alternatives[0]
    return json.dumps(
        {
            "transcript": best.transcript,
            "confidence": round(best.confidence, 4),
            "start": round(result.start, 3),
            "end": round(result.end, 3),
            "words": [{"word": w.word, "start": w.start, "end": w.end, "confidence": w.confidence} for w in best.words],
            "alternatives": [{"transcript": a.transcript, "score": round(a.score, 4)} for a in result.alternatives],
            "context": context_summary(result.context),
            "passes": pass_names(result.passes),
            "skipped_passes": pass_names(result.skipped_passes),
        }
    )


def _as_text(result: pb.StreamingRecognitionResult) -> str:
    info = result.context
    status = pb.ContextInfo.Status.Name(info.status)
    note = f"  (context: {status}{', ' + info.reason if info.reason else ''})"
    if info.changed:
        note = f"  (context: {status}, without it: {info.plain_transcript!r})"
    if result.skipped_passes:
        note += f"  (the server was busy and left out: {', '.join(pass_names(result.skipped_passes))})"
    lines = [f"{result.start:7.2f} s  {result.alternatives[0].transcript or '(nothing said)'}{note}"]
    lines += [f"           {a.score:9.2f}  {a.transcript}" for a in result.alternatives[1:]]
    return "\n".join(lines)


if __name__ == "__main__":
    app()
