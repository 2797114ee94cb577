"""The fixtures of a small manifest and of what recognises it."""

from tests.support.small_evaluation import context_parts, manifest, second_readings, tiny_recognizer

__all__ = ["context_parts", "manifest", "second_readings", "tiny_recognizer"]
