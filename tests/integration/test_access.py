"""Nobody reaches what is another tenant's, by any RPC; TLS, client certificates and keys on a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import soundfile
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from typer.testing import CliRunner

from carryover.v1 import context_pb2, context_pb2_grpc, recognizer_pb2, recognizer_pb2_grpc
from context_store import ContextStore, DialogueId, Entities, Event, ExpectSpeech
from server import interceptor
from server.access import make_key
from server.app import LIVENESS, SERVICES
from server.commands import stream_client
from server.ports import PortError
from server.settings import ConfigError
from tests.support.certificates import Authority

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file of two tenants' keys, and the keys."""
    made = {tenant: make_key(tenant) for tenant in ("acme", "umbra")}
    file = tmp_path / "keys"
    file.write_text("".join(f"{line}\n" for _, line in made.values()))
    return file, {tenant: key for tenant, (key, _) in made.items()}


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code: grpc.StatusCode = caught.value.code()
    return code


def calls(replica: Any, dialogue: str, pcm: bytes) -> dict[str, Callable[[], Any]]:
    """One call of each RPC."""
    nbest = [context_pb2.NBestEntry(text="power"), context_pb2.NBestEntry(text="flower")]
    config = recognizer_pb2.RecognitionConfig(
        encoding=recognizer_pb2.LINEAR16, sample_rate_hertz=16_000, dialogue_id=dialogue, turn_id="2"
    )
    utterance = recognizer_pb2.RecognizeRequest(config=config, audio=pcm)
    return {
        "Recognize": lambda: replica.recognizer.Recognize(utterance, timeout=60),
        "StreamingRecognize": lambda: replica.finals(pcm, dialogue_id=dialogue, turn_id="2"),
        "GetServerInfo": lambda: replica.recognizer.GetServerInfo(recognizer_pb2.GetServerInfoRequest(), timeout=60),
        "RecordEvents": lambda: replica.ask(dialogue, "1", "dave"),
        "GetContextStatus": lambda: replica.status(dialogue, "1"),
        "GetContextEmbedding": lambda: replica.context.GetContextEmbedding(
            context_pb2.GetContextEmbeddingRequest(dialogue_id=dialogue), timeout=60
        ),
        "Rescore": lambda: replica.context.Rescore(
            context_pb2.RescoreRequest(nbest=nbest, dialogue_id=dialogue), timeout=60
        ),
        "DeleteDialogue": lambda: replica.context.DeleteDialogue(
            context_pb2.DeleteDialogueRequest(dialogue_id=dialogue), timeout=60
        ),
    }


def methods() -> set[str]:
    modules = (recognizer_pb2, context_pb2)
    return {m.name for module in modules for s in module.DESCRIPTOR.services_by_name.values() for m in s.methods}


@pytest.mark.parametrize("reflection", [True, False])
def test_every_rpc_with_another_tenants_ids(
    workshop: Any, dialogue: str, pcm: bytes, keys: tuple[Path, dict[str, str]], reflection: bool
) -> None:
    replica = workshop.start(access__keys_file=str(keys[0]), access__reflection=reflection)
    acme, umbra = (replica.with_key(keys[1][tenant]) for tenant in ("acme", "umbra"))
    acme.ask(dialogue, "1", "meg bauer")
    acme.wait_for("READY", dialogue)
    tried = calls(umbra, dialogue, pcm)
    assert set(tried) == methods()

    for name in ("Recognize", "StreamingRecognize"):
        answer = tried[name]()
        results = answer.results if name == "Recognize" else answer
        assert all(r.context.status == recognizer_pb2.ContextInfo.NOT_FOUND for r in results), name
        assert not any(r.context.biased_words or a.from_context for r in results for a in r.alternatives), name
    assert "acme" not in str(tried["GetServerInfo"]())
    assert code_of(tried["GetContextStatus"]) == grpc.StatusCode.NOT_FOUND
    assert code_of(tried["GetContextEmbedding"]) == grpc.StatusCode.NOT_FOUND
    rescored = tried["Rescore"]()
    assert rescored.context.status == recognizer_pb2.ContextInfo.NOT_FOUND
    assert [entry.text for entry in rescored.nbest] == ["power", "flower"]
    assert tried["DeleteDialogue"]().items_deleted == 0
    tried["RecordEvents"]()  # a dialogue of umbra's own, of the same name
    umbra.wait_for("READY", dialogue)
    assert tried["Rescore"]().nbest[0].text == "dave"
    assert tried["DeleteDialogue"]().items_deleted > 0

    info = acme.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1]
    assert info.context.status == recognizer_pb2.ContextInfo.APPLIED
    assert info.alternatives[0].transcript == "meg bauer"


