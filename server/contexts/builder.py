"""The context encoder, and all that is made of what it encodes, in the encoder's thread."""

from __future__ import annotations

from asr.context.bundle import ContextBundle, build_bundle
from asr.context.encoder import ContextEncoder
from asr.context.types import Context, ContextEmbedding
from asr.decoding import BoostedPhrase, PhraseGraph
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

    async def build(self, context: Context) -> ContextBundle:
        """The bundle of a context. Raises what the encoder raises."""
        return await self._scheduler.run(Work.ENCODE, self._build, context)

    async def restore(self, data: bytes) -> ContextBundle:
        """The bundle of an embedding that was stored. Raises ContextError."""
        return await self._scheduler.run(Work.RESTORE, self._restore, data)

    async def dump(self, tenant: str, embedding: ContextEmbedding) -> bytes:
        """The embedding as it is stored."""
        return await self._scheduler.run(Work.PARSE, embedding.to_bytes, tenant=tenant)

    def _build(self, context: Context) -> ContextBundle:
        return build_bundle(self._encoder.encode(context), self._compile)

    def _restore(self, data: bytes) -> ContextBundle:
        return build_bundle(ContextEmbedding.from_bytes(data), self._compile)

    def _compile(self, phrases: tuple[BoostedPhrase, ...]) -> PhraseGraph | None:
        try:
            return self._scheduler.recognizer.compile(phrases, of_context=True)
        except Exception as error:  # rescoring does without
            logs.failure("phrases_not_compiled", error)
            return None
