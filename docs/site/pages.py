"""A hook of mkdocs: the site's pages, from where they are in the repository, and those that are made.

A page keeps its path in the repository as its source path, so its links to other pages are right as they stand; only
its address is shorter (`docs/api.md` is at `api/`). Other files that a page links to travel along. Made are the
reference of the gRPC interface, from the comments of the .proto files, that of the Python packages, from their
docstrings, and the examples.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", *(f"{folder}/**/*.md" for folder in ("docs", "samples", "clients", "asr", "benchmarks", "recipes")))
PROTOS = "carryover/v1"
PLACES = {"examples": "reference/examples.md", f"proto/{PROTOS}": "reference/interface.md"}
"""Folders that pages link to, and the page that stands for each."""
PYTHON = {
    "client": ("Python client", "clients/python/carryover", "carryover"),
    "client_aio": ("Python client, asyncio", "clients/python/carryover/aio.py", "carryover.aio"),
    "client_dialogue": ("Python client, dialogues", "clients/python/carryover/dialogue.py", "carryover.dialogue"),
    "recogniser": ("The recogniser in Python", "asr/recognition", "asr.recognition"),
    "context_store": ("The context store in Python", "context_store", "context_store"),
}
"""Title, source and name of each module whose `__all__` is a page."""
SECTIONS = {"docs": "How-to", "clients": "Reference"}
"""Where a page that the navigation does not name stands, by its first folder."""
MEASURED = {"asr": "Model cards", "benchmarks": "Benchmarks", "recipes": "Recipes", "samples": "Samples"}
"""Folders whose pages stand under Measurements, and the title of each."""
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def on_config(config: MkDocsConfig) -> None:
    """Put pages that the navigation does not name into it."""
    sections: dict[str, list[Any]] = {title: part for entry in config.nav or [] for title, part in entry.items()}
    measured: dict[str, list[Any]] = {title: [] for title in MEASURED.values()}
    for path in sorted(set(_pages()) - set(_paths(config.nav or []))):
        folder = path.partition("/")[0]
        section = measured[MEASURED[folder]] if folder in MEASURED else sections[SECTIONS.get(folder, "Explanation")]
        section.append({_title(path): path})
    (config.nav or []).append({"Measurements": [{title: pages} for title, pages in measured.items()]})


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The site's files, in place of those of the docs folder."""
    found = [file for file in files if not file.src_uri.startswith(("site/",)) and not _is_ours(file.src_uri)]
    pages = _pages()
    for path in [*pages, *_linked(pages), "docs/site/site.css"]:
        address = path.removeprefix("docs/")
        dest = None
        if path.endswith(".md"):
            folder = re.sub(r"(^|/)README$", "", address.removesuffix(".md")).lower()
            dest = str(PurePosixPath(folder, "index.html"))
        elif "." not in path.rpartition("/")[2]:
            dest = f"{address}.txt"  # NOTICE, LICENSE
        else:
            dest = address
        found.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=dest))
    for path, content in _made():
        found.append(File.generated(config, path, content=content))
    return Files(found)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to folders lead to the page that stands for each."""
    here = PurePosixPath(page.file.src_uri).parent

    def leads(match: re.Match[str]) -> str:
        target = _resolved(here, match[1])
        return _relative(PLACES[target], here) if target in PLACES else match[1]

    return _LINK.sub(leads, markdown)


def _is_ours(path: str) -> bool:
    """Is a file of the docs folder taken by its path in the repository?"""
    return (ROOT / "docs" / path).is_file()


def _pages() -> list[str]:
    return sorted({path.relative_to(ROOT).as_posix() for pattern in PAGES for path in ROOT.glob(pattern)})


def _paths(nav: Sequence[Any]) -> Iterator[str]:
    for entry in nav:
        for part in entry.values():
            yield from [part] if isinstance(part, str) else _paths(part)


def _title(path: str) -> str:
    folder, _, name = path.rpartition("/")
    heading = re.search(r"^# (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    title = heading[1].split(":")[0].replace("`", "") if heading else name
    return title if name == "README.md" or folder == "docs" else f"{title} ({folder})"


def _linked(pages: Sequence[str]) -> list[str]:
    """Other files of the repository that pages show or link to."""
    found = set()
    for path in pages:
        for target in _LINK.findall((ROOT / path).read_text()):
            resolved = _resolved(PurePosixPath(path).parent, target)
            if not resolved.endswith(".md") and (ROOT / resolved).is_file():
                found.add(resolved)
    return sorted(found)


def _resolved(folder: PurePosixPath, target: str) -> str:
    parts: list[str] = []
    for part in (folder / target).parts:
        if part == "..":
            parts[-1:] = []
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _relative(path: str, folder: PurePosixPath) -> str:
    return "../" * len(folder.parts) + path


def _made() -> Iterator[tuple[str, str]]:
    for name, (title, source, module) in PYTHON.items():
        yield f"reference/{name}.md", _python(title, ROOT / source, module)
    yield "reference/examples.md", _examples()
    yield "reference/interface.md", _interface()


def _python(title: str, source: Path, module: str) -> str:
    """A page with all that a module exports, by its docstrings."""
    tree = ast.parse((source / "__init__.py" if source.is_dir() else source).read_text())
    defined = [
        node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"
    ]
    exported = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        defined,
    )
    parts = [f"# {title}", f"`{module}`. {ast.get_docstring(tree) or ''}"]
    return "\n\n".join([*parts, *(f"::: {module}.{name}" for name in exported)])


def _examples() -> str:
    parts = ["# Examples", "Short programs, which the tests run against a server."]
    for file in sorted((ROOT / "examples").glob("*.py")):
        parts += [f"## `examples/{file.name}`", f"```python\n{file.read_text()}```"]
    return "\n\n".join(parts)


def _interface() -> str:
    """The page of the gRPC interface, of what the .proto files say in their comments."""
    protos = sorted(path.relative_to(ROOT / "proto").as_posix() for path in (ROOT / "proto" / PROTOS).glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "descriptors")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={ROOT / 'proto'}", "--include_source_info"]
        subprocess.run([*command, "--include_imports", f"--descriptor_set_out={out}", *protos], check=True)
        described = FileDescriptorSet.FromString(out.read_bytes())
    parts = ["# The gRPC interface", "Package `carryover.v1`. [The interface](../docs/api.md) walks through it."]
    for file in described.file:
        if file.name in protos:
            parts += _File(file).parts()
    return "\n\n".join(parts)


class _File:
    """One .proto file as parts of a page."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        self._comments = {tuple(place.path): place for place in file.source_code_info.location}

    def parts(self) -> list[str]:
        file = self._file
        parts = [f"## {file.name.rpartition('/')[2]}", self._comment(12)]  # 12: the statement `syntax`
        for i, service in enumerate(file.service):
            parts += [f"### {service.name}", self._whole(service.name), self._comment(6, i)]
            for j, method in enumerate(service.method):
                asked, answered = (
                    f"{'stream ' if streams else ''}{self._linked(kind)}"
                    for streams, kind in (
                        (method.client_streaming, method.input_type),
                        (method.server_streaming, method.output_type),
                    )
                )
                parts += [f"#### {service.name}.{method.name}", f"{asked} → {answered}", self._comment(6, i, 2, j)]
        for i, message in enumerate(file.message_type):
            parts += self._message(message, message.name, (4, i))
        for i, enum in enumerate(file.enum_type):
            parts += self._enum(enum, enum.name, (5, i))
        return [part for part in parts if part]

    def _comment(self, *path: int) -> str:
        place = self._comments.get(path)
        if place is None:
            return ""
        text = "\n".join(comment for comment in (*place.leading_detached_comments, place.leading_comments) if comment)
        plain = "\n".join(line.removeprefix(" ") for line in text.splitlines())
        return re.sub(r"(?<=[^\n])\n- ", "\n\n- ", re.sub(r"<(?=\w)", "&lt;", plain), count=1)

    def _whole(self, name: str) -> str:
        """The name as reflection, logs and errors have it."""
        return f"`{self._file.package}.{name}`"

    def _message(self, message: DescriptorProto, name: str, path: tuple[int, ...]) -> list[str]:
        maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
        rows = []
        for i, field in enumerate(message.field):
            kind = self._kind(field, maps)
            note = " ".join(self._comment(*path, 2, i).split()).replace("|", "\\|")
            if field.HasField("oneof_index") and not field.proto3_optional:
                note = f"One of `{message.oneof_decl[field.oneof_index].name}`. {note}"
            rows.append(f"| `{field.name}` | {field.number} | {kind} | {note} |")
        parts = [f"### {name}", self._whole(name), self._comment(*path)]
        if rows:
            parts.append("\n".join(["| field | number | type | |", "|---|---|---|---|", *rows]))
        for i, nested in enumerate(message.nested_type):
            if nested.name not in maps:
                parts += self._message(nested, f"{name}.{nested.name}", (*path, 3, i))
        for i, enum in enumerate(message.enum_type):
            parts += self._enum(enum, f"{name}.{enum.name}", (*path, 4, i))
        return parts

    def _enum(self, enum: EnumDescriptorProto, name: str, path: tuple[int, ...]) -> list[str]:
        rows = [
            f"| `{value.name}` | {value.number} | {' '.join(self._comment(*path, 2, i).split())} |"
            for i, value in enumerate(enum.value)
        ]
        table = "\n".join(["| value | number | |", "|---|---|---|", *rows])
        return [f"### {name}", self._whole(name), self._comment(*path), table]

    def _kind(self, field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
        entry = maps.get(field.type_name.rpartition(".")[2])
        if entry is not None:
            key, value = (self._kind(part, {}) for part in entry.field)
            return f"map of {key} to {value}"
        label = "repeated " if field.label == field.LABEL_REPEATED else "optional " if field.proto3_optional else ""
        plain = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        return label + (self._linked(field.type_name) if field.type_name else plain)

    def _linked(self, type_name: str) -> str:
        name = type_name.removeprefix(f".{self._file.package}.")
        anchor = re.sub(r"[^\w-]", "", name.lower())
        return f"`{name.removeprefix('.')}`" if name == type_name else f"[{name}](#{anchor})"
