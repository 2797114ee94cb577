"""Observer that tells the speech recogniser what the assistant is about to say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    FunctionCallResultFrame,
    InterruptionFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSSpeakFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frame_processor import FrameDirection

from carryover import ChangeRequestError
from carryover.dialogue import entries_of
from pipecat_carryover.stt import CarryoverSTTService


class CarryoverContextObserver(BaseObserver):
    """Records the assistant's text when the language model has written it, while the speech is still being made.

    The framework itself says what was spoken when playback has ended: too late for the context to be made while the
    assistant speaks. After an interruption the service corrects what this observer has recorded.
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
        super().__init__(observe_every_push=False, **kwargs)
        self._stt = stt
        self._dialogue = stt.observe()
        self._tools = dict(tools or {})
        self._written: defaultdict[Any, list[str]] = defaultdict(list)

    async def on_push_frame(self, data: FramePushed) -> None:
        """Take what is said from the frames that say so."""
        frame = data.frame
        if isinstance(frame, LLMTextFrame):
            self._written[data.source].append(frame.text)
        elif isinstance(frame, LLMFullResponseStartFrame):
            self._written.pop(data.source, None)
        elif isinstance(frame, LLMFullResponseEndFrame):
            self._dialogue.reply("".join(self._written.pop(data.source, [])))
        elif isinstance(frame, InterruptionFrame):
            self._written.clear()
        elif isinstance(frame, TTSSpeakFrame):
            self._dialogue.reply(frame.text)
        elif isinstance(frame, LLMContextUserTurnFrame) and data.direction is FrameDirection.DOWNSTREAM:
            self._dialogue.heard(frame.text)
        elif isinstance(frame, FunctionCallResultFrame) and frame.function_name in self._tools:
            self._take_result(frame)

    def _take_result(self, frame: FunctionCallResultFrame) -> None:
        try:
            entries = entries_of(frame.result)
        except ChangeRequestError as error:
            logger.warning(f"{self}: the result of {frame.function_name} lists no entries: {error}")
        else:
            self._stt.set_entities(self._tools[frame.function_name], entries)
