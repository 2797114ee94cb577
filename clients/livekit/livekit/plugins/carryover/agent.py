"""What an agent is about to say, for the speech recogniser."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from functools import partial
from typing import Any, Self, cast

from livekit.agents import stt
from livekit.plugins.carryover.stt import STT

from carryover.dialogue import Dialogue


class ContextAgentMixin:
    """Records an agent's text when it is written, while its speech is still being made.

        class Assistant(ContextAgentMixin, Agent): ...

    The framework itself says what was spoken when playback has ended: too late for the context to be made while the
    agent speaks. Only speech that is really played is recorded, so that nothing of a preemptive reply that is dropped
    is. After an interruption `STT` corrects what was recorded.

    The text is what the agent's `transcription_node` makes of it, its own one too. The recogniser may stand behind the
    framework's adapters.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Read along in the node that the agent's class has in the end."""
        made: Any = super().__new__(cls)
        made.transcription_node = partial(_transcription_node, made, made.transcription_node)
        return cast(Self, made)


async def _transcription_node(agent: Any, node: Any, text: AsyncIterable[str], model_settings: Any) -> Any:
    """Pass the text on, and record it when it is complete."""
    source = node(text, model_settings)
    if inspect.isawaitable(source):
        source = await source
    dialogues = [one.dialogue for one in _recognisers(agent.stt or agent.session.stt)]
    return source if source is None or not dialogues else _recorded(source, dialogues)


def _recognisers(recogniser: Any) -> Iterator[STT]:
    """Those behind the framework's adapters."""
    if isinstance(recogniser, STT):
        yield recogniser
    elif isinstance(recogniser, stt.FallbackAdapter):
        for one in recogniser._stt_instances:
            yield from _recognisers(one)
    elif isinstance(recogniser, stt.StreamAdapter | stt.MultiSpeakerAdapter):
        yield from _recognisers(recogniser.wrapped_stt)


async def _recorded(text: AsyncIterable[str], dialogues: list[Dialogue]) -> AsyncIterator[str]:
    written = []
    async for piece in text:
        written.append(piece)
        yield piece
    for dialogue in dialogues:
        dialogue.reply("".join(written))
