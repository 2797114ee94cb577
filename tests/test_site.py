"""The documentation builds to a site that has everything and asks nothing of anybody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import pytest

import carryover
import context_store
from carryover.v1 import context_pb2, recognizer_pb2
from tests.test_docs import PAGES

ROOT = Path(__file__).parents[1]
_LOADED = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=["']([^"']+)""")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed (the extra `docs`)"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def headings(page: Path) -> Iterator[str]:
    """Texts of the headings of a page."""
    for heading in re.findall(r"<h[1-6][^>]*>(.*?)</h[1-6]>", page.read_text(), re.DOTALL):
        yield " ".join(unescape(re.sub(r"<[^>]+>", " ", heading)).replace("¶", "").split())


def test_every_page_is_there_under_its_title(site: Path) -> None:
    titles = {next(headings(page), "") for page in site.rglob("index.html")}
    for page in PAGES:
        title = re.search(r"^# (.+)$", page.read_text(), re.MULTILINE)
        assert title and re.sub(r"[`*]", "", title[1]).strip() in titles, page


def test_the_reference_has_all_that_is_exported(site: Path) -> None:
    interface = set(headings(site / "reference/interface/index.html"))
    for module in (context_pb2, recognizer_pb2):
        described = module.DESCRIPTOR
        assert {*described.message_types_by_name, *described.services_by_name} <= interface
        for service in described.services_by_name.values():
            assert {f"{service.name}.{method.name}" for method in service.methods} <= interface
    for name, package in (("client", carryover), ("context_store", context_store)):
        text = (site / f"reference/{name}/index.html").read_text()
        assert all(f'id="{package.__name__}.{exported}"' in text for exported in package.__all__)


def test_a_comment_of_the_interface_is_on_its_page(site: Path) -> None:
    text = (site / "reference/interface/index.html").read_text()
    assert "Version of the acoustic model." in text and "the client then gets the plain result" in " ".join(
        text.split()
    )


def test_the_search_leads_to_a_message_by_its_whole_name(site: Path) -> None:
    """As reflection and errors have it; the browser cuts the question where the index cuts the pages."""
    index = json.loads((site / "search/search_index.json").read_text())
    texts = {section["location"]: section["text"] for section in index["docs"]}
    for name in ("StreamingConfig", "Recognizer", "ContextInfo.Status"):
        place = f"reference/interface/#{name.lower().replace('.', '')}"
        assert f"carryover.v1.{name}" in texts[place]
    assert re.split(index["config"]["separator"], "carryover.v1.StreamingConfig") == [
        "carryover",
        "v1",
        "StreamingConfig",
    ]


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    loaded = [(page, url) for page in site.rglob("*.html") for url in _LOADED.findall(page.read_text())]
    assert loaded
    assert not [(page, url) for page, url in loaded if re.match(r"(https?:)?//", url)]
    for page, url in loaded:
        path = url.partition("#")[0].partition("?")[0]
        place = site / path.lstrip("/") if path.startswith("/") else page.parent / path
        assert not path or place.exists(), f"{page.relative_to(site)} loads {url}"
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.search(r"url\(\s*[\"']?(https?:)?//", styles) and not re.search(r"@import\s", styles)
