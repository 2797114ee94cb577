"""What the golden tests freeze, as plain data. Only this module of theirs imports the project.

When code is renamed, the imports and calls here change and nothing recorded does. Each function returns a dictionary
that goes into JSON; `GOLDEN` names them all. Floats are kept exactly: JSON writes the shortest digits that read back
to the same number.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import grpc
import numpy as np
import typer
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, ServiceDescriptor
from google.protobuf.json_format import MessageToDict
from typer.testing import CliRunner

from asr.audio import Samples, read_container
from asr.commands import evaluate_wer, rescore_nbest, transcribe
from asr.context.checkpoint import ContextModels
from asr.context.entity_linking import meant
from asr.context.types import Context, ContextEmbedding, Rescored
from asr.decoding import BoostedPhrase
from asr.evaluation.manifest import Utterance, parse_utterance, read_manifests
from asr.evaluation.run import prepare, recognise_timed, rescore
from asr.recognition.recognizer import Recognizer, Stream, StreamOptions
from asr.recognition.results import Hypothesis, Result
from carryover.audio import linear16
from carryover.v1 import context_pb2, context_pb2_grpc, inline_context_pb2, recognizer_pb2, recognizer_pb2_grpc
from server.commands import demo, stream_client
from server.commands.main import COMMANDS
from server.hosting import running
from server.settings import load_settings

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples"
SCRIPTS = ("demo", "serve", "test", "transcribe", "evaluate_wer", "rescore_nbest", "stream_client")
"""The scripts whose names and options are a contract; those of the others are not."""
NBEST = 3
"""Hypotheses of a list that are kept."""
PIECES = (700, 13, 4000, 1, 2999, 5120)
"""Samples handed over at a time, over and over."""
PAUSE_S = 1.2
"""Digital silence that ends an utterance."""
WITH_CONTEXT = 18
"""Recordings whose plain results are recorded beside those with a context."""


# The interfaces


def scripts() -> dict[str, Any]:
    """The contract's scripts: their options, and the command that each is where the project is installed."""
    installed = {module: f"carryover {name}" for name, (module, _, _) in COMMANDS.items()}
    found: dict[str, Any] = {}
    for name in SCRIPTS:
        module = re.search(r'lib/run" (\S+) "\$@"', (ROOT / "scripts" / name).read_text())
        if module is None:  # a shell script
            found[name] = {"installed": None, "parameters": None}
            continue
        app = importlib.import_module(module[1]).app
        found[name] = {"installed": installed.get(module[1]), "parameters": _parameters(app)}
    return found


def _parameters(app: typer.Typer) -> list[dict[str, Any]]:
    """Of the only command of an app, as its parser and the signature of its function have them."""
    (command,) = app.registered_commands
    assert command.callback is not None
    signature = inspect.signature(command.callback, eval_str=True).parameters
    found = []
    for parsed in typer.main.get_command(app).params:
        written = signature[parsed.name or ""].annotation.__metadata__[0]
        option = parsed.param_type_name == "option"
        kind = signature[parsed.name or ""].annotation.__origin__
        found.append(
            {
                "names": [*parsed.opts, *parsed.secondary_opts] if option else ["argument"],
                "type": kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind),
                "least": written.min,
                "most": written.max,
                "default": None if parsed.default is None else str(parsed.default),
                "required": parsed.required,
                "several": parsed.multiple or parsed.nargs != 1,
                "variable": parsed.envvar,
            }
        )
    return found


def proto() -> dict[str, Any]:
    """Every message, enum and service of the gRPC interface."""
    found: dict[str, Any] = {}
    for module in (recognizer_pb2, context_pb2, inline_context_pb2):
        file = module.DESCRIPTOR
        for message in file.message_types_by_name.values():
            found |= _message(message)
        for enum in file.enum_types_by_name.values():
            found |= _enum(enum)
        for service in file.services_by_name.values():
            found |= _service(service)
    return found


def _message(message: Descriptor) -> dict[str, Any]:
    found: dict[str, Any] = {f"message {message.full_name}": [_field(field) for field in message.fields]}
    for inner in message.nested_types:
        found |= _message(inner)
    for enum in message.enum_types:
        found |= _enum(enum)
    return found


