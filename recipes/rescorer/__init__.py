"""How the constants of the rescorer are fitted: lists, regression, callers."""
