"""The fixtures of a small context model."""

from tests.support.small_context import encoder, likes, network, rescorer, sounds_like, tables

__all__ = ["encoder", "likes", "network", "rescorer", "sounds_like", "tables"]
