"""What calls are made of, without a server: ids of events, errors, credentials, waits."""

from __future__ import annotations

import inspect
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from carryover import (
    CarryoverError,
    ChangeRequestError,
    CheckKeyError,
    Client,
    ContextStatus,
    DeadlineError,
    Endpointing,
    Entry,
    Final,
    InlineContext,
    LikelyFinal,
    NotFoundError,
    NotReadyError,
    Partial,
    RetryLaterError,
    ServerError,
    SpeechBegin,
    SpeechEnd,
    Stream,
    Turn,
    aio,
)
from carryover.connect import Credentials
from carryover.errors import __doc__ as ERRORS
from carryover.errors import error_of
from carryover.messages import (
    Options,
    StreamOptions,
    record_request,
    result_of,
    stream_update,
    streaming_config,
    yielded,
)
from carryover.readiness import Readiness
from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from context_store.validation import MAX_EVENTS_PER_CALL

NOTHING: dict[str, Any] = {
    "user": None, "reply": None, "contacts": (), "entities": None,
    "transcribe": False, "speak": False, "expect_speech": False, "time": None,
}  # fmt: skip


def ids(secret: bytes = b"s", dialogue: str = "d", turn: str = "1", **events: Any) -> list[str]:
    request = record_request(dialogue, turn, secret=secret, **{**NOTHING, **events})
    return [event.event_id for event in request.events]


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def methods(kind: type) -> dict[str, list[Any]]:
        found = {name: method for name, method in vars(kind).items() if not name.startswith("_")}
        found["__init__"] = vars(kind)["__init__"]
        return {
            name: [
                (p.name, p.kind, p.default, p.annotation)
                for p in inspect.signature(method).parameters.values()
                if p.name != "audio" or name != "stream"  # which may be asynchronous in the one
            ]
            for name, method in found.items()
        }

    assert methods(Client) == methods(aio.Client)
    assert set(methods(Client)) >= {
        "stream", "recognize", "record", "status", "wait_until_ready", "embedding", "rescore", "erase"
    }  # fmt: skip
    stream, its = inspect.signature(Client.stream), inspect.signature(aio.Client.stream)
    assert list(stream.parameters) == list(its.parameters)
    assert {*StreamOptions.__annotations__, "self", "audio", "voice_activity_events"} == stream.parameters.keys()
    for name in ("send", "finalize", "update", "end", "close"):
        assert inspect.signature(getattr(Stream, name)) == inspect.signature(getattr(aio.Stream, name)), name


def test_every_field_of_a_stream_can_be_set() -> None:
    context = InlineContext((Turn("user", "a"), Turn("system", "b")), {"devices": [Entry("Lamp", "7", ["light"], 2.0)]})
    endpointing = Endpointing(0.1, 0.2, 3.0)
    options = Options(
        8000, "ALAW", "d", "t", 3, True, ["p"], True, True, True, context, endpointing, voice_activity_events=True
    )
    config = streaming_config(options)
    update = stream_update(turn="t", phrases=["p"], replace_phrases=True, context=context, endpointing=endpointing)
    for message in (config, update, config.endpointing, config.context.entities[0].items[0]):
        assert {field.name for field, _ in message.ListFields()} == set(message.DESCRIPTOR.fields_by_name)
    assert (update.context, update.endpointing) == (config.context, config.endpointing)
    assert [pb.StreamUpdate.FromString(update.SerializeToString()).HasField(f) for f in ("turn_id", "context")]
    reset = stream_update(turn="", phrases=None, replace_phrases=False, context=None, endpointing=Endpointing())
    assert {field.name for field, _ in reset.ListFields()} == {"turn_id", "endpointing"}
    assert stream_update(
        turn=None, phrases=None, replace_phrases=False, context=InlineContext(), endpointing=None
    ).HasField("context")


def test_the_clients_cover_the_interface_and_the_pages_name_what_they_have() -> None:
    files = (pb.DESCRIPTOR, context_pb2.DESCRIPTOR)
    calls = {method.name for file in files for service in file.services_by_name.values() for method in service.methods}
    for kind in (Client, aio.Client):
        code = Path(inspect.getfile(kind)).read_text()
        assert set(re.findall(r"self\._(?:recognizer|context)\.(\w+)", code)) == calls
    root = Path(__file__).parents[2]
    for page in ("README.md", "clients/python/README.md", "docs/api.md"):
        named = set(re.findall(r"\bclient\.(\w+)\(", (root / page).read_text()))
        assert named and named <= set(dir(Client)), page
    table = (root / "clients/python/README.md").read_text().split("## Errors")[1]
    errors = {kind.__name__ for kind in CarryoverError.__subclasses__()}
    assert set(re.findall(r"\| `(\w+Error)` \|", table)) == errors == set(re.findall(r"\| (\w+Error) \|", ERRORS or ""))


