"""Objects of a map: touching ones separated, outlines squared, each with its figures."""
