"""The recipe of a stage of training: read in full once, since that takes torch, and remembered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.project.fingerprints import Fingerprints
from geodistill.project.project_file import ProjectFile, dotted
from geodistill.project.stage_table import key_types
from geodistill.project.wiring import SIGN, WiredStage, recipe_file
from geodistill.training.recipe import is_own_student, recipe_text, role_of
from geodistill.version import __version__


def overrides_of(stage: WiredStage) -> dict[str, Any]:
    """Return the recipe keys that the project file sets, as `load_recipe` takes them."""
    return {key: value for key, value in stage.settings.items() if key not in key_types(stage.entry.kind)}


def resolved_recipe(project: ProjectFile, stage: WiredStage, fingerprints: Fingerprints) -> dict[str, Any]:
    """Return every key of a stage's recipe, dotted, with all defaults; files and stages as the project names them.

    Raises:
        RecipeError: A value cannot be used.
        UnknownNameError: A key or the recipe is unknown.
    """
    name, overrides = recipe_file(project, stage.entry), overrides_of(stage)
    source = json.dumps([__version__, recipe_text(name), overrides], sort_keys=True)
    digest = hashlib.sha256(source.encode()).hexdigest()
    if digest not in fingerprints.recipes:
        fingerprints.recipes[digest] = _read(project, stage, name, overrides)
    return fingerprints.recipes[digest]


def _read(project: ProjectFile, stage: WiredStage, name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    recipe = load("geodistill.training.recipe:load_recipe")(name, overrides)
    if stage.entry.kind == "adapt" and recipe.stages != ("phase",):
        raise RecipeError(
            f"{project.path}, {stage.entry.name}: recipe {name}, which has no phase before the labels",
            "a recipe that learns features first, such as ktda-folder or kda-folder",
        )
    return dotted(load("geodistill.training.recipe:recipe_dict")(recipe))


def in_full(project: ProjectFile, key: str, value: Any) -> Any:
    """Return a recipe key's value with the files in it in full; a name that is no file stays."""
    if is_own_student(key, value):
        return value
    return (
        [_in_full(project, key, item) for item in value] if isinstance(value, list) else _in_full(project, key, value)
    )


def _in_full(project: ProjectFile, key: str, value: Any) -> Any:
    role = role_of(key)
    is_place = role == "manifest" or key.rpartition(".")[2] == "cache"
    if not isinstance(value, str) or not value or value.startswith(SIGN) or not (is_place or role):
        return value
    path = project.resolve(value)
    return path if is_place or Path(path).exists() else value
