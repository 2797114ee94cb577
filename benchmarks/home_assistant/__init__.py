"""What names of a house are worth to Home Assistant's own matching of commands."""