def _field(field: FieldDescriptor) -> str:
    """As the .proto file writes it: label, type, name, number."""
    kinds = {getattr(field, name): name for name in dir(field) if name.startswith("TYPE_")}
    kind = kinds[field.type].removeprefix("TYPE_").lower()
    other = field.message_type or field.enum_type
    label = "repeated " if field.is_repeated else "optional " if field.has_presence and other is None else ""
    oneof = field.containing_oneof
    inside = f" in {oneof.name}" if oneof and not oneof.name.startswith("_") else ""
    return f"{label}{other.full_name if other else kind} {field.name} = {field.number}{inside}"


def _enum(enum: EnumDescriptor) -> dict[str, Any]:
    return {f"enum {enum.full_name}": [f"{value.name} = {value.number}" for value in enum.values]}


def _service(service: ServiceDescriptor) -> dict[str, Any]:
    def method(one: Any) -> str:
        streams = ["stream " * one.client_streaming, "stream " * one.server_streaming]
        return f"{one.name}({streams[0]}{one.input_type.full_name}) returns ({streams[1]}{one.output_type.full_name})"

    return {f"service {service.full_name}": [method(one) for one in service.methods]}


def manifest() -> dict[str, Any]:
    """Lines of a manifest in each documented spelling, as they are read."""
    turns = [{"speaker": "user", "text": "call Meg"}, {"speaker": "assistant", "text": "Meg Jones or Meg Bauer?"}]
    everything = {
        "id": "u1", "audio": {"path": "audio/u1.wav"}, "text": "Bauer, please", "duration_s": 0.9, "speaker": "s1",
        "source": "studio", "set": "disambiguation", "make": "studio", "target": "Meg Bauer", "dialogue": "d1",
        "context": {"turns": turns, "entities": [{"signal": "contacts", "text": "Meg Bauer", "id": "7"}]},
        "nbest": [{"text": "bower", "score": -1.2}, {"text": "power", "score": -1.9}],
    }  # fmt: skip
    lines: dict[str, dict[str, Any]] = {
        "everything": everything,
        "shortest": {"id": "u1", "path": "u1.wav", "text": "bauer"},
        "audio is a path": {"id": "u1", "audio": "u1.wav", "text": "bauer"},
        "audio in a shard": {"id": "u1", "audio": {"shard": "part-00.tar", "member": "u1.opus"}, "text": "bauer"},
        "shard on the line": {"id": "u1", "shard": "part-00.tar", "member": "u1.opus", "text": "bauer"},
        "reference for text": {"id": "u1", "path": "u1.wav", "reference": "bauer"},
        "corpus for set": {"id": "u1", "path": "u1.wav", "text": "bauer", "corpus": "an4"},
        "target is null": {"id": "u1", "path": "u1.wav", "text": "bauer", "target": None},
        "context is turns, entities on the line": {
            "id": "u1", "path": "u1.wav", "text": "bauer", "context": turns,
            "entities": [{"type": "contacts", "text": "Meg Bauer"}, {"text": "kitchen"}],
        },
    }  # fmt: skip
    return {
        name: {"line": line, "read": _utterance(parse_utterance(line, Path("folder")))} for name, line in lines.items()
    }


def _utterance(utterance: Utterance) -> dict[str, Any]:
    return {
        "id": utterance.id,
        "audio": [utterance.audio.path.as_posix(), utterance.audio.member],
        "normalised": utterance.text,
        "reference": utterance.reference,
        "set": utterance.set,
        "make": utterance.make,
        "target": utterance.target,
        "dialogue": utterance.dialogue,
        "turns": [[turn.speaker, turn.text] for turn in utterance.context.turns],
        "entries": [[entry.signal, entry.text, entry.id] for entry in utterance.context.entries],
    }


