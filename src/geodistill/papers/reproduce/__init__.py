"""``geodistill reproduce``: a paper's table run row by row and printed beside the published figures."""

from geodistill.papers.reproduce.listing import Listed, list_tables
from geodistill.papers.reproduce.run import reproduce

__all__ = ["Listed", "list_tables", "reproduce"]
