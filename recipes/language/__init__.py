"""How the shipped n-gram language model was trained, and its weight fitted."""
