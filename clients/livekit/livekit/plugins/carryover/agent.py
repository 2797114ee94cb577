"""What an agent is about to say, for the speech recogniser."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from livekit.plugins.carryover.stt import STT

from carryover.dialogue import Dialogue


class ContextAgentMixin:
    """Records an agent's text when it is written, while its speech is still being made.

        class Assistant(ContextAgentMixin, Agent): ...

    The framework itself says what was spoken when playback has ended: too late for the context to be made while the
    agent speaks. Only speech that is really played is recorded, so that nothing of a preemptive reply is that is
    dropped. After an interruption `STT` corrects what was recorded.
    """

    async def transcription_node(self, text: AsyncIterable[str], model_settings: Any) -> AsyncIterable[str] | None:
        """Pass the text on, and record it when it is complete."""
        node = super().transcription_node(text, model_settings)  # type: ignore[misc]
        if inspect.isawaitable(node):
            node = await node
        dialogue = self._dialogue()
        return node if node is None or dialogue is None else _recorded(node, dialogue)

    def _dialogue(self) -> Dialogue | None:
        agent: Any = self
        return next((stt.dialogue for stt in (agent.stt, agent.session.stt) if isinstance(stt, STT)), None)


async def _recorded(text: AsyncIterable[str], dialogue: Dialogue) -> AsyncIterator[str]:
    written = []
    async for piece in text:
        written.append(piece)
        yield piece
    dialogue.reply("".join(written))