def test_without_a_key_nothing_but_health_and_reflection_answers(
    workshop: Any, dialogue: str, pcm: bytes, keys: tuple[Path, dict[str, str]]
) -> None:
    replica = workshop.start(access__keys_file=str(keys[0]))
    for stranger in (replica, replica.with_key("co_" + "A" * 43)):
        for call in calls(stranger, dialogue, pcm).values():
            assert code_of(call) is UNAUTHENTICATED
    request = health_pb2.HealthCheckRequest(service=SERVICES[0])
    assert cast(Any, health_pb2_grpc.HealthStub(replica.channel)).Check(request, timeout=30).status == 1


def test_a_busy_client_without_a_key_learns_why_its_stream_is_refused(
    workshop: Any, keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC's asyncio client says INTERNAL where the refusal is there before it has sent its first message."""
    monkeypatch.setattr(interceptor, "_FIRST_S", 60.0)
    replica = workshop.start(access__keys_file=str(keys[0]))
    refused, told = threading.Event(), replica.server.access.caller

    def caller(*arguments: Any) -> Any:
        refused.set()
        return told(*arguments)

    monkeypatch.setattr(replica.server.access, "caller", caller)
    config = recognizer_pb2.StreamingConfig(encoding=recognizer_pb2.LINEAR16, sample_rate_hertz=16_000)

    async def late() -> AsyncIterator[recognizer_pb2.StreamingRecognizeRequest]:
        assert refused.wait(60)  # the event loop is busy with something else until the call was refused
        yield recognizer_pb2.StreamingRecognizeRequest(config=config)

    async def code() -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
            await channel.channel_ready()
            stub: Any = recognizer_pb2_grpc.RecognizerStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.StreamingRecognize(late()).read()
            found: grpc.StatusCode = caught.value.code()
            return found

    assert asyncio.run(code()) is UNAUTHENTICATED


@pytest.mark.parametrize("reflection", [True, False])
def test_reflection_can_be_switched_off(workshop: Any, reflection: bool) -> None:
    replica = workshop.start(access__reflection=reflection)
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(replica.channel)
    asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])

    def names() -> set[str]:
        (answer,) = stub.ServerReflectionInfo(asked, timeout=30)
        return {service.name for service in answer.list_services_response.service}

    if reflection:
        assert set(SERVICES) <= names()
    else:
        assert code_of(names) is grpc.StatusCode.UNIMPLEMENTED


def test_what_was_stored_without_keys_is_the_default_tenants(workshop: Any, dialogue: str, keys: Any) -> None:
    """A server that gets keys later: the tenant `default` reads on, others see nothing."""
    keyless = workshop.start()
    keyless.ask(dialogue, "1", "meg bauer")
    keyless.wait_for("READY", dialogue)
    keyless.run(keyless.server.drain())
    file, made = keys
    key, line = make_key("default")
    file.write_text(file.read_text() + line)
    keyed = workshop.start(access__keys_file=str(file), clock=keyless.clock)
    keyed.with_key(key).wait_for("READY", dialogue)
    assert code_of(lambda: keyed.with_key(made["acme"]).status(dialogue)) is grpc.StatusCode.NOT_FOUND
    store = ContextStore(workshop.config, workshop.key, clock=keyless.clock)
    assert store.dialogue_status(DialogueId("default", dialogue)).turns
    store.close()


