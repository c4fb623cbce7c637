"""Pages of the site made when it is built: command line, recipes, names of the glossary, two documents of the root."""

from __future__ import annotations

import ast
import importlib.util
import io
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import geodistill
from geodistill.backends import BACKENDS
from geodistill.cli import VERBS, run_verb
from geodistill.cli.assess import ASSESS_VERBS
from geodistill.cli.data import DATA_VERBS
from geodistill.cli.label import LABEL_VERBS
from geodistill.data.catalog.declarations import CATALOG
from geodistill.exports.exporters import EXPORTERS
from geodistill.label.formats.detection import FORMATS
from geodistill.label.segmenters.promptable import SEGMENTERS
from geodistill.methods.method import METHODS
from geodistill.project.stage_table import KINDS
from geodistill.training.recipe import list_recipes, recipe_text

TABLES = {"assess": ASSESS_VERBS, "data": DATA_VERBS, "label": LABEL_VERBS}
"""Verbs that have verbs of their own."""


def help_of(*verb: str) -> str:
    """Return what a verb prints with ``--help``."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        run_verb(VERBS, "geodistill", [*verb, "--help"])
    return printed.getvalue().rstrip()


def commands_page() -> str:
    """Return a page with the help of every verb."""
    parts = ["# Command line", "", "Made from the program's own help."]
    for name, (line, _) in VERBS.items():
        parts += ["", f"## geodistill {name}", "", f"{line[0].upper()}{line[1:]}."]
        for verb in [(name, inner) for inner in TABLES.get(name, {})] or [(name,)]:
            title = [f"### geodistill {' '.join(verb)}", ""] if len(verb) > 1 else []
            parts += ["", *title, "```text", help_of(*verb), "```"]
    return "\n".join(parts) + "\n"


def recipes_page() -> str:
    """Return a page with every shipped recipe."""
    parts = ["# Recipes", "", "Those shipped with the package; every key can be set by a flag of `geodistill fit`."]
    for name in list_recipes():
        parts += ["", f"## {name}", "", "```yaml", recipe_text(name).rstrip(), "```"]
    return "\n".join(parts) + "\n"


def first_words(docstring: str | None) -> str:
    """Return the first paragraph of a docstring, in Markdown."""
    return " ".join((docstring or "").partition("\n\n")[0].split()).replace("``", "`")


def module_words(target: str) -> str:
    """Return what the module of ``module:attribute`` says that it is, without importing what it needs."""
    found = importlib.util.find_spec(target.partition(":")[0])
    assert found is not None
    assert found.origin is not None
    return first_words(ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))))


def class_words(target: str) -> str:
    """Return what the class ``module:class`` says that it is."""
    module, _, name = target.partition(":")
    return first_words(getattr(importlib.import_module(module), name).__doc__)


def glossary_names() -> dict[str, dict[str, str]]:
    """Return names that a user writes, by kind, each with what the code says of it."""
    public = [name for name in geodistill.__all__ if not name.startswith("__")]
    return {
        "In Python": {f"gd.{name}": first_words(getattr(geodistill, name).__doc__) for name in public},
        "Stages of a project": {name: kind.about for name, kind in KINDS.items()},
        "Methods": {name: module_words(target) for name, target in METHODS.items()},
        "Annotation formats": {name: module_words(target) for name, target in FORMATS.items()},
        "Promptable segmenters without weights": {name: class_words(target) for name, target in SEGMENTERS.items()},
        "Backends": {name: module_words(target) for name, target in BACKENDS.items()},
        "Forms of export": {name: module_words(each.function) for name, each in EXPORTERS.items()},
        "Benchmark sets": {name: f"{each.title}." for name, each in CATALOG.items()},
    }


def glossary_page() -> str:
    """Return the glossary, with the names of the code behind its terms."""
    parts = [(Path(__file__).parent / "glossary.md").read_text(encoding="utf-8"), "## Names", ""]
    parts += ["Made from the code: what a user writes, and what each stands for.", ""]
    for kind, names in glossary_names().items():
        parts += [f"### {kind}", "", *(f"**`{name}`** {words}\n" for name, words in names.items())]
    return "\n".join(parts)


def root_page(name: str) -> str:
    """Return a document of the repository's root, its links as they are from the site."""
    text = (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
    return text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changes.md)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages; MkDocs calls this."""
    from mkdocs.structure.files import File

    pages = {
        "glossary.md": glossary_page(),
        "reference/commands.md": commands_page(),
        "reference/recipes.md": recipes_page(),
        "contributing.md": root_page("CONTRIBUTING.md"),
        "changes.md": root_page("CHANGELOG.md"),
    }
    for path, page in pages.items():
        if (written := files.get_file_from_path(path)) is not None:
            files.remove(written)
        files.append(File.generated(config, path, content=page))
    return files
