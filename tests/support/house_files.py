"""The files that the house rules look at."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "geodistill"
PYTHON = sorted(path for room in ("src", "tests", "benchmarks") for path in (ROOT / room).rglob("*.py"))
PACKAGE = [path for path in PYTHON if path.is_relative_to(SOURCE)]
RECIPES = sorted((SOURCE / "recipes").glob("*.yaml"))


def at(path: Path, line: int = 0) -> str:
    """Return a path below the repository, with its line, for a message."""
    name = path.relative_to(ROOT).as_posix()
    return f"{name}:{line}" if line else name


@cache
def parsed(path: Path) -> ast.Module:
    """Return a file parsed, once for all rules."""
    return ast.parse(path.read_text(encoding="utf-8"))


def trees(paths: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    """Yield every file parsed."""
    for path in paths:
        yield path, parsed(path)


def documents() -> list[Path]:
    """Return the documents, in the root and in docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
