"""A client of Carryover, a streaming speech recogniser for assistants that ask back.

    from carryover import Client, Final

    with Client("127.0.0.1:50051") as client:
        for result in client.stream("call_meg.wav", dialogue="d", turn="1"):
            print("final" if isinstance(result, Final) else "…", result.transcript)

`carryover.aio.Client` is the same for asyncio. `carryover.v1` has the generated modules of the interface.
"""

from carryover.audio import Audio, read_audio
from carryover.client import Client, Stream
from carryover.errors import (
    AudioError,
    CarryoverError,
    ChangeRequestError,
    CheckKeyError,
    DeadlineError,
    NotFoundError,
    NotReadyError,
    RetryLaterError,
    ServerError,
)
from carryover.messages import Endpointing, Entry, InlineContext, Turn
from carryover.results import (
    Alternative,
    BiasedWord,
    ContextInfo,
    ContextStatus,
    Embedding,
    Final,
    LikelyFinal,
    MeantEntry,
    Partial,
    PhraseReport,
    Recognition,
    Rescored,
    Result,
    ServerInfo,
    SpeechBegin,
    SpeechEnd,
    SpeechEvent,
    Word,
)

__all__ = [
    "Alternative",
    "Audio",
    "AudioError",
    "BiasedWord",
    "CarryoverError",
    "ChangeRequestError",
    "CheckKeyError",
    "Client",
    "ContextInfo",
    "ContextStatus",
    "DeadlineError",
    "Embedding",
    "Endpointing",
    "Entry",
    "Final",
    "InlineContext",
    "LikelyFinal",
    "MeantEntry",
    "NotFoundError",
    "NotReadyError",
    "Partial",
    "PhraseReport",
    "Recognition",
    "Rescored",
    "Result",
    "RetryLaterError",
    "ServerError",
    "ServerInfo",
    "SpeechBegin",
    "SpeechEnd",
    "SpeechEvent",
    "Stream",
    "Turn",
    "Word",
    "read_audio",
]
