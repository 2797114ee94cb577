"""Observer that tells the speech recogniser what the assistant is about to say."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    EagerTranscriptionFrame,
    Frame,
    FunctionCallResultFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TextFrame,
    TranscriptionFrame,
    TTSSpeakFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.tts_service import TTSService

from carryover import ChangeRequestError
from carryover.dialogue import entries_of
from pipecat_carryover.stt import CarryoverSTTService

_HEARD = (TranscriptionFrame, InterimTranscriptionFrame, EagerTranscriptionFrame)


class CarryoverContextObserver(BaseObserver):
    """Records the assistant's text when the language model has written it, while the speech is still being made.

    The framework itself says what was spoken when playback has ended: too late for the context to be made while the
    assistant speaks. What reaches a `TTSService` counts, so that nothing is recorded of what is written for others, or
    written anew on the way. After an interruption the service corrects what this observer has recorded.
    """

    def __init__(self, stt: CarryoverSTTService, *, tools: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        """Initialize the observer.

        Args:
            stt: The service whose dialogue it is.
            tools: The signal of each function whose result lists what the user may name, by the function's name:
                ``{"find_contacts": "contacts"}``. What `carryover.dialogue.entries_of` does not read as it is, give
                to `CarryoverSTTService.set_entities` yourself.
            **kwargs: Of `BaseObserver`.
        """
        super().__init__(**kwargs)
        self._stt = stt
        self._dialogue = stt.observe()
        self._tools = dict(tools or {})
        self._written: defaultdict[TTSService, list[str]] = defaultdict(list)
        self._taken: deque[int] = deque(maxlen=8)  # ids of the last frames, which several services may get

    async def on_push_frame(self, data: FramePushed) -> None:
        """Take what is said from the frames that say so."""
        frame = data.frame
        if isinstance(data.destination, TTSService) and data.direction is FrameDirection.DOWNSTREAM:
            self._take_text(frame, data.destination)
        if not data.first_push:
            return
        if isinstance(frame, InterruptionFrame):
            self._written.clear()
        elif isinstance(frame, LLMContextUserTurnFrame) and data.direction is FrameDirection.DOWNSTREAM:
            self._dialogue.heard(frame.text)
        elif isinstance(frame, FunctionCallResultFrame) and frame.function_name in self._tools:
            self._take_result(frame)

    def _take_text(self, frame: Frame, tts: TTSService) -> None:
        """Take what is to be spoken."""
        if isinstance(frame, LLMFullResponseStartFrame):
            self._written.pop(tts, None)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self._reply("".join(self._written.pop(tts, [])), frame)
        elif isinstance(frame, TTSSpeakFrame):
            self._reply(frame.text, frame)
        elif isinstance(frame, TextFrame) and not frame.skip_tts and not isinstance(frame, _HEARD):
            self._written[tts].append(frame.text if frame.includes_inter_frame_spaces else f"{frame.text} ")

    def _reply(self, text: str, frame: Frame) -> None:
        if frame.id not in self._taken:
            self._taken.append(frame.id)
            self._dialogue.reply(text)

    def _take_result(self, frame: FunctionCallResultFrame) -> None:
        try:
            self._stt.set_entities(self._tools[frame.function_name], entries_of(frame.result))
        except ChangeRequestError as error:
            logger.warning(f"{self}: the result of {frame.function_name} lists no entries: {error}")
