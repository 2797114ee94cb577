"""Real servers, as tests/integration has them."""

from tests.integration.conftest import dialogue, key, pcm, shared, tables, workshop

__all__ = ["dialogue", "key", "pcm", "shared", "tables", "workshop"]
