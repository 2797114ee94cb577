"""From an expect-speech event to a context that is ready, and what a stream's start reads, over a real store."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import grpc
import numpy as np
import typer
from rich.progress import track

from benchmarks.server.processes import server_process, store_environment
from carryover.v1 import context_pb2 as ctx
from carryover.v1.context_pb2_grpc import ContextStub
from context_store import ContextStore, DialogueId, Event, ExpectSpeech, Utterance, create_tables, local_wrapping_key
from context_store.local_server import local_config, local_server

app = typer.Typer(add_completion=False)
_FIRST = ("meg", "anna", "tom", "tim", "peter", "clara", "ruth", "omar", "lena", "hugo")
_LAST = ("bauer", "jones", "reed", "power", "cox", "solis", "hart", "stone", "weller", "kim")
_POLL_S = 0.002
_WITHIN_S = 30.0


@app.command()
def main(
    dialogues: Annotated[int, typer.Option(help="How many windows are measured.", min=1)] = 200,
    turns: Annotated[int, typer.Option(help="Turns of each dialogue.", min=1, max=64)] = 8,
    lengths: Annotated[str, typer.Option(help="Turns of the dialogues whose streams' starts are measured.")] = "5,5000",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there.")] = None,
) -> None:
    """Record dialogues of so many turns with 100 entries, and measure their reply windows.

    The server, with the shipped models, is a process of its own; the store is moto in this one.
    """
    measured: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, local_server() as endpoint:
        create_tables(local_config(endpoint))
        settings = store_environment(endpoint, str(Path(folder) / "wrapping.key"))
        with server_process(settings) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            stub = ContextStub(channel)
            found = [_window(stub, f"d{i}", turns) for i in track(range(dialogues), "reply windows", transient=True)]
        for name, values in zip(("record_ms", "ready_ms"), zip(*found[1:] or found, strict=True), strict=True):
            measured[name] = _percentiles(values)
        measured["stream_start"] = {n: _start(endpoint, int(n)) for n in lengths.split(",") if n}
    typer.echo(json.dumps(measured, indent=2))
    if json_file:
        json_file.write_text(json.dumps(measured, indent=2) + "\n")


def _window(stub: Any, dialogue: str, turns: int) -> tuple[float, float]:
    """Milliseconds of the call that records expect-speech, and from its begin until the context is ready."""
    for turn in range(1, turns + 1):
        said = f"call {_FIRST[turn % len(_FIRST)]} at the office please"
        reply = "do you mean meg bauer or meg jones"
        events = [
            ctx.Event(event_id="u", utterance=ctx.Utterance(text=said)),
            ctx.Event(event_id="r", reply=ctx.Reply(text=reply)),
        ]
        if turn == turns:
            names = [f"{first} {last}" for first in _FIRST for last in _LAST]
            events.append(ctx.Event(event_id="c", entities=ctx.Entities(signal="contacts", entries=names)))
        stub.RecordEvents(_request(dialogue, turn, *events), timeout=_WITHIN_S)
    began = time.monotonic()
    stub.RecordEvents(_request(dialogue, turns, ctx.Event(event_id="x", expect_speech=ctx.ExpectSpeech())))
    recorded = time.monotonic()
    asked = ctx.GetContextStatusRequest(dialogue_id=dialogue, turn_id=str(turns))
    while stub.GetContextStatus(asked, timeout=_WITHIN_S).state != ctx.READY:
        if time.monotonic() - began > _WITHIN_S:
            raise typer.BadParameter(f"no context is ready within {_WITHIN_S:g} s")
        time.sleep(_POLL_S)
    return (recorded - began) * 1000, (time.monotonic() - began) * 1000


def _request(dialogue: str, turn: int, *events: ctx.Event) -> ctx.RecordEventsRequest:
    return ctx.RecordEventsRequest(dialogue_id=dialogue, turn_id=str(turn), events=events)


def _start(endpoint: str, turns: int) -> dict[str, Any]:
    """What the store is asked when a stream opens on a replica that does not know the dialogue."""
    config, dialogue, key = local_config(endpoint), DialogueId("bench", f"of-{turns}"), local_wrapping_key()
    store = ContextStore(config, key)
    for turn in track(range(turns), f"{turns} turns", transient=True):
        events = [Event("u", time.time(), Utterance("call meg")), Event("x", time.time(), ExpectSpeech())]
        store.record(dialogue, f"{turn * 7919 % 10007:05d}", events)
    asking, requests = ContextStore(config, key), Counter[str]()
    client = asking._access.client  # to count what goes over the wire
    client.meta.events.register("before-call.dynamodb.*", lambda model, **_: requests.update([model.name]))
    waits = []
    for _ in range(100):
        began = time.monotonic()
        asking.dialogue_status(dialogue, (), "next")
        waits.append((time.monotonic() - began) * 1000)
    asking.close()
    store.close()
    return {"requests": requests.total() / 100, **_percentiles(waits)}


def _percentiles(values: Any) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 1) for p in (50, 95, 99)}


if __name__ == "__main__":
    app()
