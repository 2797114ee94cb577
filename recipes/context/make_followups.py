"""Make follow-ups of human recordings: what was said, among entries that it could be confused with."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import capwords
from typing import Annotated, Any

import typer

from asr.commands.terminal import console, give_up, report, track, warn
from asr.errors import AsrError
from asr.evaluation.jsonl import Problem, read_lines, text_lines
from asr.evaluation.recordings import parse_audio
from asr.text import normalize
from recipes.context.data import SoundAlikes

app = typer.Typer(add_completion=False)
_POOL = 40_000
"""Words of the frequency list that entries are made of, the frequent ones left out."""
_ANSWER_WORDS, _PHRASE_WORDS = 3, 3
_LISTED_WORDS = 10
"""Words of an utterance that can be an item of a list: as many as a phrase is matched by."""
_ALIKES = 3
"""Sound-alikes of each thing said that stand among the entries."""
_ASKED = {
    "contacts": ("find a contact", "Whose name is it?"),
    "places": ("find a place", "Which place do you mean?"),
    "screen": ("show me the list", "Here it is. What would you like?"),
}


@dataclass(frozen=True)
class Lexicon:
    """frequent: words that no entry is made of; alikes: the others, by sound; people, towns: what names which."""

    frequent: frozenset[str]
    alikes: SoundAlikes
    people: frozenset[str]
    towns: frozenset[str]

    def rare(self, word: str) -> bool:
        return len(word) > 3 and word not in self.frequent

    def signal(self, phrase: str) -> str:
        if phrase in self.towns:
            return "places"
        return "contacts" if all(w in self.people for w in phrase.split()) else "screen"


def read_lexicon(data: Path, frequent: int) -> Lexicon:
    """From DATA/text: word frequencies, names and towns."""

    def column(file: str, limit: int) -> list[str]:
        lines = text_lines(data / "text" / file)
        next(lines)
        return [word for line, _ in zip(lines, range(limit), strict=False) if (word := normalize(line.split("\t")[0]))]

    words = column("wordfreq.tsv.gz", _POOL)
    people = [*column("names/given_names.tsv.gz", 2000), *column("names/surnames.tsv.gz", 5000)]
    pool = [*(w for w in words[frequent:] if len(w) > 3 and w.isalpha()), *people]
    towns = column("places/cities.tsv.gz", 6000)
    known = frozenset(words[:frequent])
    return Lexicon(known, SoundAlikes(pool), frozenset(people) - known, frozenset(towns) - known)


def said(words: Sequence[str], lexicon: Lexicon) -> list[str]:
    """What entries can stand for in an utterance: all of a short one, else its runs of rare words."""
    if len(words) <= _ANSWER_WORDS:
        return [" ".join(words)] if any(len(w) > 2 for w in words) else []
    runs: list[list[str]] = [[]]
    for word in words:
        if not lexicon.rare(word):
            runs.append([])
        elif len(runs[-1]) < _PHRASE_WORDS:
            runs[-1].append(word)
    return list(dict.fromkeys(" ".join(r) for r in runs if r))


def listable(words: Sequence[str]) -> bool:
    """Whether an utterance can stand in a list as a whole, of dates, codes or titles; shorter ones are answers."""
    return _ANSWER_WORDS < len(words) <= _LISTED_WORDS


def confusions(phrase: str, lexicon: Lexicon, avoid: set[str]) -> list[str]:
    """The phrase with one of its words, the last one that has any, exchanged for words that sound like it."""
    words = phrase.split()
    for place in range(len(words) - 1, -1, -1):
        near = lexicon.alikes.nearest(words[place], avoid, _ALIKES)
        if near:
            return [" ".join((*words[:place], other, *words[place + 1 :])) for other in near]
    return []


def context_of(
    text: str, lexicon: Lexicon, sizes: Sequence[int], rng: random.Random, items: SoundAlikes | None = None
) -> dict[str, Any] | None:
    """{set, target, context} in the manifest's form; None where nothing that was said makes an entry.

    items: what others said, for utterances that are an item of a list as a whole; None: there are no such.
    """
    words = text.split()
    listed = items is not None and listable(words)
    phrases = [text] if listed else said(words, lexicon)
    if not phrases:
        return None
    target = max(phrases, key=len)
    avoid = set(words)
    if listed and items is not None:
        confusable = {text: items.nearest(text, set(), _ALIKES)}
    else:
        confusable = {p: confusions(p, lexicon, avoid) for p in phrases}
    entries = list(dict.fromkeys([*phrases, *(c for found in confusable.values() for c in found)]))
    size = max(rng.choice(sizes), len(entries))
    if listed and items is not None:
        others = [t for t in items.texts if t not in entries]
        entries += rng.sample(others, min(len(others), size - len(entries)))
    while not listed and len(entries) < size:
        other = " ".join(rng.choice(lexicon.alikes.texts) for _ in target.split())
        if other not in entries and not avoid & set(other.split()):
            entries.append(other)
    rng.shuffle(entries)
    user, system = _ASKED["screen" if listed else lexicon.signal(target)]
    if (listed or len(words) <= _ANSWER_WORDS) and rng.random() < 0.5:
        offered = [target, *confusable[target][:2]]
        rng.shuffle(offered)
        system = f"Do you mean {', '.join(capwords(o) for o in offered[:-1])} or {capwords(offered[-1])}?"
    return {
        "set": "listed" if listed else "answer" if len(words) <= _ANSWER_WORDS else "rare_words",
        "target": target,
        "context": {
            "turns": [{"speaker": "user", "text": user}, {"speaker": "system", "text": system}],
            "entities": [{"signal": lexicon.signal(e), "text": capwords(e)} for e in entries],
        },
    }


def followups(
    manifest: Path, out: Path, lexicon: Lexicon, sizes: Sequence[int], seed: int, lists: bool
) -> Iterator[dict[str, Any] | Problem | None]:
    """Each line of a manifest of speech as a follow-up; None for one that makes none."""
    items = SoundAlikes(t for t in _texts(manifest) if listable(t.split())) if lists else None
    for number, value in read_lines(manifest):
        if isinstance(value, Problem):
            yield value
            continue
        try:
            place = parse_audio(value, manifest.parent)
        except AsrError as error:
            yield Problem(number, str(error))
            continue
        text = normalize(str(value.get("text", "")))
        rng = random.Random(f"{seed} {value.get('id')}")
        made = context_of(text, lexicon, sizes, rng, items) if text else None
        path = os.path.relpath(place.path, out.parent)
        audio = {"path": path} if place.member is None else {"shard": path, "member": place.member}
        kept: dict[str, Any] = {k: value[k] for k in ("id", "duration_s", "speaker") if k in value}
        source = value.get("source") or value.get("corpus") or ""
        yield made and {**kept, "audio": audio, "text": text, "source": source, **made}


def _texts(manifest: Path) -> Iterator[str]:
    for _, value in read_lines(manifest):
        if not isinstance(value, Problem):
            yield normalize(str(value.get("text", "")))


@app.command()
def main(
    manifest: Annotated[Path, typer.Argument(metavar="SPEECH.jsonl", help="Lines of speech; may be gzipped.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="The follow-ups; audio stays where it is.")],
    data: Annotated[Path, typer.Option(help="Folder with text/wordfreq.tsv.gz, text/names and text/places.")],
    sizes: Annotated[str, typer.Option(help="Comma-separated numbers of entries, one is drawn for each.")] = (
        "5,10,20,50,100"
    ),
    frequent: Annotated[int, typer.Option(min=0, help="Words, the most frequent ones, that count as known.")] = 5000,
    lists: Annotated[
        bool, typer.Option("--lists", help="Utterances of 4 to 10 words are items of a list of such utterances.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many follow-ups.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same contexts.")] = 0,
) -> None:
    """Give recordings of people contexts built around their rare words, in the form that evaluate_wer reads.

    Set `answer`: the whole of a short utterance is an entry. Set `rare_words`: each run of rare words in a longer one
    is. Set `listed`, with --lists: the whole of one of 4 to 10 words is, among what the manifest's others say, as dates
    or codes on a screen are. Entries that sound like them and others that do not stand beside them. Utterances without
    any are left out.
    """
    try:
        lexicon = read_lexicon(data, frequent)
        lengths = [int(s) for s in sizes.split(",")]
        total = sum(1 for _ in text_lines(manifest))
        made, problems = 0, 0
        with out.open("w", encoding="utf-8") as file:
            for row in track(followups(manifest, out.absolute(), lexicon, lengths, seed, lists), total, "follow-ups"):
                if isinstance(row, Problem):
                    problems += report(manifest, [row])
                elif row and (limit is None or made < limit):
                    file.write(json.dumps(row) + "\n")
                    made += 1
                if made == limit:
                    break
    except (AsrError, OSError) as error:
        give_up(error)
    console.print(f"{made} follow-ups of {total} utterances: {out}")
    if problems:
        warn(f"{problems} lines could not be used")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
