"""Metrics of what happened, a dashboard over them, and nowhere a word of what was said."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import grpc
import prometheus_client
import pytest

from carryover.v1 import context_pb2
from carryover.v1 import recognizer_pb2 as pb
from context_store import StoreConfig, StoreUnavailableError
from context_store.aws import client_options
from server import logs
from server.access import make_key
from server.metrics import OTHER_TENANTS, Metrics
from tests.support.certificates import Authority
from tests.support.metric_names import asked_for, exported
from tests.support.moto_server import fresh_tables
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


def samples(replica: Any) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Values by name and labels."""
    families = replica.server.metrics.registry.collect()
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def of(replica: Any, name: str, **labels: str) -> float:
    return samples(replica).get((f"carryover_{name}", tuple(sorted(labels.items()))), 0.0)


def test_metrics_of_a_follow_up(workshop: Any, dialogue: str, pcm: bytes, tmp_path: Path) -> None:
    key, line = make_key("acme")
    (tmp_path / "keys").write_text(line)
    replica = workshop.start(access__keys_file=str(tmp_path / "keys"))
    acme = replica.with_key(key)
    acme.ask(dialogue, "1", "meg bauer")
    acme.wait_for("READY", dialogue)
    final = acme.finals(pcm, dialogue_id=dialogue, turn_id="2", interim_results=True)[-1]
    assert final.context.changed
    with pytest.raises(grpc.RpcError):
        acme.stream(b"1")
    assert of(replica, "streams_limit") == 32 and of(replica, "draining") == 0
    assert of(replica, "certificate_expiry_timestamp_seconds") == 0  # no TLS
    replica.run(replica.server.drain())
    assert of(replica, "draining") == 1
    assert of(replica, "calls_total", method="StreamingRecognize", code="OK") == 1
    assert of(replica, "tenant_calls_total", tenant="acme", code="INVALID_ARGUMENT") == 1
    assert of(replica, "audio_seconds_total") == of(replica, "tenant_audio_seconds_total", tenant="acme")
    assert of(replica, "audio_seconds_total") == pytest.approx(3)
    assert of(replica, "streams") == of(replica, "tenant_streams", tenant="acme") == of(replica, "chunks") == 0
    assert of(replica, "work_seconds_total") > 0
    assert of(replica, "chunk_seconds_count") >= 9  # of 0.32 s
    assert of(replica, "first_partial_seconds_count") == 1
    assert of(replica, "final_seconds_count") >= 1
    assert of(replica, "context_results_total", status="APPLIED", reason="") >= 1
    assert of(replica, "context_changes_total") >= 1
    assert of(replica, "window_states_total", state="ready") == of(replica, "window_seconds_count") == 1
    assert of(replica, "window_stage_seconds_count", state="encoding") == 1
    assert of(replica, "store_calls_total", call="record", outcome="ok") == 1
    assert of(replica, "store_seconds_count", call="read_turns") == 1
    assert of(replica, "tasks") > 0 and of(replica, "threads") > 0


def test_the_certificate_s_expiry_follows_its_file(workshop: Any, tmp_path: Path) -> None:
    files = Authority(tmp_path, "authority").issue("server")
    replica = workshop.start(tls__certificate=files["certificate"], tls__key=files["key"])
    left_s = of(replica, "certificate_expiry_timestamp_seconds") - time.time()
    assert left_s == pytest.approx(86400, abs=600)
    Path(files["certificate"]).write_text("being written")
    assert math.isnan(of(replica, "certificate_expiry_timestamp_seconds"))


def test_audio_of_a_stream_that_is_left_half_way_counts(workshop: Any, pcm: bytes) -> None:
    """Else the work on it would be work on nothing, and the real-time factor wrong."""
    replica, answered = workshop.start(), threading.Event()

    def messages() -> Iterator[pb.StreamingRecognizeRequest]:
        config = pb.StreamingConfig(encoding=pb.LINEAR16, sample_rate_hertz=16_000, interim_results=True)
        yield pb.StreamingRecognizeRequest(config=config)
        yield pb.StreamingRecognizeRequest(audio=pcm)
        answered.wait(60)

    call = replica.recognizer.StreamingRecognize(messages(), timeout=60)
    next(call)
    call.cancel()
    answered.set()
    until(lambda: of(replica, "calls_total", method="StreamingRecognize", code="CANCELLED") == 1)
    assert of(replica, "audio_seconds_total") == of(replica, "tenant_audio_seconds_total", tenant="default") == 3


def test_why_there_was_no_context(workshop: Any, dialogue: str, pcm: bytes, monkeypatch: Any) -> None:
    replica = workshop.start()
    replica.encoder.go_on.clear()
    replica.ask(dialogue, "1")
    replica.wait_for("ENCODING", dialogue)
    replica.finals(pcm, dialogue_id=dialogue, turn_id="2")
    assert of(replica, "context_results_total", status="NOT_READY", reason="encoding")

    def down(*_: Any) -> None:
        raise StoreUnavailableError("no")

    down.__name__ = "dialogue_status"
    monkeypatch.setattr(replica.server.store.store, "dialogue_status", down)
    replica.finals(pcm, dialogue_id=f"{dialogue}-2", turn_id="2")
    assert of(replica, "context_results_total", status="FAILED", reason="store")
    assert of(replica, "store_calls_total", call="dialogue_status", outcome="StoreUnavailableError")
    replica.encoder.go_on.set()


def test_a_context_that_expires_is_counted_once(workshop: Any, dialogue: str, pcm: bytes) -> None:
    replica = workshop.start(context__ttl_s=100)
    replica.ask(dialogue, "1")
    replica.wait_for("READY", dialogue)
    replica.clock.now += 101
    for _ in range(2):
        replica.wait_for("EXPIRED", dialogue, "1")
        replica.finals(pcm, dialogue_id=dialogue, turn_id="2")
    assert of(replica, "window_states_total", state="expired") == 1
    assert of(replica, "context_results_total", status="EXPIRED", reason="expired") >= 2