def test_an_event_has_one_id_however_often_it_is_recorded() -> None:
    events: dict[str, Any] = {
        "user": "call meg",
        "reply": "which meg?",
        "contacts": ["meg bauer", "meg jones"],
        "expect_speech": True,
    }
    assert ids(**events) == ids(**events)
    assert len(set(ids(**events))) == 4
    assert [one.partition("-")[0] for one in ids(**events)] == ["utterance", "reply", "entities", "expect_speech"]
    others: list[dict[str, Any]] = [{"secret": b"t"}, {"dialogue": "e"}, {"turn": "2"}]
    assert not any(set(ids(**events)) & set(ids(**events, **other)) for other in others)
    corrected = ids(**{**events, "reply": "which"})
    assert [a == b for a, b in zip(ids(**events), corrected, strict=True)] == [True, False, True, True]
    assert ids(dialogue="ab", turn="c", user="x") != ids(dialogue="a", turn="bc", user="x")


def test_an_id_does_not_tell_the_text() -> None:
    """The store has ids in the clear: of what is known of them alone, the text must not be guessed."""
    (one,) = ids(user="yes")
    assert "yes" not in one
    assert Credentials.load("localhost:1", **PLAIN).secret != Credentials.load("localhost:1", **PLAIN).secret
    key = {**PLAIN, "key": "co_secret"}
    assert Credentials.load("localhost:1", **key).secret == Credentials.load("localhost:1", **key).secret


def test_entries_with_and_without_ids_keep_their_order() -> None:
    known = {"contacts": ["Ann"], "devices": ["lamp"]}
    request = record_request("d", "1", secret=b"s", **{**NOTHING, "contacts": [Entry("Meg", "7")], "entities": known})
    contacts, devices = (event.entities for event in request.events)
    assert [(item.text, item.id) for item in contacts.items] == [("Meg", "7"), ("Ann", "")]
    assert (devices.signal, [item.text for item in devices.items]) == ("devices", ["lamp"])


def test_events_have_the_time_that_is_given() -> None:
    def times(**given: Any) -> list[float | None]:
        request = record_request("d", "1", secret=b"s", **{**NOTHING, "user": "a", "reply": "b", **given})
        return [e.time.ToNanoseconds() / 1e9 if e.HasField("time") else None for e in request.events]

    moment = datetime(2026, 11, 30, 12, 0, 0, 500_000, tzinfo=timezone(timedelta(hours=1)))
    assert times() == [None, None]
    assert times(time=moment) == times(time=moment.timestamp()) == [moment.timestamp()] * 2
    assert ids(user="a", time=moment) == ids(user="a")  # the same event
    for time in (datetime(2026, 11, 30), float("nan"), float("inf"), 1e300):
        with pytest.raises(ChangeRequestError, match="time: give a datetime with its tzinfo"):
            times(time=time)


def test_an_entry_is_as_it_was_before_it_had_aliases_and_weights() -> None:
    """So that events which an older client recorded keep their ids."""
    (plain,) = record_request("d", "1", secret=b"s", **{**NOTHING, "contacts": [Entry("Meg", "7")]}).events
    assert {field.name for field, _ in plain.entities.items[0].ListFields()} == {"text", "id"}


def test_arguments_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(ChangeRequestError, match="aliases: give a list of names"):
        ids(contacts=[Entry("Meg", aliases="Mum")])
    with pytest.raises(ChangeRequestError, match="speaker: assistant is none of user, system"):
        Client().stream([], context=InlineContext([Turn("assistant", "a")]))  # type: ignore[arg-type]
    with pytest.raises(ChangeRequestError, match="at least one of user, reply"):
        ids()
    with pytest.raises(ChangeRequestError, match="list of entries of contacts, not one string"):
        ids(entities={"contacts": "Meg"})
    with pytest.raises(ChangeRequestError, match="list of entries of contacts, not one string"):
        ids(contacts="Meg")
    with Client() as client:
        with pytest.raises(ChangeRequestError, match="list of phrases, not one string"):
            client.stream([], phrases="Meg")
        with pytest.raises(ChangeRequestError, match="either dialogue or context"):
            client.rescore(["a"])
    assert MAX_EVENTS_PER_CALL >= 5 + 6  # every kind of event, and every signal that has a name, fit in one call