def commands() -> dict[str, Any]:
    """What the scripts that write JSON write. Of times and of what is long, only the keys."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "out.jsonl")
        few = Path(place, "few.jsonl")
        lines = [json.loads(line) for line in (SAMPLES / "followups.jsonl").read_text().splitlines()[:2]]
        lines += [json.loads(line) for line in (SAMPLES / "people.jsonl").read_text().splitlines()[2:4]]
        few.write_text(
            "".join(json.dumps(line | {"audio": str(SAMPLES / line["audio"]["path"])}) + "\n" for line in lines)
        )

        options = ("--phrases-field", "names", "--written", "--nbest", "2")
        _command(transcribe.app, str(few), "--out", str(out), *options)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found["transcribe keys"] = shape(rows)
        found["transcribe"] = [{key: row[key] for key in ("id", "hyp", "nbest", "seconds_audio")} for row in rows]

        _command(rescore_nbest.app, str(SAMPLES / "nbest.jsonl"), str(out))
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found["rescore_nbest"] = [
            {"id": row["id"], "nbest": row["nbest"][:NBEST], "changed": row["changed"], "meant": row["meant"]}
            for row in rows
        ]
        found["rescore_nbest keys"] = shape(rows)

        settings = ("--limit", "2", "--signals", "--endpoints")
        _command(evaluate_wer.app, str(SAMPLES / "followups.jsonl"), "--json", str(out), *settings)
        run = json.loads(out.read_text())
        found["evaluate_wer keys"] = shape(run)
        found["evaluate_wer utterances"] = [
            {key: row[key] for key in ("id", "reference", "hyp", "biased_words", "meant", "context_statuses")}
            for row in run["utterances"]
        ]

    told = _command(demo.app, "--json").splitlines()[-1]
    found["demo keys"] = shape(json.loads(told))
    return found


def _command(app: typer.Typer, *arguments: str) -> str:
    """Standard output of a command that succeeds."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    if result.exit_code:
        raise AssertionError(f"{arguments}: exit {result.exit_code}: {result.output}")
    return result.stdout