def test_tenants_have_a_bound_of_labels() -> None:
    metrics = Metrics(max_tenants=2)
    assert [metrics.tenant(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", OTHER_TENANTS, "a", OTHER_TENANTS]


def test_metrics_are_served_until_closed() -> None:
    metrics = Metrics()
    port = metrics.serve("127.0.0.1", 0)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"carryover_streams 0.0" in answer.read()
    metrics.close()
    with pytest.raises(urllib.error.URLError):
        opener.open(f"http://127.0.0.1:{port}/metrics", timeout=1)


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
    metrics = Metrics()
    metrics.watch_tasks(lambda: 0)
    families = list(metrics.registry.collect())
    asked = {name for panel in dashboard["panels"] for target in panel["targets"] for name in asked_for(target["expr"])}
    assert len(asked) > 20
    assert asked <= exported()
    documented = (ROOT / "docs" / "operation.md").read_text()
    missing = {f.name for f in families if f.name.startswith("carryover_")} - set(
        re.findall(r"carryover_\w+?(?=_total\b|\b)", documented)
    )
    assert not missing


# No word of a user anywhere

WORDS = ("xylophone", "quetzalcoatl", "zugzwang", "jabberwocky", "syzygy", "phlogiston", "brobdingnag")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The lines that the server and every library log, at the lowest level, as they go to standard error."""
    logs.configure("DEBUG")
    logging.getLogger().setLevel(logging.DEBUG)
    logged: list[str] = []
    handler = logging.getLogger("carryover").handlers[0]
    handler.emit = lambda record: logged.append(handler.format(record))  # type: ignore[method-assign]
    yield logged
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture
def own_tables(tables: StoreConfig) -> Iterator[StoreConfig]:
    """Tables that no other test writes into."""
    with fresh_tables(str(tables.endpoint_url)) as config:
        yield config


def test_a_busy_server_writes_no_word_of_a_user(
    workshop: Any, own_tables: StoreConfig, dialogue: str, pcm: bytes, lines: list[str], spans: Any,
    capfd: pytest.CaptureFixture[str], monkeypatch: Any,
) -> None:  # fmt: skip
    """Logs, metrics, traces, errors, standard error, the events table and the payload table's ciphertexts."""
    replica = workshop.start(config=own_tables, limits__text_characters=50, limits__phrase_characters=40)
    errors: list[str] = []

    def attempt(call: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return call(*arguments, **keywords)
        except grpc.RpcError as error:
            errors.append(f"{error.code()} {error.details()} {error.trailing_metadata()}")
            return None

    def busy(number: int, word: str) -> None:
        name = f"{dialogue}-{number}"
        attempt(replica.ask, name, "1", word)
        replica.wait_for("READY", name)
        heard = attempt(replica.finals, pcm, dialogue_id=name, turn_id="2", max_alternatives=8)
        assert word in str(heard)
        phrases = [pb.SpeechContext(phrases=[word, f"{word} é", word * 9])]
        attempt(replica.finals, pcm, speech_contexts=phrases)
        attempt(replica.record, name, "1", context_pb2.Event(utterance=context_pb2.Utterance(text=word)))
        attempt(replica.record, name, "1", context_pb2.Event(utterance=context_pb2.Utterance(text=f"{word} again")))
        attempt(replica.record, name, "3", context_pb2.Event(reply=context_pb2.Reply(text=word * 20)))
        attempt(replica.record, name, f"#{word}", context_pb2.Event(speak=context_pb2.Speak()))
        inline = context_pb2.InlineContext(entities=[context_pb2.Entities(signal="contacts", entries=[word])])
        for nbest in ([word], [word * 20], [word, "x"]):
            entries = [context_pb2.NBestEntry(text=text) for text in nbest]
            attempt(replica.context.Rescore, context_pb2.RescoreRequest(nbest=entries, context=inline), timeout=60)
        attempt(replica.recognizer.Recognize, pb.RecognizeRequest(audio=word.encode()), timeout=60)

    for number, word in enumerate(WORDS):
        busy(number, word)
    for part in (replica.encoder, replica.rescorer):
        part.error = ValueError(" ".join(WORDS))
    attempt(replica.ask, f"{dialogue}-0", "4", WORDS[0])
    replica.wait_for("FAILED", f"{dialogue}-0")
    attempt(replica.finals, pcm, dialogue_id=f"{dialogue}-1", turn_id="5")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(" ".join(WORDS))

    monkeypatch.setattr(replica.server.store.store, "record", broken)
    attempt(replica.ask, dialogue, "1", WORDS[0])

    client = boto3.client("dynamodb", **client_options(own_tables))
    tables = [client.scan(TableName=t)["Items"] for t in (own_tables.events_table, own_tables.payload_table)]
    client.close()
    assert sum(map(len, tables)) > 5 * len(WORDS)
    metrics = prometheus_client.generate_latest(replica.server.metrics.registry).decode()
    said = capfd.readouterr()
    assert len(errors) > 5 * len(WORDS) and len(lines) > 20 * len(WORDS)
    traces = [span.to_json() for span in spans.get_finished_spans()]
    assert len(traces) > 20 * len(WORDS) and any("ValueError" in line for line in lines)
    written = {"logs": lines, "metrics": metrics, "errors": errors, "output": said.out + said.err, "tables": tables}
    written["traces"] = traces
    everything = {name: str(what).lower() for name, what in written.items()}
    found = [(name, word) for name, text in everything.items() for word in WORDS if word in text]
    assert not found
