"""From stored turns to a whole context bundle: what the context encoder reads, and all that is made of its output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asr.context.bundle import ContextBundle, build_bundle
from asr.context.encoder import ContextEncoder
from asr.context.types import Context, ContextEmbedding, Entry, Turn
from asr.decoding import BoostedPhrase, PhraseGraph
from context_store import Entities, Reply, StoredTurn, Utterance
from server import logs
from server.scheduler import Scheduler, Work


class ContextBuilder:
    """Builds whole context bundles. The scheduler does its work one by one, in the pauses of the audio."""

    def __init__(self, encoder: ContextEncoder, scheduler: Scheduler) -> None:
        self._encoder = encoder
        self._scheduler = scheduler

    @property
    def model_version(self) -> str:
        """Version of the context model."""
        return self._encoder.model_version

    async def build(self, context: Context, *, search: bool = True) -> ContextBundle:
        """The bundle of a context. Raises what the encoder raises.

        Args:
            search: whether audio will be searched with its phrases; else they are not compiled.
        """
        return await self._scheduler.run(Work.ENCODE, self._build, context, search)

    async def restore(self, data: bytes) -> ContextBundle:
        """The bundle of an embedding that was stored. Raises ContextError."""
        return await self._scheduler.run(Work.RESTORE, self._restore, data)

    async def dump(self, tenant: str, embedding: ContextEmbedding) -> bytes:
        """The embedding as it is stored."""
        return await self._scheduler.run(Work.PARSE, embedding.to_bytes, tenant=tenant)

    def _build(self, context: Context, search: bool) -> ContextBundle:
        return build_bundle(self._encoder.encode(context), self._compile if search else lambda phrases: None)

    def _restore(self, data: bytes) -> ContextBundle:
        return build_bundle(ContextEmbedding.from_bytes(data), self._compile)

    def _compile(self, phrases: tuple[BoostedPhrase, ...]) -> PhraseGraph | None:
        try:
            return self._scheduler.recognizer.compile(phrases, of_context=True)
        except Exception as error:  # rescoring does without
            logs.failure("phrases_not_compiled", error)
            return None


def context_of(turns: Sequence[StoredTurn], last: str, max_entries: int) -> Context:
    """The context up to and with one turn.

    Args:
        turns: oldest first; those without texts contribute nothing.
        last: the id of the last turn to use.
        max_entries: entities at most, the newest turn's first; each (signal, text, id) counts once, the
            newest.
    """
    ids = [turn.turn for turn in turns]
    used = turns[: ids.index(last) + 1] if last in ids else turns
    said = tuple(spoken for turn in used for spoken in _spoken(turn))
    entries: dict[tuple[str, str, str], Entry] = {}
    for entry in (entry for turn in reversed(used) for entry in _entries(turn)):
        entries.setdefault((entry.signal, entry.text, entry.id), entry)
    return Context(turns=said, entries=tuple(entries.values())[:max_entries])


def _spoken(turn: StoredTurn) -> Iterable[Turn]:
    """Utterances and replies: what the user said first, then the others by their times, utterances before replies.

    Times that no caller gives are those of the replicas, whose clocks may differ.
    """
    events = sorted(turn.events, key=lambda event: (event.time_s, isinstance(event.body, Reply)))
    first = next((event for event in events if isinstance(event.body, Utterance)), None)
    for event in sorted(events, key=lambda event: event is not first):
        if isinstance(event.body, Utterance):
            yield Turn("user", event.body.text)
        elif isinstance(event.body, Reply):
            yield Turn("system", event.body.text)


def _entries(turn: StoredTurn) -> Iterable[Entry]:
    for event in turn.events:
        if isinstance(event.body, Entities):
            body, count = event.body, len(event.body.entries)
            rows = (
                body.entries,
                body.ids or ("",) * count,
                body.aliases or ((),) * count,
                body.weights or (1.0,) * count,
            )
            for text, entry_id, aliases, weight in zip(*rows, strict=True):
                yield Entry(body.signal, text, entry_id, aliases, weight)