def test_phrases_have_boosts_or_not() -> None:
    def contexts(phrases: Any) -> list[tuple[list[str], float | None]]:
        options = Options(16_000, "LINEAR16", "", "", 1, False, phrases, False)
        found = streaming_config(options).speech_contexts
        return [(list(c.phrases), c.boost if c.HasField("boost") else None) for c in found]

    assert contexts(()) == []
    assert contexts(["a", "b"]) == [(["a", "b"], None)]
    assert contexts({"a": 3.0, "b": 0.0, "c": 3.0}) == [(["a", "c"], 3.0), (["b"], 0.0)]


def test_results_by_their_kind() -> None:
    alternative = pb.SpeechRecognitionAlternative(transcript="bauer", words=[pb.WordInfo(word="bauer", end=0.5)])
    of = pb.StreamingRecognitionResult
    made = [
        result_of(of(alternatives=[alternative], stability=0.5)),
        result_of(of(alternatives=[alternative], likely_final=True, passes=["STREAMING", "ATTENTION"])),
        result_of(of(alternatives=[alternative], is_final=True, skipped_passes=["WHOLE_UTTERANCE"], finalized=True)),
    ]
    assert [type(result) for result in made] == [Partial, LikelyFinal, Final]
    assert all(result.transcript == "bauer" and result.words[0].end_s == 0.5 for result in made)
    assert isinstance(made[1], LikelyFinal) and made[1].passes == ("STREAMING", "ATTENTION")
    assert isinstance(made[2], Final) and made[2].skipped_passes == ("WHOLE_UTTERANCE",)
    assert made[2].finalized
    assert made[2].context.timings.age_ms is None and made[2].context.summary()["timings"] == {}


def test_values_that_a_newer_server_has_are_numbers() -> None:
    message = pb.StreamingRecognitionResult(is_final=True, alternatives=[pb.SpeechRecognitionAlternative()])
    message.passes.append(77)  # type: ignore[arg-type]
    message.context.status = 78  # type: ignore[assignment]
    result = result_of(message)
    assert isinstance(result, Final) and result.passes == ("77",) and result.context.status == "78"


def ended(code: grpc.StatusCode, details: str = "", **trailing: str) -> Any:
    metadata = [(name.replace("_", "-"), value) for name, value in trailing.items()]
    return SimpleNamespace(code=lambda: code, details=lambda: details, trailing_metadata=lambda: metadata)


@pytest.mark.parametrize(
    ("code", "trailing", "kind", "retry_after_s"),
    [
        ("INVALID_ARGUMENT", {}, ChangeRequestError, None),
        ("RESOURCE_EXHAUSTED", {"grpc_retry_pushback_ms": "-1"}, ChangeRequestError, None),
        ("RESOURCE_EXHAUSTED", {"grpc_retry_pushback_ms": "1500"}, RetryLaterError, 1.5),
        ("UNAVAILABLE", {"grpc_retry_pushback_ms": "1000"}, RetryLaterError, 1.0),
        ("UNAVAILABLE", {}, RetryLaterError, None),
        ("UNAUTHENTICATED", {}, CheckKeyError, None),
        ("PERMISSION_DENIED", {}, CheckKeyError, None),
        ("NOT_FOUND", {}, NotFoundError, None),
        ("DEADLINE_EXCEEDED", {}, DeadlineError, None),
        ("INTERNAL", {}, ServerError, None),
        ("DATA_LOSS", {}, ServerError, None),
    ],
)
def test_errors_by_their_status(code: str, trailing: dict[str, str], kind: type, retry_after_s: float | None) -> None:
    error = error_of(ended(grpc.StatusCode[code], "what happened", x_request_id="abc", **trailing))
    assert type(error) is kind and str(error) == "what happened"
    assert (error.code, error.retry_after_s, error.request_id) == (code, retry_after_s, "abc")


def test_an_error_names_the_field() -> None:
    def field(message: str) -> str | None:
        return error_of(ended(grpc.StatusCode.INVALID_ARGUMENT, message)).field

    assert field("dialogue_id: is empty") == "dialogue_id"
    assert field("events[2].entities.items[0].id: is too long") == "events[2].entities.items[0].id"
    assert field("something else is wrong: indeed") is None
    too_large = error_of(ended(grpc.StatusCode.RESOURCE_EXHAUSTED, "Sent message larger than max (5 vs. 4)"))
    assert isinstance(too_large, ChangeRequestError)


