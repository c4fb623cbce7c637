"""Scores of a model over a data set: counted, compared, written as tables and pictures."""
