"""``geodistill reproduce``: a paper's table run row by row and printed beside the published figures."""

from geodistill.papers.reproduce.listing import ListedTable, list_tables
from geodistill.papers.reproduce.runner import reproduce

__all__ = ["ListedTable", "list_tables", "reproduce"]
