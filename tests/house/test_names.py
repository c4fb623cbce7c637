"""One name, one meaning: no class and no module is named like another."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from house_files import PACKAGE, SOURCE, trees

PAPER_FILES = {"network", "training"}
"""Every paper's folder in methods/ has these two: what they hold is said by the folder."""

PAPER_CLASSES = {"NetworkConfig", "LossConfig"}
"""Likewise the two groups of keys of each method's recipe, which are never imported by name from outside."""


def doubles(names: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    """Return names that occur in more than one file, with the files."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, path in names:
        places[name].append(path.relative_to(SOURCE).as_posix())
    return {name: files for name, files in places.items() if len(files) > 1}


def is_of_a_paper(path: Path) -> bool:
    return path.parent.parent == SOURCE / "methods"


def double_modules() -> dict[str, list[str]]:
    """Return module names that occur twice.

    ``cli/`` is left out: its files are named after the verbs, as are the functions that these call.
    """
    return doubles(
        (path.stem, path)
        for path in PACKAGE
        if path.parent != SOURCE / "cli"
        and not path.stem.startswith("__")
        and not (is_of_a_paper(path) and path.stem in PAPER_FILES)
    )


def double_classes() -> dict[str, list[str]]:
    return doubles(
        (node.name, path)
        for path, tree in trees(PACKAGE)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and not (node.name in PAPER_CLASSES and path.is_relative_to(SOURCE / "methods"))
    )


def test_no_two_modules_have_the_same_name() -> None:
    assert double_modules() == {}


def test_no_two_classes_have_the_same_name() -> None:
    assert double_classes() == {}
