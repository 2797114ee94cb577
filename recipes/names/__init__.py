"""Follow-ups of plain makes: names offered, answers as people give them, voices of several synthesisers."""
