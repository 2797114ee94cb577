"""How well it recognises, and what context changes: word errors, intervals, reports."""
