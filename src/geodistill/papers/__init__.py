"""The five papers' published tables: their rows, how to run them, and what only their comparison needs."""
