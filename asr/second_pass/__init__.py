"""The second pass: an attention decoder that hears an utterance as a whole when it has ended."""