def test_a_tenant_that_lost_its_keys_is_forgotten(workshop: Any, dialogue: str, keys: Any, pcm: bytes) -> None:
    """Its contexts leave memory, and a job under way leaves no trace; other tenants' stay."""
    file, made = keys
    replica = workshop.start(access__keys_file=str(file))
    acme, umbra = (replica.with_key(made[tenant]) for tenant in ("acme", "umbra"))
    for caller in (acme, umbra):
        caller.ask(dialogue, "1", "meg bauer")
        caller.wait_for("READY", dialogue)
    replica.encoder.go_on.clear()
    acme.ask(dialogue, "2", "dave")
    acme.wait_for("ENCODING", dialogue, "2")
    file.write_text("".join(line for line in file.read_text().splitlines(keepends=True) if "umbra" in line))
    replica.call(replica.server.access.reload)
    assert umbra.finals(pcm, dialogue_id=dialogue, turn_id="2")[-1].context.status == recognizer_pb2.ContextInfo.APPLIED
    assert {context.dialogue.tenant for context in replica.server.contexts.cache} == {"umbra"}
    replica.encoder.go_on.set()
    replica.run(replica.server.drain())
    assert {context.dialogue.tenant for context in replica.server.contexts.cache} == {"umbra"}
    store = ContextStore(workshop.config, workshop.key, clock=replica.clock)
    assert store.get_embedding(DialogueId("acme", dialogue), "2", "echo-1") is None
    assert store.delete_tenant("acme") > 0
    assert not store.dialogue_status(DialogueId("acme", dialogue)).turns
    store.close()


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
def wav(tmp_path: Path, speech: Any) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.clip(speech, -1, 1), 16_000, subtype="PCM_16")
    return path


def client(wav: Path, port: int, *arguments: str) -> Any:
    return CliRunner().invoke(stream_client.app, [str(wav), "--json", "--server", f"localhost:{port}", *arguments])


def tls_settings(files: dict[str, str]) -> dict[str, str]:
    return {f"tls__{name}": path for name, path in files.items()}


def test_tls_with_keys(workshop: Any, authority: Authority, keys: Any, wav: Path, tmp_path: Path) -> None:
    replica = workshop.start(access__keys_file=str(keys[0]), **tls_settings(authority.issue("server")))
    (tmp_path / "key").write_text(keys[1]["acme"] + "\n")
    ca, key = ["--ca", str(authority.ca)], ["--key-file", str(tmp_path / "key")]
    good = client(wav, replica.port, *ca, *key)
    assert good.exit_code == 0, good.output
    first = json.loads(good.stdout.splitlines()[0])
    assert first["context"]["status"] == "NOT_REQUESTED"
    assert (first["passes"], first["skipped_passes"]) == (["STREAMING", "WHOLE_UTTERANCE"], [])
    keyless = client(wav, replica.port, *ca)
    assert keyless.exit_code == 2 and "UNAUTHENTICATED" in keyless.stderr
    plain = client(wav, replica.port, *key)
    assert plain.exit_code == 2 and "--ca" in plain.stderr
    foreign = Authority(tmp_path, "foreign")
    assert client(wav, replica.port, "--ca", str(foreign.ca), *key).exit_code == 2


def test_client_certificates(workshop: Any, authority: Authority, wav: Path, tmp_path: Path) -> None:
    settings = tls_settings(authority.issue("server")) | {"tls__client_ca": str(authority.ca)}
    replica = workshop.start(**settings)

    def call(files: dict[str, str] | None) -> int:
        shown = ["--certificate", files["certificate"], "--certificate-key", files["key"]] if files else []
        code: int = client(wav, replica.port, "--ca", str(authority.ca), *shown).exit_code
        return code

    assert call(authority.issue("client")) == 0
    assert call(None) == 2
    assert call(Authority(tmp_path, "foreign").issue("stranger")) == 2


