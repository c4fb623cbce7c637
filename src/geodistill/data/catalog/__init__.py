"""The catalogue: benchmark sets as declarations, and how one is read from its official layout."""
