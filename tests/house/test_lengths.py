"""Files and functions are short enough to be read at a glance."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

from house_files import PACKAGE, PYTHON, at, trees

OTHERS = [path for path in PYTHON if path not in set(PACKAGE)]
MEDIAN_LINES_OF_A_FILE = 150


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("files", "most"), [(PACKAGE, 350), (OTHERS, 400)], ids=["package", "tests"])
def test_files_are_short(files: list[Path], most: int) -> None:
    too_long = {at(path): lines_of(path) for path in files if lines_of(path) > most}
    assert too_long == {}


def test_half_of_the_package_fits_on_a_few_screens() -> None:
    assert statistics.median(map(lines_of, PACKAGE)) <= MEDIAN_LINES_OF_A_FILE


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


@pytest.mark.slow
@pytest.mark.parametrize(("files", "most"), [(PACKAGE, 60), (OTHERS, 80)], ids=["package", "tests"])
def test_functions_are_short(files: list[Path], most: int) -> None:
    lengths = {
        f"{at(path)} {node.name}": lines_without_docstring(node)
        for path, tree in trees(files)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    too_long = {name: lines for name, lines in lengths.items() if lines > most}
    assert too_long == {}
