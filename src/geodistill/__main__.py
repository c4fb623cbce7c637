"""Run as ``python -m geodistill``."""

from geodistill.cli import entry

entry()
