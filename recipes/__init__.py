"""How the shipped weights were made. Not installed."""
