"""Keys bound to tenants: made, hashed, reloaded; and where a server without them may listen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from server.access import EMPTY_S, Access, Caller, certificate_names, hash_key, make_key, read_keys
from server.commands import make_key as command
from server.errors import UnauthenticatedError
from server.settings import ConfigError, load_settings


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def bearer(key: str) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "x"), ("authorization", f"Bearer {key}")]


def write(file: Path, *lines: str) -> None:
    """Replaces the file; its modification time moves on for certain."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text("\n".join(lines))
    os.utime(file, ns=(before + 10**9, before + 10**9))


def test_a_file_that_is_empty_for_a_moment_locks_nobody_out(tmp_path: Path) -> None:
    file, clock, gone = tmp_path / "keys", Clock(), list[str]()
    (acme, acme_line), (umbra, umbra_line) = make_key("acme"), make_key("umbra")
    write(file, acme_line, umbra_line)
    access = Access(file, gone.append, clock)
    for emptied in ("", "# being written", ""):
        write(file, emptied)
        clock.now += 2
        assert access.caller(bearer(acme)) == Caller("acme")
    write(file, umbra_line)
    clock.now += 2
    with pytest.raises(UnauthenticatedError):  # revoked, for certain
        access.caller(bearer(acme))
    assert access.caller(bearer(umbra)) == Caller("umbra")
    write(file, "")
    for _ in range(2):
        clock.now += 2
        assert access.caller(bearer(umbra)) == Caller("umbra")
    clock.now += EMPTY_S
    with pytest.raises(UnauthenticatedError):  # nobody is going to fill it
        access.caller(bearer(umbra))
    assert gone == ["acme", "umbra"]


def test_reload_looks_at_once(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    (acme, acme_line), (umbra, umbra_line) = make_key("acme"), make_key("umbra")
    write(file, acme_line)
    access = Access(file, clock=Clock())
    write(file, umbra_line)
    assert access.caller(bearer(acme)) == Caller("acme")
    access.reload()
    assert access.caller(bearer(umbra)) == Caller("umbra")
    Access(None).reload()


def test_without_a_file_everyone_is_the_default_tenant() -> None:
    assert Access(None).caller(()) == Caller("default")


def test_a_key_leads_to_its_tenant_and_the_file_is_reloaded(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    (acme, acme_line), (umbra, umbra_line) = make_key("acme"), make_key("umbra-2")
    write(file, "# our customers", "", f"{acme_line}  # until spring")
    gone: list[str] = []
    access = Access(file, gone.append, clock)
    assert access.caller(bearer(acme)) == Caller("acme")
    with pytest.raises(UnauthenticatedError, match="not known"):
        access.caller(bearer(umbra))
    write(file, acme_line, umbra_line)
    clock.now += 2
    assert access.caller(bearer(umbra)) == Caller("umbra-2")
    write(file, umbra_line)
    clock.now += 2
    with pytest.raises(UnauthenticatedError):
        access.caller(bearer(acme))
    assert gone == ["acme"]
    write(file, "nonsense")
    clock.now += 2
    assert access.caller(bearer(umbra)) == Caller("umbra-2")
    file.unlink()
    clock.now += 2
    assert access.caller(bearer(umbra)) == Caller("umbra-2")


def test_the_names_of_a_certificate_lead_to_its_tenant_where_no_key_is_sent(tmp_path: Path) -> None:
    key, line = make_key("umbra")
    write(tmp_path / "keys", line, "acme cert:phones.acme.example", "acme cert:spiffe://acme/kiosk", "umbra cert:umbra")
    access = Access(tmp_path / "keys")
    assert access.caller((), ["127.0.0.1", "phones.acme.example", "spiffe://acme/kiosk"]) == Caller("acme")
    assert access.caller(bearer(key), ["phones.acme.example"]) == Caller("umbra")  # a gateway sends its clients' keys
    for names, problem in (
        (["PHONES.acme.example", "cert:umbra"], "not known"),
        (["umbra", "spiffe://acme/kiosk"], "several"),
    ):
        with pytest.raises(UnauthenticatedError, match=problem):
            access.caller((), names)
    with pytest.raises(UnauthenticatedError, match="the key is not known"):
        access.caller(bearer("x"), ["umbra"])
    with pytest.raises(UnauthenticatedError, match="send the metadata"):
        access.caller(())
    name = hash_key(key)
    with pytest.raises(UnauthenticatedError):  # what is in the file opens nothing
        access.caller((), [name, f"sha256:{name}"])


def test_a_common_name_counts_only_without_alternative_names() -> None:
    assert certificate_names({"x509_common_name": [b"a"]}) == ["a"]
    assert certificate_names({"x509_common_name": [b"a"], "x509_subject_alternative_name": [b"b", b"c"]}) == ["b", "c"]
    assert certificate_names({}) == []


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "Basic {key}")],
        [("authorization", "{key}")],
        [("authorization", "Bearer {key}x")],
        [("authorization", b"Bearer {key}")],
        [("authorization-bin", "Bearer {key}")],
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, metadata: list[tuple[str, str | bytes]]) -> None:
    key, line = make_key("acme")
    write(tmp_path / "keys", line)
    access = Access(tmp_path / "keys")
    sent = [(name, value.replace("{key}", key) if isinstance(value, str) else value) for name, value in metadata]
    with pytest.raises(UnauthenticatedError) as caught:
        access.caller(sent)
    assert key not in str(caught.value)


