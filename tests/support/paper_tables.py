"""Tables reproduced with options as keyword arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geodistill.papers.reproduce import runner
from geodistill.papers.reproduce.result_table import PaperTable


def reproduce(name: str, out: Path, **options: Any) -> PaperTable:
    """Run a table."""
    return runner.reproduce(name, out, runner.ReproduceOptions(**options))


def draw(name: str, out: Path, kinds: Sequence[str] = (), **options: Any) -> list[Path]:
    """Draw a table's pictures."""
    return runner.draw(name, out, kinds, runner.ReproduceOptions(**options))
