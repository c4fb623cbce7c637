"""The papers, the made-up towns and the demo are a ring of their own: nothing in the product imports them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import geodistill
from geodistill.lazy import load
from house_files import parsed

PACKAGE = Path(geodistill.__file__).parent
RING = re.compile(r"geodistill\.(papers|synthetic|demo)\b")
OUTSIDE = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not RING.match(".".join(("geodistill", *path.relative_to(PACKAGE).with_suffix("").parts)))
]
TARGETS = sorted(
    {
        node.value
        for path in OUTSIDE
        if RING.search(path.read_text(encoding="utf-8"))  # a hundred times as fast as to read their syntax
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and RING.match(node.value)
        if re.fullmatch(r"[\w.]+:\w+", node.value)
    }
)


def imported(path: Path) -> list[str]:
    """Return the modules that a file imports anywhere, in functions too."""
    modules: list[str] = []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    return modules


@pytest.mark.slow
def test_nothing_outside_the_ring_imports_it() -> None:
    wrong = [(path.name, module) for path in OUTSIDE for module in imported(path) if RING.match(module)]
    assert wrong == []


def test_the_rings_targets_are_known() -> None:
    assert "geodistill.papers.command:reproduce" in TARGETS
    assert "geodistill.demo:demo" in TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_product_loads_of_the_ring_by_name_is_there(target: str) -> None:
    assert load(target) is not None