PLAIN: dict[str, Any] = {"key": None, "ca": None, "tls": False, "certificate": None, "certificate_key": None}


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("carryover.example:50051", {"key": "co_1"}, "a key is sent over TLS, or to this machine"),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", {"key": "co_1"}, "a key is sent over TLS"),
        ("localhost:1", {"key": ""}, "key: it is empty"),
        ("localhost:1", {"key": "co_1\n"}, "key: it is empty, or has characters"),
        ("localhost:1", {"certificate": "c"}, "certificate and certificate_key together"),
        ("localhost:1", {"certificate": "c", "certificate_key": "k"}, "over TLS only"),
        ("localhost:1", {"ca": "absent.pem"}, r"ca: absent\.pem cannot be read"),
    ],
)
def test_credentials_that_do_not_fit(target: str, arguments: dict[str, Any], message: str) -> None:
    for kind in (Client, aio.Client):
        with pytest.raises(ChangeRequestError, match=message):
            kind(target, **arguments)


@pytest.mark.parametrize(
    "target",
    ["", "127.0.0.1", "localhost:", ":50051", "a b:1", "localhost:0", "localhost:65536", "localhost:grpc", "::1:50051",
     "http://localhost:50051", "https://localhost", "ipv4:127.0.0.1", "ipv4:127.0.0.1:1,127.0.0.1", "dns:///localhost"],
)  # fmt: skip
def test_a_target_without_a_port(target: str) -> None:
    for kind in (Client, aio.Client):
        with pytest.raises(
            ChangeRequestError, match=re.escape(f"target: give HOST:PORT, such as 127.0.0.1:50051, not {target!r}")
        ):
            kind(target)


@pytest.mark.parametrize(
    "target",
    ["carryover.example:50051", "[::1]:1", "ipv4:10.0.0.1:1,10.0.0.2:2", "ipv6:[::1]:1,[::2]:1", "dns:localhost:1",
     "dns:///localhost:1", "dns://10.0.0.1/localhost:1", "unix:/tmp/socket", "unix:///tmp/socket", "xds:///name"],
)  # fmt: skip
def test_a_target_with_one(target: str) -> None:
    assert Credentials.load(target, **PLAIN).tls is None


def test_a_key_goes_to_this_machine_in_the_clear(tmp_path: Path) -> None:
    for target in ("localhost:1", "127.0.0.1:1", "[::1]:1", "ipv4:127.0.0.1:1,127.0.0.2:1", "unix:/tmp/socket"):
        assert Credentials.load(target, **{**PLAIN, "key": "co_1"}).metadata == (("authorization", "Bearer co_1"),)
    assert Credentials.load("carryover.example:1", **{**PLAIN, "key": "co_1", "tls": True}).tls is not None


def status(state: str, reason: str = "") -> ContextStatus:
    return ContextStatus(state, (), reason, "1", None)


@pytest.mark.parametrize(
    ("outcome", "message"), [("DROPPED", "record the turn's events again"), ("SUPERSEDED", "newer")]
)
def test_a_wait_for_a_turn_ends_where_nothing_is_made_of_it_any_more(outcome: str, message: str) -> None:
    assert context_pb2.GetContextStatusResponse.Outcome.Value(outcome)
    ended = ContextStatus("TRIGGERED", (), "the server is busy", "1", None, outcome)
    with pytest.raises(NotReadyError, match=rf"{message}.* \(the server is busy\)"):
        Readiness(2.0, "1").reached(ended)
    assert not Readiness(2.0, "").reached(ended)  # which has it made again


def test_the_events_of_a_stream_by_their_kind() -> None:
    def of(**event: Any) -> list[Any]:
        return list(yielded(pb.StreamingRecognizeResponse(speech_event=pb.SpeechEvent(**event))))

    assert of(type="BEGIN", time=1.5) == [SpeechBegin(1.5)] and of(type="END", time=2.0) == [SpeechEnd(2.0)]
    newer = pb.StreamingRecognizeResponse()
    newer.speech_event.type = 77  # type: ignore[assignment]
    assert not list(yielded(newer))


def test_a_wait_ends_when_a_context_is_ready_or_never_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    wait = Readiness(2.0, "1")
    for state in ("TRIGGERED", "READING", "ENCODING"):
        assert not wait.reached(status(state))
    assert wait.reached(status("READY"))
    for state, message in (("FAILED", "could not be made"), ("EXPIRED", "older"), ("RECORDED", "record expect_speech")):
        with pytest.raises(NotReadyError, match=message):
            wait.reached(status(state))
    pauses = [wait.pause_s() for _ in range(10)]
    assert pauses == sorted(pauses) and pauses[-1] == 0.25
    now = 102.0
    assert wait.pause_s() == 0.0
    with pytest.raises(NotReadyError, match=r"it is TRIGGERED after 2 s \(the queue was full\)"):
        wait.reached(status("TRIGGERED", "the queue was full"))
    assert set(context_pb2.ContextState.keys()) >= {"TRIGGERED", "READING", "ENCODING", "READY", "FAILED", "EXPIRED"}
