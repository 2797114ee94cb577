"""Audio in: raw samples, files, resampling to 16 kHz."""

from asr.audio.containers import MAX_CHANNELS, AudioBlock, decode_blocks, mixed, read_at_16k, read_container
from asr.audio.samples import MAX_RATE, MIN_RATE, SAMPLE_RATE, Resampler, Samples, check_rate, check_samples, decode_pcm

__all__ = [
    "MAX_CHANNELS",
    "MAX_RATE",
    "MIN_RATE",
    "SAMPLE_RATE",
    "AudioBlock",
    "Resampler",
    "Samples",
    "check_rate",
    "check_samples",
    "decode_blocks",
    "decode_pcm",
    "mixed",
    "read_at_16k",
    "read_container",
]
