"""A table reproduced: the runs of its rows, and their figures beside the printed ones."""

from geodistill.papers.reproduce.listing import list_tables
from geodistill.papers.reproduce.runner import reproduce

__all__ = ["list_tables", "reproduce"]
