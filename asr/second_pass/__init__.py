"""The second pass: an attention decoder that decodes an utterance as a whole when it has ended."""
