"""The HTTP port: the page, calls of `carryover.v1` in JSON, OpenAI's file and realtime transcription, health.

It stands behind the same guard as the gRPC port. What is here translates and decides nothing.
"""
