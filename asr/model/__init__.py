"""The acoustic model: configuration, encoder, transducer, files."""

from asr.model.encoder import Encoder, EncoderState
from asr.model.files import load_model, load_whisper_encoder, save_model
from asr.model.presets import PRESETS, ModelConfig
from asr.model.transducer import Transducer

__all__ = [
    "PRESETS",
    "Encoder",
    "EncoderState",
    "ModelConfig",
    "Transducer",
    "load_model",
    "load_whisper_encoder",
    "save_model",
]
