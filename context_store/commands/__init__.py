"""Commands over the tables; `scripts/` runs them."""
