"""Speech that is synthesised for training."""
