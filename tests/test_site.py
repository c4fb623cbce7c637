"""The site: its pages made from code say what the code does, and it asks nothing of any other server."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import geodistill as gd
from geodistill.cli import VERBS
from geodistill.methods.method import METHODS, find_method
from geodistill.training.recipe import recipe_keys
from house_files import documents
from where import ROOT


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    found = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_verb_stands_with_its_help(generated: ModuleType) -> None:
    page = generated.commands_page()
    for verb in VERBS:
        assert f"## geodistill {verb}\n" in page
    assert "### geodistill label build\n" in page
    assert page.count("usage: geodistill") >= len(VERBS)
    assert page.count("\nexample:") > 10


def test_every_recipe_stands_as_it_is_shipped(generated: ModuleType) -> None:
    page = generated.recipes_page()
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == gd.list_recipes()


def test_the_glossary_names_what_the_code_has(generated: ModuleType) -> None:
    page, names = generated.glossary_page(), generated.glossary_names()
    assert page.startswith("# Glossary")
    assert set(names["Methods"]) == set(METHODS)
    assert {name.partition(".")[2] for name in names["In Python"]} == set(gd.__all__) - {"__version__"}
    for kind in names.values():
        for name, words in kind.items():
            assert f"**`{name}`** {words}\n" in page
            assert words.endswith("."), name
            assert "``" not in words


def test_every_public_name_has_a_place_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    named = {line.rpartition(".")[2] for line in page.splitlines() if line.startswith("::: ")}
    functions = {"scan", "label_boxes", "fit", "evaluate", "compare", "predict", "export"}
    assert "::: geodistill.api\n" in page
    assert set(gd.__all__) - functions - {"__version__"} <= named


@pytest.mark.slow
def test_the_site_builds_strictly_and_asks_no_other_server(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs the extra 'docs'")
    pytest.importorskip("mkdocstrings", reason="needs the extra 'docs'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=[\"']?https?://[^\"' >]+")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    assert {match for page in pages for match in loads.findall(page.read_text(encoding="utf-8"))} == set()


def test_every_flag_in_the_documents_exists(generated: ModuleType) -> None:
    known = set(re.findall(r"--[a-z][\w-]*", generated.commands_page())) | {"--print_config", "--version"}
    keys = {f"--{key}" for name in METHODS for key in recipe_keys(find_method(name).recipe)}
    # Under these the user names the part, such as a loss term or a teacher.
    named = {key.partition(".NAME")[0] for key in keys if ".NAME" in key} | {"--losses.weights"}
    unknown = []
    # The change log tells of former flags, and the guide for contributors of other programs'.
    for path in [path for path in documents() if path.name not in ("CHANGELOG.md", "CONTRIBUTING.md")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            for flag in re.findall(r"(?<![\w-])--[a-z][\w.-]*\w", line):
                of_a_name = any(flag.startswith(f"{key}.") for key in named)
                if flag not in known | keys and not of_a_name and not re.search("benchmarks/|pip install", line):
                    unknown.append(f"{path.name}: {flag}")
    assert unknown == []
