"""The acoustic model: configuration, encoder, transducer, files."""

from asr.acoustic.checkpoint import load_encoder, load_model, save_model
from asr.acoustic.config import PRESETS, ModelConfig
from asr.acoustic.emformer import EmformerTransducer, is_emformer, load_bundle, load_emformer, save_emformer
from asr.acoustic.encoder import Encoder
from asr.acoustic.streaming import EncoderState
from asr.acoustic.transducer import Transducer

__all__ = [
    "PRESETS",
    "EmformerTransducer",
    "Encoder",
    "EncoderState",
    "ModelConfig",
    "Transducer",
    "is_emformer",
    "load_bundle",
    "load_emformer",
    "load_encoder",
    "load_model",
    "save_emformer",
    "save_model",
]
