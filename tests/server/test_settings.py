"""One configuration out of defaults, a file, the environment and flags; what is unknown is an error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from asr.decoding import BEAM
from server.settings import (
    PRIVATE,
    AccessSettings,
    ConfigError,
    ModelSettings,
    StoreSettings,
    TlsSettings,
    load_settings,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "carryover.toml"
    path.write_text('port = 1\n[limits]\nstreams = 5\nphrases = 6\n[store]\nendpoint = "http://127.0.0.1:8000"\n')
    return path


def test_flags_win_over_environment_over_file_over_defaults(file: Path) -> None:
    environ = {"CARRYOVER_PORT": "2", "CARRYOVER_LIMITS__STREAMS": "7", "CARRYOVER_TEST_ANYTHING": "x", "PATH": "/"}
    settings = load_settings(file, {"port": 3, "host": None}, environ)
    assert (settings.port, settings.limits.streams, settings.limits.phrases) == (3, 7, 6)
    assert settings.store.endpoint == "http://127.0.0.1:8000"
    assert settings.host == "127.0.0.1"
    assert load_settings(file, {}, environ).port == 2
    assert load_settings(None, {}, {}).port == 50051
    assert load_settings(None, {}, {}).model.beam == BEAM


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"CARRYOVER_PRT": "1"}, "prt"),
        ({"CARRYOVER_LIMITS__STREEMS": "1"}, "limits.streems"),
        ({"CARRYOVER_PORT": "http"}, "port"),
        ({"CARRYOVER_PORT": "70000"}, "port"),
        ({"CARRYOVER_LIMITS__STREAMS": "0"}, "limits.streams"),
        ({"CARRYOVER_STORE__ENDPOINT": "aws"}, "kms_key"),
        ({"CARRYOVER_STORE__ENDPOINT": "somewhere"}, "store.endpoint"),
    ],
)
def test_what_cannot_be_used_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_settings(None, {}, environ)


def test_a_server_of_a_commands_own_is_not_the_one_that_others_reach() -> None:
    """Every setting of access, and which store it is, is left out; what is new must be thought of."""
    environ = dict.fromkeys(PRIVATE, "x")
    assert load_settings(None, {}, environ | PRIVATE) == load_settings(None, {}, {})
    with pytest.raises(ConfigError):
        load_settings(None, {}, environ)
    harmless = {"reflection", "region", "ttl_s", "connect_timeout_s", "read_timeout_s", "deadline_s", "threads"}
    sections: dict[str, Any] = {"tls": TlsSettings, "access": AccessSettings, "store": StoreSettings}
    names = {f"CARRYOVER_{s}__{name}".upper() for s, m in sections.items() for name in m.model_fields.keys() - harmless}
    assert names == {name for name in PRIVATE if "__" in name}


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(tmp_path / "absent.toml", {}, {})
    for text, named in (("port =", "not TOML"), ("[limit]\nstreams = 1", "limit"), ("[port]\nx = 1", "port")):
        path = tmp_path / "wrong.toml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=named):
            load_settings(path, {}, {})


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_there_are_as_many_workers_as_cpus_that_the_server_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert ModelSettings().workers == 1
    finally:
        os.sched_setaffinity(0, before)
