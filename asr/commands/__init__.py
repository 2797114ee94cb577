"""Commands over the package; `scripts/` runs them."""
