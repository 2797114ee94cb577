"""Measurements beside peers. Not installed."""
