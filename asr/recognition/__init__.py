"""The recogniser: stream states, the step over them, endpointing, results."""

from asr.recognition.endpointing import EndpointRule
from asr.recognition.recognizer import Recognizer
from asr.recognition.results import Hypothesis, Pass, Result, Word
from asr.recognition.state import Pending, StreamInput, StreamOptions, StreamState
from asr.recognition.stream import Stream

__all__ = [
    "EndpointRule",
    "Hypothesis",
    "Pass",
    "Pending",
    "Recognizer",
    "Result",
    "Stream",
    "StreamInput",
    "StreamOptions",
    "StreamState",
    "Word",
]
