"""The package speaks the field's language: no coinages (`house_words`), and docstrings that say what happens."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from house_files import PACKAGE, PYTHON, RECIPES, ROOT, SOURCE, at, documents, trees
from house_words import NAMES, PHRASES

BENCHMARKS = [path for path in PYTHON if path.is_relative_to(ROOT / "benchmarks")]
TEXTS = [
    *PACKAGE,
    *BENCHMARKS,
    *RECIPES,
    *sorted((SOURCE / "text").glob("*.yaml")),
    *(path for path in documents() if path.name != "CHANGELOG.md"),
]


def new_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that a file gives: variables, arguments, fields, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node.lineno


def coined_names(path: Path, tree: ast.AST) -> list[str]:
    return [f"{at(path, line)} {name} -> {NAMES[name]}" for name, line in new_names(tree) if name in NAMES]


GAP = r"""(?:[ ]+|[ ]*"?\n[ ]*(?:\#|>|f?")?[ ]*)"""
"""Between two words: spaces, or the end of a line of text, of a comment or of a string that goes on in the next."""


def coined_phrases(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    return [
        f"{at(path, text.count(chr(10), 0, match.start()) + 1)} {' '.join(match[0].split())!r} -> {plain}"
        for pattern, plain in PHRASES.items()
        for match in re.finditer(pattern.replace(" ", GAP), text, re.IGNORECASE)
    ]


def test_names_are_the_fields_own() -> None:
    coined = [line for path, tree in trees([*PACKAGE, *BENCHMARKS]) for line in coined_names(path, tree)]
    assert coined == []


@pytest.mark.slow
@pytest.mark.parametrize("room", sorted({at(path.parent) for path in TEXTS}))
def test_texts_are_in_plain_words(room: str) -> None:
    files = [path for path in TEXTS if at(path.parent) == room]
    assert [line for path in files for line in coined_phrases(path)] == []


@pytest.mark.parametrize(
    ("text", "coined"),
    [
        ("a mistake is told\n    # on one line", True),
        ("windows a forward\npass", True),
        ("one annotation a line", True),
        ("where it lies nowhere", True),
        ("batch size (windows per forward pass)", False),
        ("one line per class", False),
        ("students and their teacher", False),
    ],
)
def test_phrases_are_recognised(text: str, coined: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "at", lambda path, line: f"{path}:{line}")
    (tmp_path / "text.md").write_text(text)
    assert bool(coined_phrases(tmp_path / "text.md")) == coined


def documented(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name with its docstring; the module's name is empty."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", ""), text


@pytest.mark.slow
def test_docstrings_say_what_happens() -> None:
    give = [
        f"{at(path)} {name}"
        for path, tree in trees(PYTHON)
        for name, text in documented(tree)
        if re.match(r"(Give|Gives|Giving)\b", text)
    ]
    assert give == []


def test_every_module_says_what_it_is_for() -> None:
    assert [at(path) for path, tree in trees(PACKAGE) if tree.body and not ast.get_docstring(tree)] == []
