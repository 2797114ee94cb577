"""torchaudio's Emformer RNN-T (Shi et al. 2021, arXiv:2010.10759) as an `AcousticModel`, its tokens and its files.

The features are those of torchaudio's RNN-T bundles: HTK mel power, scaled to 16 bit samples, a logarithm that is
linear below e, and the mean and deviation of the training set. At the start of a stream, where torchaudio mirrors the
signal, these have silence; everywhere else they are the same.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencepiece
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asr.acoustic.interface import PredictorState
from asr.audio import SAMPLE_RATE
from asr.audio.features import FRAME_S, HOP, MELS, WINDOW
from asr.errors import ModelError
from asr.fitted import named_version
from asr.pairing import load_torchaudio
from asr.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torchaudio.models import RNNT
    from torchaudio.pipelines import RNNTBundle

EmformerState = tuple[tuple[Tensor, ...], ...]
"""For each layer its memory, left context keys and values, and age; () before the first segment."""

_ORIGIN = "https://download.pytorch.org/torchaudio/"
_GAIN = 32767.0**2
_BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError)


class BlankLastTokenizer(Tokenizer):
    """Tokens of torchaudio's recipes: any SentencePiece model, the blank one past its last piece.

    Pieces without text of their own (unknown, begin, end, padding) are decoded as nothing.
    """

    def __init__(self, proto: bytes) -> None:
        self.proto = proto
        self._pieces = pieces = sentencepiece.SentencePieceProcessor(model_proto=proto)
        self.blank = pieces.get_piece_size()
        self.unknown = pieces.unk_id()
        self.vocab_size = self.blank + 1
        silent = [pieces.is_control(i) or pieces.is_unknown(i) for i in range(self.blank)]
        self.pieces = (*("" if s else pieces.id_to_piece(i) for i, s in enumerate(silent)), "")


class EmformerTransducer(nn.Module):
    """torchaudio's Emformer RNN-T as an `AcousticModel`.

    It reads one segment at a time and sees the right context behind it, both as it was trained (base: 160 ms and
    40 ms). The blank is the last output, and what the predictor reads first. All streams of a batch must have begun
    together: torchaudio keeps one age for the batch.

    Args:
        rnnt: from `torchaudio.models.emformer_rnnt_model` or `emformer_rnnt_base`, over 80 mel bands.
        mean, invstddev: (80,) of the training set's features; None: features as they are.

    Raises:
        ModelError: the model does not read 80 bands, or the statistics are not of 80.
    """

    lookback, history = 0, None

    def __init__(self, rnnt: RNNT, mean: Tensor | None = None, invstddev: Tensor | None = None) -> None:
        super().__init__()
        mean = torch.zeros(MELS) if mean is None else mean.float()
        invstddev = torch.ones(MELS) if invstddev is None else invstddev.float()
        bands = (rnnt.transcriber.input_linear.in_features, *mean.shape, *invstddev.shape)
        if bands != (MELS, MELS, MELS):
            raise ModelError(f"Emformer of (input, mean, invstddev) {bands} bands: all must be {MELS}")
        self.rnnt = rnnt.eval()
        self.mel = load_torchaudio().transforms.MelSpectrogram(
            SAMPLE_RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS, center=False
        )
        self.register_buffer("mean", mean)
        self.register_buffer("invstddev", invstddev)
        stride, transformer = rnnt.transcriber.time_reduction.stride, rnnt.transcriber.transformer
        self.segment: int = stride * transformer.segment_length
        self.lookahead: int = stride * transformer.right_context_length
        self.frame_s = stride * FRAME_S
        self.vocab_size: int = rnnt.joiner.linear.out_features
        self.blank = self.vocab_size - 1

    @property
    def max_chunk_frames(self) -> int:
        """0: an Emformer reads its own segments only."""
        return 0

    def features(self, padded: Tensor) -> Tensor:
        """Samples padded by 200 on both sides, (..., 240 + 160 F) → (..., F, 80), on the samples' device."""
        mean, invstddev = self.get_buffer("mean"), self.get_buffer("invstddev")
        power = self.mel(padded.to(mean.device)).transpose(-1, -2) * _GAIN
        log = torch.where(power > math.e, power.log(), power / math.e)
        return ((log - mean) * invstddev).to(padded.device)

    def loudness(self, features: Tensor) -> Tensor:
        """See `AcousticModel`."""
        log = features / self.get_buffer("invstddev").to(features.device) + self.get_buffer("mean").to(features.device)
        return 10 / math.log(10) * log.amax(-1)

    def chunk_frames(self, chunk_ms: int) -> int:
        """See `AcousticModel`."""
        if chunk_ms != 10 * self.segment:
            raise ModelError(f"chunk_ms is {chunk_ms}; use {10 * self.segment}, the segment this Emformer was made for")
        return self.segment

    def initial_state(self, streams: int) -> EmformerState:
        """See `AcousticModel`."""
        return ()

    def encode(self, features: Tensor, state: EmformerState) -> tuple[Tensor, EmformerState]:
        """(B, segment + lookahead, 80) → (B, segment / stride, J), new state; the old one stays as it is."""
        features = features.to(self.get_buffer("mean").device)
        lengths = torch.full((len(features),), features.shape[1], device=features.device)
        layers = [list(layer) for layer in state] or None  # lists, which torchaudio overwrites
        encoded, _, layers = self.rnnt.transcribe_streaming(features, lengths, layers)
        return encoded, tuple(tuple(layer) for layer in layers)

    def start(self, hypotheses: int) -> tuple[Tensor, PredictorState]:
        """See `AcousticModel`."""
        blank = torch.full((hypotheses,), self.blank, device=self.get_buffer("mean").device)
        return self.predict(blank, ())

    def predict(self, tokens: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
        """(N,) tokens → (N, J) and each LSTM layer's hidden and cell state in turn, (N, hidden) each; () at first."""
        layers = [list(pair) for pair in zip(state[::2], state[1::2], strict=True)] or None
        predicted, _, layers = self.rnnt.predict(tokens[:, None], torch.ones_like(tokens), layers)
        return predicted[:, 0], tuple(tensor for layer in layers for tensor in layer)

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """See `AcousticModel`."""
        joiner = self.rnnt.joiner
        return joiner.linear(joiner.activation(encoded + predicted))

    def blank_probabilities(self, encoded: Tensor) -> Tensor:
        """See `AcousticModel`."""
        return encoded.new_zeros(encoded.shape[:-1])

    def ctc_scores(self, encoded: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """See `AcousticModel`."""
        return torch.zeros(len(texts))


def is_emformer(source: Path | str) -> bool:
    """Whether `load_emformer` opens it: the name of a torchaudio bundle, or a folder that `save_emformer` wrote."""
    name = str(source)
    if name.isidentifier() and name.isupper() and not Path(source).exists():  # torchaudio is not asked about folders
        return _bundle(name) is not None
    return (Path(source) / "emformer.safetensors").exists()


def load_emformer(source: Path | str, device: str = "cpu") -> tuple[EmformerTransducer, Tokenizer, str]:
    """Load the model by bundle name or folder, its tokens and its version; weights of a bundle from torchaudio's cache.

    Raises:
        ModelError: a file is missing or the files do not belong together.
    """
    if _bundle(str(source)) is not None:
        return load_bundle(str(source), device=device)
    folder = Path(source)
    try:
        config = json.loads((folder / "config.json").read_text())
        tokenizer = BlankLastTokenizer((folder / "tokens.model").read_bytes())
        weights = load_file(folder / "emformer.safetensors")
        mean, invstddev = weights.pop("mean"), weights.pop("invstddev")
        model = EmformerTransducer(load_torchaudio().models.emformer_rnnt_model(**config["emformer"]), mean, invstddev)
        model.rnnt.load_state_dict(weights)
        version = named_version(str(config["version"]), folder / "emformer.safetensors", folder / "tokens.model")
    except _BROKEN as error:
        raise ModelError(f"Emformer in {folder}: {error}") from error
    return _ready(str(folder), model, tokenizer, device), tokenizer, version


def save_emformer(
    folder: Path, model: EmformerTransducer, config: Mapping[str, Any], tokenizer: BlankLastTokenizer, version: str
) -> None:
    """Write a trained model: config.json, emformer.safetensors (fp16; the statistics fp32) and tokens.model.

    Args:
        config: what `emformer_rnnt_model` was called with to build the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half() for k, v in model.rnnt.state_dict().items()}
    weights |= {"mean": model.get_buffer("mean"), "invstddev": model.get_buffer("invstddev")}
    save_file({k: v.cpu().contiguous() for k, v in weights.items()}, folder / "emformer.safetensors")
    (folder / "tokens.model").write_bytes(tokenizer.proto)
    (folder / "config.json").write_text(json.dumps({"version": version, "emformer": dict(config)}, indent=1) + "\n")


def load_bundle(
    name: str, folder: Path | None = None, device: str = "cpu"
) -> tuple[EmformerTransducer, Tokenizer, str]:
    """Load a pretrained bundle of `torchaudio.pipelines`, its tokens and its version; fetches nothing.

    The version is its name and a digest of its weights.

    Args:
        name: for instance EMFORMER_RNNT_BASE_LIBRISPEECH.
        folder: holds the bundle's three files under their own names; None: torchaudio's cache, where
            `torchaudio.pipelines` puts them (`torch.hub.get_dir()`, moved by TORCH_HOME).

    Raises:
        ModelError: no such bundle, a file is missing (says which, and where it comes from), or they do not fit.
    """
    bundle = _bundle(name)
    if bundle is None:
        raise ModelError(f"torchaudio {load_torchaudio().__version__} has no RNN-T bundle {name}")
    keys = (bundle._rnnt_path, bundle._global_stats_path, bundle._sp_model_path)
    cache = Path(torch.hub.get_dir()) / "torchaudio"
    paths = [cache / key if folder is None else folder / Path(key).name for key in keys]
    missing = [f"{_ORIGIN}{key} to {path}" for key, path in zip(keys, paths, strict=True) if not path.is_file()]
    if missing:
        raise ModelError(f"{name} is not on this machine: fetch {', '.join(missing)}")
    weights, stats, pieces = paths
    try:
        trained = torch.load(weights, map_location="cpu", weights_only=True)
        scale = json.loads(stats.read_text())
        tokenizer = BlankLastTokenizer(pieces.read_bytes())
        rnnt = bundle._rnnt_factory_func()
        rnnt.load_state_dict(trained)
        model = EmformerTransducer(rnnt, torch.tensor(scale["mean"]), torch.tensor(scale["invstddev"]))
    except _BROKEN as error:
        raise ModelError(f"{name}: {error}") from error
    return _ready(name, model, tokenizer, device), tokenizer, named_version(name, *paths)


def _bundle(name: str) -> RNNTBundle | None:
    pipelines = load_torchaudio().pipelines
    found = getattr(pipelines, name, None)
    return found if isinstance(found, pipelines.RNNTBundle) else None


def _ready(name: str, model: EmformerTransducer, tokenizer: Tokenizer, device: str) -> EmformerTransducer:
    if model.vocab_size != tokenizer.vocab_size:
        raise ModelError(f"{name}: {model.vocab_size} outputs, {tokenizer.vocab_size} tokens")
    return model.to(device).eval()
