"""How well it hears, and what context changes: word errors, intervals, reports."""
