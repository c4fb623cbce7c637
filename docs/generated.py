"""Pages of the site made when it is built: the command line's help, the recipes, and two documents of the root."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from geodistill.cli import VERBS, run_verb
from geodistill.cli.assess import ASSESS_VERBS
from geodistill.cli.data import DATA_VERBS
from geodistill.cli.label import LABEL_VERBS
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


def root_page(name: str) -> str:
    """Return a document of the repository's root, its links as they are from the site."""
    text = (Path(__file__).parents[1] / name).read_text(encoding="utf-8")
    return text.replace("](docs/", "](").replace("](CHANGELOG.md)", "](changes.md)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages; MkDocs calls this."""
    from mkdocs.structure.files import File

    pages = {
        "reference/commands.md": commands_page(),
        "reference/recipes.md": recipes_page(),
        "contributing.md": root_page("CONTRIBUTING.md"),
        "changes.md": root_page("CHANGELOG.md"),
    }
    for path, page in pages.items():
        files.append(File.generated(config, path, content=page))
    return files