def shape(value: Any) -> Any:
    """The keys and the types of a JSON value; a list is the shape of all its entries together."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        merged: Any = None
        for inner in value:
            merged = shape(inner) if merged is None else _either(merged, shape(inner))
        return [] if merged is None else [merged]
    if isinstance(value, bool):
        return "boolean"
    return "null" if value is None else "number" if isinstance(value, int | float) else "string"


def _either(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys((*one, *other))
        return {k: _either(one[k], other[k]) if k in one and k in other else one.get(k, other.get(k)) for k in keys}
    if isinstance(one, list) and isinstance(other, list):
        return [_either(one[0], other[0])] if one and other else one or other
    if isinstance(one, str) and isinstance(other, str):
        return " or ".join(sorted({*one.split(" or "), *other.split(" or ")}))
    return one if one == other or other == "null" else other if one == "null" else f"{one} or {other}"


# Recognition


@dataclass(frozen=True)
class Recording:
    """One recording of samples/: (n,) float32 samples, and the context of its dialogue (of another, if it has none)."""

    name: str
    samples: Samples
    rate: int
    context: Context


@cache
def recordings() -> tuple[Recording, ...]:
    """All of samples/, the follow-ups first."""
    utterances, problems = read_manifests([SAMPLES / "followups.jsonl", SAMPLES / "people.jsonl"])
    assert not problems
    contexts = cycle([utterance.context for utterance in utterances if utterance.context])
    found = []
    for utterance in utterances:
        samples, rate = read_container(utterance.audio.path.read_bytes())
        found.append(Recording(utterance.audio.path.stem, samples, rate, utterance.context or next(contexts)))
    return tuple(found)


@cache
def recognizer() -> Recognizer:
    """The shipped recogniser."""
    return Recognizer.load()


@cache
def context_models() -> ContextModels:
    """The shipped context encoder and rescorer."""
    return ContextModels.load(models=recognizer().models)


def plain() -> dict[str, Any]:
    """Whole recordings in one call, endpointing on, one of them at another rate; the others are in `with_context`."""
    found = {}
    for recording in recordings()[WITH_CONTEXT - 5 :]:
        stream = recognizer().open(StreamOptions(recording.rate))
        found[recording.name] = [*stream.accept(recording.samples), *stream.finish()]
    slow = recordings()[0]
    stream = recognizer().open(StreamOptions(slow.rate // 2))
    found[f"{slow.name} at half its rate"] = [*stream.accept(slow.samples[::2].copy()), *stream.finish()]
    return {name: [_result(result) for result in results] for name, results in found.items()}


def streamed() -> dict[str, Any]:
    """Every other recording in uneven pieces with a pause behind, partial results on; then several in one stream."""
    found = {}
    for recording in recordings()[::2]:
        stream = recognizer().open(StreamOptions(recording.rate, interim_results=True))
        found[recording.name] = _streamed(stream, _with_pause(recording))
    several = recordings()[2:6]
    options = StreamOptions(several[0].rate, interim_results=True, nbest=2)
    stream = recognizer().open(options)
    found["several"] = _streamed(stream, np.concatenate([_with_pause(recording) for recording in several]))
    one = recognizer().open(StreamOptions(several[0].rate, interim_results=True, single_utterance=True))
    found["several, the first only"] = _streamed(one, np.concatenate([_with_pause(recording) for recording in several]))
    return {name: [_result(result) for result in results] for name, results in found.items()}


def _with_pause(recording: Recording) -> Samples:
    pause = np.zeros(round(PAUSE_S * recording.rate), np.float32)
    return np.concatenate([recording.samples, pause])


def _streamed(stream: Stream, samples: Samples) -> list[Result]:
    results, start = [], 0
    for size in cycle(PIECES):
        if start >= len(samples):
            break
        results += stream.accept(samples[start : start + size])
        start += size
    return [*results, *stream.finish()]


def with_context() -> dict[str, Any]:
    """Recordings with a context, by the steps of the evaluation: the search led by its phrases, and the rescorer."""
    found = {}
    models = context_models()
    for recording in recordings()[:WITH_CONTEXT]:
        prepared = prepare(recording.context, models, recognizer())
        result, _ = recognise_timed(recognizer(), recording.samples, recording.rate, 8, prepared.graph)
        found[recording.name] = {
            "plain": _result(result),
            "only with the context's phrases": [_hypothesis(hypothesis) for hypothesis in result.biased[:NBEST]],
            **_rescored(rescore(result, prepared, models.rescorer, recognizer()), prepared.embedding),
        }
    return found


def _rescored(rescored: Rescored, embedding: ContextEmbedding) -> dict[str, Any]:
    return {
        "nbest": [_hypothesis(hypothesis) for hypothesis in rescored.nbest[:NBEST]],
        "words": _words(rescored.nbest[0]),
        "changed": rescored.changed,
        "biased words": [[b.word, b.phrase, b.signal, b.nats, b.rank, b.id] for b in rescored.biased_words],
        "meant": [[m.entry, m.signal, m.id] for m in meant(rescored.nbest[0].text, embedding)],
    }


def with_phrases() -> dict[str, Any]:
    """Recordings with boosted phrases: the names of their contexts."""
    found = {}
    for recording in recordings()[:13:3]:
        phrases = [BoostedPhrase(entry.text, 5.0) for entry in recording.context.entries]
        result = recognizer().recognize(recording.samples, recording.rate, 8, recognizer().compile(phrases))
        found[recording.name] = _result(result)
    return found


def without_second_pass() -> dict[str, Any]:
    """Recordings whose results are made without the second pass, as a busy server makes them."""
    found = {}
    for recording in recordings()[::6]:
        stream = recognizer().open(StreamOptions(recording.rate, interim_results=True))
        stream.take(_with_pause(recording))
        stream.end()
        results: list[Result] = []
        while stream.ready:
            stream.skip_second_pass(recognizer().second_passes)
            results += recognizer().advance([stream])[0]
        found[recording.name] = [_result(result) for result in results]
    return found


def batched() -> dict[str, Any]:
    """Five streams as one batch, audio of 0.1 s at a time: two plain, one with phrases, two with contexts."""
    models = context_models()
    chosen = recordings()[5:10]
    prepared = [prepare(recording.context, models, recognizer()) for recording in chosen]
    graph = recognizer().compile(BoostedPhrase(entry.text, 5.0) for entry in chosen[2].context.entries)
    streams = [
        recognizer().open(StreamOptions(recording.rate, interim_results=True, graph=graph if place == 2 else None))
        for place, recording in enumerate(chosen)
    ]
    for stream, own in list(zip(streams, prepared, strict=True))[3:]:
        stream.set_context(own.graph)
    results: list[list[Result]] = [[] for _ in streams]
    pieces = [_pieces(_with_pause(recording), recording.rate // 10) for recording in chosen]
    while not all(stream.done for stream in streams):
        for stream, left in zip(streams, pieces, strict=True):
            if (piece := next(left, None)) is not None:
                stream.take(piece)
            else:
                stream.end()
        while ready := [place for place, stream in enumerate(streams) if stream.ready]:
            for place, new in zip(ready, recognizer().advance([streams[place] for place in ready]), strict=True):
                results[place] += new
    return {recording.name: [_result(r) for r in own] for recording, own in zip(chosen, results, strict=True)}


def _pieces(samples: Samples, size: int) -> Iterator[Samples]:
    return iter([samples[start : start + size] for start in range(0, len(samples), size)])


def _result(result: Result) -> Any:
    """A result; of partial ones, which have one hypothesis, a list of kind, text, score, stability, start and end."""
    best = result.nbest[0]
    if not result.is_final and not result.likely_final:
        return ["partial", best.text, best.score, result.stability, result.start_s, result.end_s]
    return {
        "kind": "final" if result.is_final else "likely final",
        "nbest": [_hypothesis(hypothesis) for hypothesis in result.nbest[: NBEST if result.is_final else 1]],
        "words": _words(best),
        "tokens": list(best.tokens),
        "times": [result.start_s, result.end_s, result.endpoint_s],
        "stability": result.stability,
        "passes": [one.value for one in result.passes],
        "left out": [one.value for one in result.skipped],
    }


def _hypothesis(hypothesis: Hypothesis) -> dict[str, Any]:
    """Its text, its score and the parts of it that are not 0."""
    parts = {
        "acoustic": hypothesis.acoustic,
        "language": hypothesis.language,
        "attention": hypothesis.attention,
        "phrases": hypothesis.bias,
        "context": hypothesis.context,
    }
    return {
        "text": hypothesis.text,
        "score": hypothesis.score,
        **{name: value for name, value in parts.items() if value},
        "confidence": hypothesis.confidence,
        **({"from context": True} if hypothesis.from_context else {}),
        "written": hypothesis.written,
    }


def _words(hypothesis: Hypothesis) -> list[list[Any]]:
    return [[word.text, word.start_s, word.end_s, word.confidence] for word in hypothesis.words]


def embedding() -> dict[str, Any]:
    """The embedding of one context, every number of it, and what of it is compiled for the search."""
    prepared = prepare(recordings()[0].context, context_models(), recognizer())
    made = prepared.embedding
    return {
        "vectors": [[float(value) for value in row] for row in made.vectors],
        "summary": [float(value) for value in made.summary],
        "phrases": [[p.text, p.signal, p.weight, p.written, list(p.ids)] for p in made.phrases],
        "forms": [list(p.forms) for p in made.phrases],
        "question": made.question,
        "asked": made.asked,
        "model version": made.model_version,
        "bytes": len(made.to_bytes()),
        "phrases in the search": [[p.text, p.weight] for p in (prepared.graph.accepted if prepared.graph else ())],
    }


# The server


def server() -> dict[str, Any]:
    """What a server with the shipped models answers over a socket."""
    return asyncio.run(_served())


async def _served() -> dict[str, Any]:
    flags = {
        "port": 0, "store.endpoint": "local", "store.read_timeout_s": 20, "store.connect_timeout_s": 20,
        "store.deadline_s": 60, "model.second_pass_wait_ms": 60_000, "context.deadline_s": 60,
        "context.shed_ms": 60_000,
    }  # fmt: skip
    settings = load_settings(None, flags, {})
    found: dict[str, Any] = {}
    async with (
        running(settings, lambda line: None) as (_, port),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        hears: Any = recognizer_pb2_grpc.RecognizerStub(channel)
        knows: Any = context_pb2_grpc.ContextStub(channel)
        info = await hears.GetServerInfo(recognizer_pb2.GetServerInfoRequest())
        found["server info keys"] = shape(_values(info))

        first, second, third = (recordings()[place] for place in (4, 8, 2))  # the context changes the first two
        for recording in (first, second):
            found[f"plain {recording.name}"] = await _finals(hears, recording)
        written = {
            "automatic_punctuation": True,
            "speech_contexts": [{"phrases": [e.text for e in third.context.entries]}],
        }
        found[f"written, with phrases {third.name}"] = await _finals(hears, third, **written)
        request = recognizer_pb2.RecognizeRequest(audio=(SAMPLES / "audio" / f"{first.name}.opus").read_bytes())
        found[f"whole file {first.name}"] = _answer(await hears.Recognize(request))

        for recording in (first, second):
            dialogue = recording.name
            record = context_pb2.RecordEventsRequest(
                dialogue_id=dialogue, turn_id="1", events=_events(recording.context)
            )
            recorded = await knows.RecordEvents(record)
            status = await _ready(knows, dialogue)
            states = [context_pb2.ContextState.Name(entry.state) for entry in status.timeline]
            found[f"context {dialogue}"] = {"triggered": recorded.triggered, "states": states, "turn": status.turn_id}
            made = await knows.GetContextEmbedding(context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue))
            found[f"embedding {dialogue}"] = {
                "shape": list(made.shape),
                "summary": list(made.summary[:16]),
                "phrases": [[p.phrase, p.signal, p.weight] for p in made.phrases],
            }
            found[f"with context {dialogue}"] = await _finals(hears, recording, dialogue_id=dialogue, turn_id="2")

        file, address = str(SAMPLES / "audio" / f"{first.name}.opus"), f"127.0.0.1:{port}"
        arguments = (file, "--server", address, "--dialogue", first.name, "--turn", "2", "--json", "--nbest", "2")
        shown = json.loads((await asyncio.to_thread(_command, stream_client.app, *arguments)).splitlines()[-1])
        found["stream_client keys"] = shape(shown)

        nbest = [
            {"text": text, "score": score} for text, score in (("bluette", -1.0), ("blue it", -2.0), ("bluet", -5.0))
        ]
        listed = context_pb2.RescoreRequest(nbest=nbest, dialogue_id=first.name, turn_id="2")
        found["rescored list"] = _answer(await knows.Rescore(listed))
        erase = context_pb2.DeleteDialogueRequest(dialogue_id=first.name)
        found["deleted"] = (await knows.DeleteDialogue(erase)).items_deleted
        found["after deletion"] = [
            final["context"]["status"] for final in await _finals(hears, first, dialogue_id=first.name, turn_id="2")
        ]
    return found


async def _finals(stub: Any, recording: Recording, **config: Any) -> list[dict[str, Any]]:
    """The final results of a recording, streamed in pieces of 0.1 s; with a dialogue, as fast as it is spoken."""
    wanted = recognizer_pb2.StreamingConfig(
        encoding=recognizer_pb2.LINEAR16, sample_rate_hertz=recording.rate, interim_results=True,
        max_alternatives=NBEST, enable_word_time_offsets=True, **config,
    )  # fmt: skip

    async def messages() -> AsyncIterator[recognizer_pb2.StreamingRecognizeRequest]:
        yield recognizer_pb2.StreamingRecognizeRequest(config=wanted)
        for piece in _pieces(_with_pause(recording), recording.rate // 10):
            if wanted.dialogue_id:  # whose context is looked up while the user speaks
                await asyncio.sleep(len(piece) / recording.rate)
            yield recognizer_pb2.StreamingRecognizeRequest(audio=linear16(piece))

    responses = [_answer(response) async for response in stub.StreamingRecognize(messages())]
    reports = [response for response in responses if "speech_context_report" in response]
    results = [result for response in responses for result in response.get("results", [])]
    return [*reports, *[result for result in results if result.get("is_final")]]


def _events(context: Context) -> list[context_pb2.Event]:
    """The events of a turn that end with the expectation of speech."""
    events = [
        context_pb2.Event(utterance=context_pb2.Utterance(text=turn.text))
        if turn.speaker == "user"
        else context_pb2.Event(reply=context_pb2.Reply(text=turn.text))
        for turn in context.turns
    ]
    items = [context_pb2.Entry(text=entry.text, id=str(place)) for place, entry in enumerate(context.entries)]
    events.append(context_pb2.Event(entities=context_pb2.Entities(signal=context.entries[0].signal, items=items)))
    events.append(context_pb2.Event(expect_speech=context_pb2.ExpectSpeech()))
    for place, event in enumerate(events):
        event.event_id = f"e{place}"
    return events


async def _ready(stub: Any, dialogue: str) -> context_pb2.GetContextStatusResponse:
    request = context_pb2.GetContextStatusRequest(dialogue_id=dialogue)
    async with asyncio.timeout(60):
        while (status := await stub.GetContextStatus(request)).state != context_pb2.READY:
            await asyncio.sleep(0.02)
    return status


def _values(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def _answer(message: Any) -> dict[str, Any]:
    """A message as data, of times that were measured only the names."""

    def without_times(value: Any) -> Any:
        if isinstance(value, list):
            return [without_times(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        return {k: sorted(inner) if k == "timings" else without_times(inner) for k, inner in value.items()}

    answer: dict[str, Any] = without_times(_values(message))
    return answer


GOLDEN: dict[str, Callable[[], dict[str, Any]]] = {
    "scripts": scripts,
    "proto": proto,
    "manifest": manifest,
    "plain": plain,
    "streamed": streamed,
    "with_context": with_context,
    "with_phrases": with_phrases,
    "without_second_pass": without_second_pass,
    "batched": batched,
    "embedding": embedding,
    "commands": commands,
    "server": server,
}
"""What is recorded, by the name of its file."""
