"""The demonstration: a dialogue of two turns, its recordings, and a synthesiser for other names."""
