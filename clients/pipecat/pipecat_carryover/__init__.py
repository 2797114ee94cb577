"""Carryover speech recognition for Pipecat."""

from pipecat_carryover.observer import CarryoverContextObserver
from pipecat_carryover.stt import CARRYOVER_TTFS_P99, CarryoverSTTService, CarryoverSTTSettings

__all__ = ["CARRYOVER_TTFS_P99", "CarryoverContextObserver", "CarryoverSTTService", "CarryoverSTTSettings"]
