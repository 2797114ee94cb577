"""Average the weights of acoustic models that were trained from one start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from asr.acoustic import load_model, save_model
from asr.commands.terminal import give_up
from asr.errors import AsrError, ModelError

app = typer.Typer(add_completion=False)


@app.command()
def main(
    models: Annotated[list[Path], typer.Argument(help="Folders of models; at least two.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the model.", show_default=False)],
    version: Annotated[str, typer.Option(help="What it is called.", show_default=False)],
) -> None:
    """Writes OUT, a model of the mean weights ("model soup", Wortsman et al. 2022, arXiv:2203.05482).

    Training runs that begin at one model and see its data in other orders, on one core each, are worth one of twice
    the steps this way, and need not wait for each other.
    """
    try:
        loaded = [load_model(folder) for folder in models]
        model, tokenizer, _ = loaded[0]
        if len(loaded) < 2:
            raise ModelError("nothing to average: give two models or more")
        for folder, (other, tokens, _) in zip(models, loaded, strict=True):
            if other.config != model.config or tokens.proto != tokenizer.proto:
                raise ModelError(f"{folder}: its shape or its tokens are not those of {models[0]}")
        states = [other.state_dict() for other, _, _ in loaded]
        model.load_state_dict({k: torch.stack([state[k] for state in states]).mean(0) for k in states[0]})
        save_model(out, model, tokenizer, version)
    except (AsrError, OSError) as error:
        give_up(error)
    print(out)


if __name__ == "__main__":
    app()
