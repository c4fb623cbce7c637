"""What the repository holds beside the code: files that parse, no paths of one machine, links that lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from house_files import PACKAGE, PYTHON, RECIPES, ROOT, SOURCE, at, documents, trees

MADE_FROM_CODE = ("reference/commands.md", "reference/recipes.md", "contributing.md", "changes.md")
"""Pages of the site that are no files: see docs/generated.py."""


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
    paths = [f"{at(path)}: {match[0].decode()}" for path in tracked() for match in pattern.finditer(path.read_bytes())]
    assert paths == []


def test_tracked_files_are_small() -> None:
    assert [at(path) for path in tracked() if path.stat().st_size > 2_000_000] == []


def test_scripts_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_links_of_documents_lead_somewhere() -> None:
    dead = []
    for path in documents():
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            made = at(path) == "docs/index.md" and target in MADE_FROM_CODE
            if "://" not in target and not made and not (path.parent / target).exists():
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
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    written = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted([*written, *MADE_FROM_CODE])


def test_constraints_hold_versions_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []


IMPORTED_AS = {
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "markdown-it-py": "markdown_it",
}
USED_WITHOUT_IMPORT = {
    "onnxscript": "torch.onnx exports through it",
    "tensorboard": "Lightning's logger writes through it",
    "pytest-xdist": "the option -n of pytest",
    "pandas-stubs": "types for mypy",
    "types-pyyaml": "types for mypy",
    "types-tqdm": "types for mypy",
    **dict.fromkeys(("import-linter", "mypy", "pre-commit", "pytest", "ruff", "mkdocs"), "a command"),
    "mkdocs-material": "the site's theme",
    "mkdocstrings": "the site's pages from docstrings",
}
"""Dependencies that no file imports, and what for."""


def imported(files: list[Path]) -> set[str]:
    """Return the top names of the modules that some files import."""
    names = set()
    for _, tree in trees(files):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names


@pytest.mark.slow
def test_every_dependency_is_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    in_package, anywhere = imported(PACKAGE), imported(PYTHON)
    groups = [(project["dependencies"], in_package)]
    groups += [(names, anywhere if extra == "dev" else in_package) for extra, names in extras.items()]
    idle = []
    for requirements, modules in groups:
        names = [re.split(r"[\[>=<]", requirement)[0] for requirement in requirements]
        for name in names:
            module = IMPORTED_AS.get(name, name.replace("-", "_"))
            if name not in ("geodistill", *USED_WITHOUT_IMPORT) and module not in modules:
                idle.append(name)
    assert idle == []


def test_the_version_stands_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "geodistill.version.__version__"}


def test_every_room_has_its_place_in_the_order() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    ordered = {layer.strip("()") for layer in contract["layers"]}
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in PACKAGE} - {"__init__", "recipes"}
    assert {f"geodistill.{room}" for room in rooms} - ordered == set()
