"""The texts of recipes, and which of their keys name files; nothing here needs torch."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.reading import YAML_BYTES, read_text

STUDENT = "student"
"""Name of the recipe of those who name none."""

MANIFEST_KEYS = ("manifest", "manifests", "unlabelled")
"""Last parts of the keys that name manifests."""

MODEL_KEYS = ("init", "weights", "encoder_weights", "segmenter", "answers")
"""Last parts of the keys that may name a file or folder of a model."""


def list_recipes() -> list[str]:
    """Return the names of the recipes shipped with the package."""
    folder = resources.files("geodistill.recipes")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe_text(name: str | Path) -> str:
    """Return the text of a recipe: a YAML file, or the name of one shipped with the package.

    Raises:
        RecipeError: The file cannot be read.
        UnknownNameError: No file and no shipped recipe has that name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_text(path, YAML_BYTES, RecipeError)
    if str(name) not in list_recipes():
        raise UnknownNameError("recipe", str(name), list_recipes(), "see 'geodistill recipes', or give a .yaml file")
    return (resources.files("geodistill.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
