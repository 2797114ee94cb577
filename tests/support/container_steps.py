"""deploy/Containerfile without an engine: what it says, what travels to it, and its build stage walked in a folder.

    python -m tests.support.container_steps FOLDER [TORCH=cuda]

copies what `.dockerignore` lets through and runs the build stage's steps there, FOLDER standing for the image's root:
the Python is the one on the PATH, not the base image's. Prints the size of what the image would get on top of its base.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from docker.utils import exclude_paths

ROOT = Path(__file__).parents[2]
FILE = "deploy/Containerfile"


def instructions() -> list[tuple[str, str]]:
    """Its lines as (instruction, rest), continued ones joined, comments left out."""
    text = re.sub(r"^#.*\n", "", (ROOT / FILE).read_text(), flags=re.MULTILINE).replace("\\\n", "")
    found = (line.partition(" ") for line in text.splitlines() if line.strip())
    return [(word, rest.strip()) for word, _, rest in found]


def of(instruction: str) -> list[str]:
    """What stands behind each of an instruction."""
    return [rest for word, rest in instructions() if word == instruction]


def copied() -> list[str]:
    """The files and folders that travel into the build."""
    return [name for line in of("COPY") if not line.startswith("--from") for name in line.split()[:-1]]


def let_through(folder: Path) -> set[str]:
    """The files of a folder that an engine would send to a build, by the rules in `.dockerignore`."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    found: set[str] = exclude_paths(str(folder), rules, dockerfile=FILE)
    return {name for name in found if (folder / name).is_file()} - {FILE, ".dockerignore"}  # which are sent in any case


def walk(folder: Path, arguments: dict[str, str]) -> None:
    """Run the first stage. Raises CalledProcessError."""
    context, place, environment = folder / "context", folder, dict(os.environ)
    for name in let_through(ROOT):
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, context / name)
    for word, rest in _first_stage():
        rooted = re.sub(r"(?<![\w.])/(?=opt/)", f"{folder}/", rest)
        if word == "WORKDIR":
            place = folder / rest.lstrip("/")
            place.mkdir(parents=True)
        elif word == "ARG":
            name, _, usual = rest.partition("=")
            environment[name] = arguments.get(name, usual)
        elif word == "ENV":
            for name, value in (pair.split("=", 1) for pair in rooted.split()):
                environment[name] = os.path.expandvars(value.replace("$PATH", environment["PATH"]))
        elif word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if (context / source).is_dir():
                    shutil.copytree(context / source, place / target)
                else:
                    shutil.copy(context / source, place / target)
        elif word == "RUN":
            print(f"RUN {rest}", flush=True)  # noqa: T201
            subprocess.run(["bash", "-ec", rooted], cwd=place, env=environment, check=True)


def _first_stage() -> Iterator[tuple[str, str]]:
    for number, (word, rest) in enumerate(instructions()):
        if word == "FROM" and number:
            return
        yield word, rest


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    where.mkdir(parents=True)
    walk(where, dict(argument.split("=", 1) for argument in sys.argv[2:]))
    subprocess.run(["du", "-sm", where / "opt/carryover"], check=True)
