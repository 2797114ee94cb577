"""Voices of Kokoro-82M (after StyleTTS 2, Li et al. 2023) for training speech; needs the `synthesis` extra."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import soxr

from asr.audio import SAMPLE_RATE, Samples
from asr.errors import ModelError
from asr.extras import install_hint

HELD_OUT = frozenset((
    "af_kore", "am_liam", "bf_alice", "bm_fable", "af_sarah", "am_eric", "bf_emma", "bm_george",
    "af_nova", "am_onyx", "bf_lily", "bm_daniel",
))  # fmt: skip
"""Speakers of the follow-ups' dev and test sets, and those that are kept from everything."""

_RATE, _MOST_PHONES, _MIXTURES = 24_000, 508, 100
_PHONES = (
    '1; 2: 3, 4. 5! 6? 9— 10… 11" 12( 13) 14“ 15” 24A 25I 31O 33Q 35S 36T 39W 41Y 42ᵊ 43a 44b 45c 46d 47e '
    "48f 50h 51i 52j 53k 54l 55m 56n 57o 58p 59q 60r 61s 62t 63u 64v 65w 66x 67y 68z 69ɑ 70ɐ 71ɒ 72æ 76ɔ "
    "81ð 82ʤ 83ə 85ɚ 86ɛ 87ɜ 92ɡ 101ɨ 102ɪ 112ŋ 119θ 123ɹ 125ɾ 131ʃ 133ʧ 135ʊ 138ʌ 147ʒ 148ʔ 156ˈ 157ˌ "
    "158ː 177ᵻ"
)
_TOKENS = {pair[-1]: int(pair[:-1]) for pair in _PHONES.split()} | {" ": 16}
_LETTERS = (("eɪ", "A"), ("aɪ", "I"), ("aʊ", "W"), ("ɔɪ", "Y"), ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("əl", "ᵊl"), ("oʊ", "O"))
_BY_ACCENT = {
    "en-us": (*_LETTERS, ("ɚ", "əɹ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ː", ""), ("e", "A")),
    "en-gb-x-rp": (("oʊ", "Q"), *_LETTERS, ("əʊ", "Q"), ("eə", "ɛː"), ("iə", "ɪə")),
}
_REST = str.maketrans({"r": "ɹ", "x": "k", "ɐ": "ə", "ɬ": "l", "g": "ɡ"})
"""espeak-ng's phonemes as Kokoro was trained on them: diphthongs are single letters."""


class Kokoro:
    """The speakers of a pack, and mixtures of two of them. Two or three seconds of speech in a second of two cores.

    Args:
        folder: with the model, kokoro-v1.0-int8.onnx, and the pack of speakers, kokoro-voices-54-fp16.npz.
        speakers: of the pack; None: all but those that are held out.

    Raises:
        ModelError: piper-tts (for espeak-ng's phonemes and onnxruntime) or a file is missing.
    """

    name, share = "kokoro", 4.0

    def __init__(self, folder: Path, speakers: Collection[str] | None = None) -> None:
        try:
            import onnxruntime
            from piper.phonemize_espeak import EspeakPhonemizer
        except ImportError as error:
            raise ModelError(f"piper-tts is not installed: {install_hint('synthesis')}") from error
        model, pack = folder / "kokoro-v1.0-int8.onnx", folder / "kokoro-voices-54-fp16.npz"
        if missing := [path.name for path in (model, pack) if not path.exists()]:
            raise ModelError(f"{folder}: {' and '.join(missing)} missing: give the folder of Kokoro's files")
        with np.load(pack) as styles:
            self._styles = {name: styles[name].astype(np.float32) for name in sorted(speakers or {*styles} - HELD_OUT)}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._phonemes = EspeakPhonemizer()
        single, rng = list(self._styles), np.random.default_rng(0)
        self.voices = (*single, *("+".join(rng.choice(single, 2, replace=False)) for _ in range(_MIXTURES)))

    def say(self, text: str, voice: str, rng: np.random.Generator) -> Samples:
        accent = "en-gb-x-rp" if voice.startswith("b") else "en-us"
        spoken = " ".join("".join(sentence) for sentence in self._phonemes.phonemize(accent, text))
        for phones, symbol in _BY_ACCENT[accent]:
            spoken = spoken.replace(phones, symbol)
        tokens = [_TOKENS[p] for p in spoken.translate(_REST) if p in _TOKENS]
        if not 0 < len(tokens) <= _MOST_PHONES:
            raise ValueError(f"{len(tokens)} phonemes; it says 1 to {_MOST_PHONES} at once")
        style = np.mean([self._styles[name] for name in voice.split("+")], axis=0)[len(tokens)][None]
        speed = np.array([rng.uniform(0.8, 1.3)], np.float32)
        (said,) = self._session.run(None, {"tokens": np.array([[0, *tokens, 0]]), "style": style, "speed": speed})
        samples = said.ravel()
        loud = np.flatnonzero(np.abs(samples) > 0.01)
        if not len(loud):
            raise ValueError("said nothing")
        edge = _RATE // 10
        samples = samples[max(0, loud[0] - edge) : loud[-1] + 1 + edge]
        return soxr.resample(samples, _RATE, SAMPLE_RATE).astype(np.float32)
