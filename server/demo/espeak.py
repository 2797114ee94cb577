"""espeak-ng as a library, from the optional package espeakng-loader, where no synthesiser is installed."""

from __future__ import annotations

import ctypes
import importlib
import io
import wave
from typing import Any

_RETRIEVAL, _CHARS_UTF8, _RATE_PARAMETER, _WORDS_A_MINUTE = 1, 1, 1, 150
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def espeak_wav(text: str) -> bytes | None:
    """The text as a WAV file in American English, or None where the package is absent or does not work.

    Method: espeak-ng's speak_lib.h, synchronous retrieval mode.
    """
    try:
        loader = importlib.import_module("espeakng_loader")
        library: Any = ctypes.CDLL(loader.get_library_path())
        data = str(loader.get_data_path())
    except (ImportError, OSError):
        return None
    audio = bytearray()

    def take(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            audio.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = _SYNTH_CALLBACK(take)
    rate = library.espeak_Initialize(_RETRIEVAL, 0, data.encode(), 0)
    if rate <= 0 or library.espeak_SetVoiceByName(b"en-us") != 0:
        return None
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetParameter(_RATE_PARAMETER, _WORDS_A_MINUTE, 0)
    spoken = text.encode()
    library.espeak_Synth(
        spoken, ctypes.c_size_t(len(spoken) + 1), ctypes.c_uint(0), 1, ctypes.c_uint(0), _CHARS_UTF8, None, None
    )
    library.espeak_Synchronize()
    library.espeak_Terminate()
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(bytes(audio))
    return file.getvalue() if audio else None
