"""Each method's page lists all that its two settings, printed and released, differ in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from geodistill.training.recipe import load_recipe, recipe_dict

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "ktda": ("ktda-grass", "ktda-cloud"),
    "kda": ("kda-landslide-distil", "kda-landslide"),
    "maflnet": ("mafl-teacher", "mafl-student"),
    "metasegnet": ("metasegnet-openearthmap", "metasegnet-potsdam", "metasegnet-loveda"),
    "sep": ("sep",),
}


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return a recipe's values by dotted key."""
    if not isinstance(value, dict):
        return {prefix[:-1]: value}
    return {key: part for name, inner in value.items() for key, part in flat(inner, f"{prefix}{name}.").items()}


def listed(page: str) -> set[str]:
    """Return the keys that the tables of a page name; one without its section is of that of the one before it."""
    keys: set[str] = set()
    for line in (DOCS / f"{page}.md").read_text(encoding="utf-8").splitlines():
        for cell in line.split("|") if line.startswith("|") else ():
            names = re.findall(r"`([a-z_]+(?:\.[a-z_]+)*)`", cell)
            section = names[0].rpartition(".")[0] if names else ""
            keys |= {name if "." in name else f"{section}.{name}" for name in names}
    return keys


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [(page, recipe) for page, recipes in PAGES.items() for recipe in recipes])
def test_a_page_lists_every_key_that_differs(recipe: tuple[str, str]) -> None:
    page, name = recipe
    printed, released = (flat(recipe_dict(load_recipe(name, ["--preset", p]))) for p in ("printed", "released"))
    differ = {key for key in printed.keys() | released.keys() if printed.get(key) != released.get(key)} - {"preset"}
    assert differ
    assert differ - listed(page) == set()
