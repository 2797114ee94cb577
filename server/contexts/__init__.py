"""Contexts of dialogues: recorded, made in the reply window, kept, and handed to the streams that use them."""