@given(st.text(st.characters(codec="utf-8")))
def test_no_text_but_the_key_itself_opens(text: str) -> None:
    key, line = make_key("acme")
    assert (hash_key(text) in line) == (text == key)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("acme", "line 1"),
        ("Acme sha256:" + "0" * 64, "a tenant is"),
        ("a#b sha256:" + "0" * 64, "line 1"),
        ("acme sha256:0", "line 1"),
        ("acme md5:" + "0" * 64, "line 1"),
        ("acme sha256:" + "0" * 64 + " more", "line 1"),
        ("acme sha256:" + "0" * 64 + "\numbra sha256:" + "0" * 64, "line 2"),
        ("acme cert:", "line 1"),
        ("acme cert:a b", "line 1"),
        ("acme cert:a\numbra cert:a", "line 2"),
    ],
)
def test_lines_that_are_no_keys_are_named(tmp_path: Path, line: str, named: str) -> None:
    write(tmp_path / "keys", line)
    with pytest.raises(ConfigError, match=named):
        Access(tmp_path / "keys")


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours")  # without an end of line
    for tenant in ("acme", "umbra"):
        made = CliRunner().invoke(command.app, [tenant, "--keys-file", str(file)])
        assert made.exit_code == 0
        key = made.stdout.strip()
        assert Access(file).caller(bearer(key)) == Caller(tenant)
        assert key not in file.read_text()
    assert sorted(read_keys(file).values()) == ["acme", "umbra"]
    alone = CliRunner().invoke(command.app, ["acme"])
    assert hash_key(alone.stdout.strip()) in alone.stderr
    assert CliRunner().invoke(command.app, ["no tenant"]).exit_code == 2
    file.write_text("nonsense")
    assert CliRunner().invoke(command.app, ["acme", "--keys-file", str(file)]).exit_code == 2
    assert file.read_text() == "nonsense"


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "127.9.9.9"}, True),
        ({"host": "localhost"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "[::]"}, False),
        ({"host": "10.0.0.1"}, False),
        ({"host": "carryover.example"}, False),
        ({"host": "0.0.0.0", "access.keys_file": "keys"}, False),
        ({"host": "0.0.0.0", "tls.certificate": "c", "tls.key": "k"}, False),
        ({"host": "0.0.0.0", "tls.certificate": "c", "tls.key": "k", "access.keys_file": "keys"}, True),
        ({"host": "0.0.0.0", "tls.certificate": "c", "tls.key": "k", "tls.client_ca": "a"}, True),
    ],
)
def test_beyond_loopback_only_with_tls_and_a_way_to_know_callers(settings: dict[str, str], allowed: bool) -> None:
    if allowed:
        assert load_settings(None, settings, {}).host == settings["host"]
    else:
        with pytest.raises(ConfigError, match=r"^host: .* is beyond loopback.*keys_file"):
            load_settings(None, settings, {})


@pytest.mark.parametrize("settings", [{"tls.certificate": "c"}, {"tls.key": "k"}, {"tls.client_ca": "a"}])
def test_half_of_tls_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="together"):
        load_settings(None, settings, {})


def test_a_key_as_googles_clients_send_it(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    (acme, acme_line), (umbra, umbra_line) = make_key("acme"), make_key("umbra")
    write(file, acme_line, umbra_line)
    access = Access(file)
    assert access.caller([("x-goog-api-key", acme)]) == Caller("acme")
    assert access.caller([("x-goog-api-key", acme), *bearer(umbra)]) == Caller("umbra")
    for metadata in ([("x-goog-api-key", "co_unknown")], [("x-goog-api-key", acme), ("authorization", "Basic x")]):
        with pytest.raises(UnauthenticatedError):
            access.caller(metadata)
    with pytest.raises(UnauthenticatedError):  # a key counts before the certificate, known or not
        access.caller([("x-goog-api-key", "co_unknown")], ["phones"])
