"""Habits that linters do not know: no broad except, guarded readers, nothing left for later."""

from __future__ import annotations

import ast
import re

import pytest

from house_files import PACKAGE, PYTHON, SOURCE, at, trees


@pytest.mark.slow
def test_no_broad_except() -> None:
    broad = []
    for path, tree in trees(PACKAGE):
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                if re.search(r"\b(everything|Exception|BaseException)\b", caught):
                    broad.append(f"{at(path, node.lineno)} except {caught}")
    assert broad == []


PARSERS = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "torch.load"}
READERS = {"read_text", "read_bytes"}
GUARDED = {
    "reading.py": "the guarded readers themselves",
    "folders.py": "markers and holders, which count as not there where they cannot be read",
    "nn/weights.py": "weights: torch.load with weights_only, behind one error",
    "training/resume.py": "checkpoints: the same, after their checksums",
}
"""Where parsers of outside files may stand."""


def reads_outside(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in PARSERS:
        return not (call.args and ast.unparse(call.args[0]).startswith("json.dumps("))
    own = isinstance(call.func, ast.Attribute) and "resources.files" in ast.unparse(call.func.value)
    return isinstance(call.func, ast.Attribute) and call.func.attr in READERS and not own


def test_files_from_outside_come_in_through_the_guarded_readers() -> None:
    offending = [
        f"{at(path, node.lineno)} {ast.unparse(node.func)}"
        for path, tree in trees(PACKAGE)
        if path.relative_to(SOURCE).as_posix() not in GUARDED
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and reads_outside(node)
    ]
    assert offending == []


def test_nothing_is_left_for_later() -> None:
    words = re.compile("TO" + "DO|FIX" + "ME|XX" + "X")
    offending = [
        at(path, number)
        for path in PYTHON
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert offending == []
