"""The beam search beside torchaudio's."""
