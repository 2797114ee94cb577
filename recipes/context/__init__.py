"""How the shipped context model was trained, and the sets of follow-ups made."""
