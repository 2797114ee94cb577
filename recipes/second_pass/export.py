"""Writes adapted weights as they are shipped: int8 matrices with a scale for each row, everything else fp16.

    python -m recipes.second_pass.export WHISPER ADAPTED OUT

WHISPER: the original in the Hugging Face form. ADAPTED: `adapted.safetensors` of `adapt`. OUT: a folder with
config.json, model.safetensors and tokenizer.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from asr.acoustic.checkpoint import pack
from asr.second_pass.model import AttentionModelConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("whisper", type=Path)
    parser.add_argument("adapted", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    original = json.loads((args.whisper / "config.json").read_text())
    config = {name: original[name] for name in AttentionModelConfig.__dataclass_fields__ if name in original}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "config.json").write_text(json.dumps({**config, "window_s": 0}, indent=1) + "\n")
    weights = {name: value.float() for name, value in load_file(args.adapted).items()}
    save_file(pack(weights), args.out / "model.safetensors", metadata={"licence": "MIT", "from": "Whisper tiny.en"})
    shutil.copyfile(args.whisper / "tokenizer.json", args.out / "tokenizer.json")


if __name__ == "__main__":
    main()
