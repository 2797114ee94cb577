"""The acoustic model: configuration, encoder, transducer, files."""

from asr.model.emformer import EmformerTransducer, is_emformer, load_bundle, load_emformer, save_emformer
from asr.model.encoder import Encoder
from asr.model.files import load_encoder, load_model, save_model
from asr.model.presets import PRESETS, ModelConfig
from asr.model.streaming import EncoderState
from asr.model.transducer import Transducer

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
