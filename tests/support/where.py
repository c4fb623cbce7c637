"""Where the repository and the helpers of its tests lie."""

from pathlib import Path

SUPPORT = Path(__file__).parent
"""Modules that tests import by name, and scripts that they run in processes of their own."""

ROOT = SUPPORT.parents[1]
