"""Carryover speech recognition for LiveKit Agents."""

import logging

from livekit.agents import Plugin
from livekit.plugins.carryover.agent import ContextAgentMixin
from livekit.plugins.carryover.stt import STT, SpeechStream
from livekit.plugins.carryover.version import __version__

__all__ = ["STT", "ContextAgentMixin", "SpeechStream", "__version__"]


class CarryoverPlugin(Plugin):
    """How the framework knows this plugin."""

    def __init__(self) -> None:
        super().__init__(__name__, __version__, __package__, logging.getLogger(__name__))


Plugin.register_plugin(CarryoverPlugin())
