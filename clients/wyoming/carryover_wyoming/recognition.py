"""Streams in the server, with the names and the dialogue that fit what is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from carryover import Final, InlineContext, ServerInfo, aio
from carryover.aio import Stream
from carryover_wyoming.conversations import Conversations, Place
from carryover_wyoming.names import Names, merged
from carryover_wyoming.request import Request, request_of

LANGUAGE = "en"


@dataclass(frozen=True)
class Utterance:
    """A recording that is being recognised.

    Attributes:
        stream: in the server.
        place: which the request named.
        unanswered: to be called where nothing was said.
    """

    stream: Stream[Any]
    place: Place | None
    unanswered: Callable[[], None]

    def context(self, finals: Sequence[Final]) -> dict[str, str] | None:
        """What a transcript says of the dialogue that its request named, for the client to go on with."""
        if self.place is None:
            return None
        status = finals[-1].context.status if finals else ""
        return {"dialogue_id": self.place.dialogue, "turn_id": self.place.turn, "status": status}


class NameSource(Protocol):
    """Who knows what may be named now."""

    async def current_names(self) -> Names:
        """All that may be named."""


class Recognition:
    """Opens streams.

    Args:
        client: of the server.
        server: what it says of itself.
        names: who knows the names of the house; None: nobody.
        conversations: whose answers are looked for; None: nobody's.
        ends_itself: whether the end of a command is found here where a request does not say.
    """

    def __init__(
        self,
        client: aio.Client,
        server: ServerInfo,
        *,
        names: NameSource | None = None,
        conversations: Conversations | None = None,
        ends_itself: bool = False,
    ) -> None:
        self._client = client
        self._most_phrases = int(server.limits.get("phrases", 0))
        self._most_characters = int(server.limits.get("phrase_characters", 0))
        self._names = names
        self._conversations = conversations
        self._ends_itself = ends_itself

    def request(self, data: Mapping[str, Any]) -> Request:
        """The request of a `transcribe` event. Raises RequestError."""
        return request_of(data, ends_itself=self._ends_itself, most_characters=self._most_characters)

    async def open(self, request: Request | None, rate: int) -> Utterance:
        """Begin to recognise audio of so many samples a second.

        Args:
            request: None: no `transcribe` came before the audio.
        """
        request = request or self.request({})
        names = merged(await self._names.current_names() if self._names else Names(), request.names)
        place, unanswered = request.place, _nothing
        if place is None and self._conversations is not None:
            place = self._conversations.take_awaited()
            if place is not None:
                unanswered = partial(self._conversations.give_back, place)
        stream = self._client.stream(
            rate=rate,
            interim_results=False,
            phrases=names.phrases(self._most_phrases),
            dialogue=place.dialogue if place else "",
            turn=place.turn if place else "",
            context=InlineContext(entities=names.entities()) if names.things and not place else None,
            endpointing=request.endpointing,
            single_utterance=request.endpointing is not None,
        )
        return Utterance(stream, request.place, unanswered)


def _nothing() -> None:
    """Nobody asked."""
