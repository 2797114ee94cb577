"""What the plugins for voice-agent frameworks gain: when texts are recorded, and whether answers have their context."""