def test_client_certificates_of_tenants(
    workshop: Any, authority: Authority, wav: Path, tmp_path: Path, dialogue: str
) -> None:
    """A certificate's name says the tenant: its own dialogue leads to a context, another's to nothing."""
    (tmp_path / "keys").write_text("acme cert:phones.acme.example\numbra cert:umbra.example")
    settings = tls_settings(authority.issue("server")) | {"tls__client_ca": str(authority.ca)}
    replica = workshop.start(access__keys_file=str(tmp_path / "keys"), **settings)
    replica.server.store.store.record(
        DialogueId("acme", dialogue),
        "1",
        [Event("1", 0.0, Entities("contacts", ("meg bauer",))), Event("2", 0.0, ExpectSpeech())],
    )

    def context(*names: str) -> str:
        files = authority.issue("client", *names)
        shown = ["--certificate", files["certificate"], "--certificate-key", files["key"], "--dialogue", dialogue]
        answer = client(wav, replica.port, "--ca", str(authority.ca), *shown)
        return json.loads(answer.stdout.splitlines()[-1])["context"]["status"] if answer.stdout else answer.stderr

    assert context("phones.acme.example") == "APPLIED"
    assert context("umbra.example") == "NOT_FOUND"
    assert "UNAUTHENTICATED" in context("nobody.example")


def test_a_renewed_certificate_is_used_without_restart(workshop: Any, authority: Authority, tmp_path: Path) -> None:
    files = authority.issue("server")
    replica = workshop.start(**tls_settings(files))

    def reachable(ca: Path) -> bool:
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(f"localhost:{replica.port}", credentials, options) as channel:
            stub = context_pb2_grpc.ContextStub(channel)
            try:
                stub.GetContextStatus(context_pb2.GetContextStatusRequest(dialogue_id="none"), timeout=30)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code is grpc.StatusCode.NOT_FOUND
        return False

    newer = Authority(tmp_path, "newer")
    assert reachable(authority.ca) and not reachable(newer.ca)
    newer.issue("server")  # in place of the old pair
    assert reachable(newer.ca) and not reachable(authority.ca)


@pytest.mark.parametrize("what", ["certificate", "key"])
def test_files_that_are_no_pem_are_named(workshop: Any, authority: Authority, tmp_path: Path, what: str) -> None:
    files = authority.issue("server")
    (tmp_path / "wrong").write_text("nothing")
    with pytest.raises(ConfigError, match=f"tls.{what}.*PEM"):
        workshop.start(**tls_settings(files | {what: str(tmp_path / "wrong")}))
    with pytest.raises(ConfigError, match=f"tls.{what}.*cannot be read"):
        workshop.start(**tls_settings(files | {what: str(tmp_path / "absent")}))


def test_a_key_is_not_sent_in_the_clear_beyond_this_machine(wav: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("co_secret")
    arguments = [str(wav), "--server", "carryover.example:50051", "--key-file", str(tmp_path / "key")]
    refused = CliRunner().invoke(stream_client.app, arguments)
    assert refused.exit_code == 2 and "--ca" in refused.stderr


def test_probes_need_neither_tls_nor_key(workshop: Any, authority: Authority, keys: Any) -> None:
    """Probes of kubelet speak no TLS: health alone answers on a port of its own, and says when the server drains."""
    settings = {"access__keys_file": str(keys[0]), **tls_settings(authority.issue("server"))}
    replica = workshop.start(health_port=0, **settings)
    with grpc.insecure_channel(f"127.0.0.1:{replica.server.health_port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for name in ("", LIVENESS, *SERVICES):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == 1
        other = context_pb2_grpc.ContextStub(channel)
        request = context_pb2.GetContextStatusRequest(dialogue_id="d")
        assert code_of(lambda: other.GetContextStatus(request, timeout=30)) is grpc.StatusCode.UNIMPLEMENTED
        replica.run(replica.server.drain())
        for name, status in ((SERVICES[0], 2), (LIVENESS, 1)):  # who drains is not to be killed for it
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=30).status == status
    with pytest.raises(PortError, match=f":{replica.port}"):
        workshop.start(port=0, health_port=replica.port)
