"""Train the token n-gram language model on texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from asr.commands.terminal import console, give_up
from asr.decoding.ngram import NGram, hash_tokens
from asr.errors import AsrError
from asr.text.tokenizer import Tokenizer
from recipes.language.kneser_ney import mix, prune, to_automaton, train_kneser_ney
from recipes.language.text import SHARES, read_texts, transcripts

app = typer.Typer(add_completion=False)


def train(data: Path, tokenizer: Tokenizer, order: int, arcs: int, bar: Progress) -> NGram:
    """The mixture of the sources of `read_texts` by SHARES, pruned."""
    task = bar.add_task("", total=2 * len(SHARES) + 3)

    def step(what: str) -> None:
        bar.update(task, description=what, advance=1)

    texts = read_texts(data, progress=lambda source: step(f"texts: {source}"))
    models = []
    for source in SHARES:
        step(f"counting {source}")
        models.append(train_kneser_ney([tokenizer.encode(t) for t in texts.pop(source)], tokenizer.vocab_size, order))
    step("mixing")
    mixed = mix(models, np.array(list(SHARES.values())) / sum(SHARES.values()))
    step("pruning")
    model = to_automaton(prune(mixed, arcs), hash_tokens(tokenizer), f"ngram{order}-{arcs}")
    step("done")
    return model


def perplexities(model: NGram, tokenizer: Tokenizer, sets: dict[str, list[str]]) -> Table:
    """Of each set of texts, per token and per word; a text's end counts as one of both."""
    table = Table("dev set", "texts", "words", "per token", "per word")
    for name, texts in sets.items():
        tokens = [tokenizer.encode(t) for t in texts]
        nats, words = -sum(model.score_texts(tokens)), sum(len(t.split()) for t in texts)
        rates = (math.exp(nats / (count + len(texts))) for count in (sum(map(len, tokens)), words))
        table.add_row(name, str(len(texts)), str(words), *(f"{rate:.1f}" for rate in rates))
    return table


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="Folder with text/, speech/ and followups/.", show_default=False)],
    tokens: Annotated[Path, typer.Option(help="Folder with the acoustic model's tokens.model.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model.", show_default=False)],
    order: Annotated[int, typer.Option(min=2, help="Tokens in the longest n-gram.")] = 6,
    arcs: Annotated[int, typer.Option(min=1, help="n-grams that are kept; some 3.4 bytes each.")] = 1_450_000,
) -> None:
    """Count, mix and prune; prints the perplexity on each dev set. A minute or two on one core.

    scripts/fit_language fits the weight with which a recogniser uses it.
    """
    try:
        tokenizer = Tokenizer.load(tokens / "tokens.model" if tokens.is_dir() else tokens)
        with Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True
        ) as bar:
            model = train(data, tokenizer, order, arcs, bar)
        model.save(out)
        model = NGram.load(out, tokenizer)
        Console(highlight=False).print(perplexities(model, tokenizer, transcripts(data, "dev")))
    except (AsrError, OSError) as error:
        give_up(error)


if __name__ == "__main__":
    app()
