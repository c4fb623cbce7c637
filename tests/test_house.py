"""House rules that linters do not know: lengths, handling of errors, files that parse, no paths of one machine."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
MOST_LINES_A_FILE = 400
MOST_LINES_A_FUNCTION = 80
PYTHON = sorted(path for room in ("src", "tests", "benchmarks") for path in (ROOT / room).rglob("*.py"))
PACKAGE = [path for path in PYTHON if path.is_relative_to(ROOT / "src")]
RECIPES = sorted((ROOT / "src/geodistill/recipes").glob("*.yaml"))


def at(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def trees(paths: list[Path]) -> list[tuple[Path, ast.Module]]:
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def test_files_are_short() -> None:
    lines = {at(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}
    assert {name: count for name, count in lines.items() if count > MOST_LINES_A_FILE} == {}


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    told = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - told


def test_functions_are_short() -> None:
    lengths = {
        f"{at(path, node.lineno)} {node.name}": lines_without_docstring(node)
        for path, tree in trees(PYTHON)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in lengths.items() if count > MOST_LINES_A_FUNCTION} == {}


def test_every_module_says_what_it_is_for() -> None:
    assert [at(path) for path, tree in trees(PACKAGE) if tree.body and not ast.get_docstring(tree)] == []


def test_no_broad_except() -> None:
    found = []
    for path, tree in trees(PACKAGE):
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                if re.search(r"\b(everything|Exception|BaseException)\b", caught):
                    found.append(f"{at(path, node.lineno)} except {caught}")
    assert found == []


PARSERS = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.full_load", "torch.load"}
READERS = {"read_text", "read_bytes"}
GUARDED = {
    "reading.py": "the guarded readers themselves",
    "files.py": "markers and holders, which count as not there where they cannot be read",
    "nn/weights.py": "weights: torch.load with weights_only, behind one error",
    "training/resume.py": "checkpoints: the same, after their checksums",
    "evaluation/worst.py": "pictures that it has just written itself",
}
"""Where parsers of outside files may stand."""


def reads_outside(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if name in PARSERS:
        return not (call.args and ast.unparse(call.args[0]).startswith("json.dumps("))
    own = isinstance(call.func, ast.Attribute) and "resources.files" in ast.unparse(call.func.value)
    return isinstance(call.func, ast.Attribute) and call.func.attr in READERS and not own


def test_files_from_outside_come_in_through_the_guarded_readers() -> None:
    found = [
        f"{at(path, node.lineno)} {ast.unparse(node.func)}"
        for path, tree in trees(PACKAGE)
        if path.relative_to(ROOT / "src/geodistill").as_posix() not in GUARDED
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and reads_outside(node)
    ]
    assert found == []


def test_nothing_is_left_for_later() -> None:
    words = re.compile("TO" + "DO|FIX" + "ME|XX" + "X")
    found = [
        at(path, number)
        for path in PYTHON
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if words.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", [*RECIPES, ROOT / "mkdocs.yml", ROOT / ".pre-commit-config.yaml"], ids=at)
def test_yaml_parses_to_a_mapping(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_paths_of_one_machine_are_tracked() -> None:
    pattern = re.compile(rb"(?<![\w.:/-])/(?:home|Users|root|work|mnt)/\w+")
    found = [f"{at(path)}: {match[0].decode()}" for path in tracked() for match in pattern.finditer(path.read_bytes())]
    assert found == []


def test_tracked_files_are_small() -> None:
    assert [at(path) for path in tracked() if path.stat().st_size > 2_000_000] == []


def test_scripts_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def test_links_of_documents_lead_somewhere() -> None:
    dead = []
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                dead.append(f"{at(path)}: {target}")
    assert dead == []


def test_documented_commands_have_known_verbs() -> None:
    from geodistill.cli import VERBS

    unknown = []
    for path in documents():
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for verb in re.findall(r"^\s*(?:\$ )?geodistill (\w+)", block, re.MULTILINE):
                if verb not in VERBS:
                    unknown.append(f"{at(path)}: {verb}")
    assert unknown == []


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_constraints_hold_versions_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []
