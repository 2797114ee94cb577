"""The page to talk to: files of this package, as they are. It loads nothing from anywhere else."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from aiohttp import web

_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page_routes() -> list[web.RouteDef]:
    """`/` and its files, for everybody: a key is asked for by what they call."""
    folder = Path(str(files("server.http"))) / "page"
    names = sorted(path.name for path in folder.iterdir() if path.suffix in _TYPES)

    def route(path: str, file: Path) -> web.RouteDef:
        async def answer(request: web.Request) -> web.FileResponse:
            kind = f"{_TYPES[file.suffix]}; charset=utf-8"
            return web.FileResponse(file, headers={"content-type": kind, "cache-control": "no-cache"})

        return web.get(path, answer)

    return [route("/", folder / "index.html"), *(route(f"/{name}", folder / name) for name in names)]
