"""A run's folder: made, taken up again or begun anew, and never with anything in it that is not ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import GeodistillError, OutputError, RecipeError, output_error
from geodistill.files import atomic_path
from geodistill.folders import empty_folder, foreign_files, hold_folder, mark_folder, read_marker, refuse_foreign, sweep
from geodistill.methods.schema import Recipe
from geodistill.outputs import check_outputs
from geodistill.reading import ANNOTATION_BYTES, read_object, read_yaml
from geodistill.training.inputs import changed_input
from geodistill.training.recipe import recipe_dict

KIND = "run of fit"
RECIPE, INPUTS, CHECKPOINTS = "recipe.yaml", "inputs.json", "checkpoints"
_MARKER = ".geodistill.json"

OURS = (
    *(RECIPE, INPUTS, f"{CHECKPOINTS}/*.ckpt", "pictures/*step_*.png", "figures-*.json"),
    *("logs/*metrics.csv", "logs/*hparams.yaml", "logs/*events.out.tfevents.*"),
    *(f"segmenter/{name}" for name in (DESCRIPTION, WEIGHTS, _MARKER)),
    *(f"segmenters/*/{name}" for name in (DESCRIPTION, WEIGHTS, _MARKER)),
    *(f"encoder/{name}" for name in ("config.json", "model.safetensors", _MARKER)),
)
"""All that a run writes in its folder, as `mark_folder` takes it."""


def run_identity(recipe: Recipe) -> str:
    """Return what a run's checkpoints are known by: runs of one recipe on one set of inputs are the same run."""
    return hashlib.sha256(json.dumps(recipe_dict(recipe), sort_keys=True).encode()).hexdigest()[:16]


def refuse_other_folders(run: Path, restart: bool) -> None:
    """Refuse a folder that is no run of ours, before anything is written.

    Raises:
        OutputError: It holds something else; with ``restart`` also where it holds other things beside a run.
    """
    if not run.is_dir():
        check_outputs([run], [])  # a name of its own, and no file's
        return
    marker, foreign = read_marker(run), foreign_files(run)
    if foreign and (marker is None or marker[0] != KIND):
        raise OutputError(
            f"{run} is not empty and holds no run of fit ({foreign[0]})",
            "a new or empty folder",
            "choose another --out",
        )
    if restart:
        refuse_foreign(run)


def _follows() -> bool:
    """Whether this is one of several processes of a run, and not the first, which looks after the folder."""
    return bool(getattr(rank_zero_only, "rank", 0))


@contextmanager
def held_run(run: Path) -> Iterator[None]:
    """Hold a run's folder against another `fit`; of several processes of one run, the first holds it.

    Raises:
        BusyError: Another command is at work in it.
        OutputError: It cannot be written.
    """
    if _follows():
        yield
        return
    with hold_folder(run, "fit"):
        yield


def prepare_run(run: Path, recipe: Recipe, restart: bool, describe: Callable[[], Mapping[str, Any]]) -> None:
    """Begin a run in a folder, or make sure that the unfinished one there can go on; call it while the folder is held.

    A run without any checkpoint has nothing to lose: another recipe may take its place.

    Args:
        run: The folder.
        recipe: What is to be trained.
        restart: Remove an earlier run first.
        describe: Returns what `describe_inputs` does.

    Raises:
        RecipeError: The folder holds a run of another recipe, a finished one, or one whose inputs have changed.
        OutputError: It holds something else, or cannot be written.
    """
    if _follows():
        return
    refuse_other_folders(run, restart)
    sweep(run, locked=True)
    saved = not restart and any((run / CHECKPOINTS).glob("*.ckpt"))
    if not restart:
        _refuse_finished(run, recipe)
    if saved:
        _refuse_changed(run, recipe, describe)
        return
    empty_folder(run)
    try:
        mark_folder(run, KIND, OURS)
        with atomic_path(run / INPUTS) as part:
            part.write_text(json.dumps(describe(), ensure_ascii=False), encoding="utf-8", errors="surrogatepass")
        with atomic_path(run / RECIPE) as part:
            part.write_text(yaml.safe_dump(recipe_dict(recipe), sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise output_error(run, error) from error


_MEND = "use --restart to begin again, or another --out"


def _refuse_finished(run: Path, recipe: Recipe) -> None:
    made = [name for name in ("segmenter", "encoder") if (run / name).is_dir()]
    if "segmenter" in made or (made and "labels" not in recipe.stages):
        same = (run / RECIPE).is_file() and _saved_recipe(run) == recipe_dict(recipe)
        if not same:
            raise RecipeError(f"{run} holds a run of another recipe", "the same recipe, to continue it", _MEND)
        raise RecipeError(f"{run} holds a finished run", "an unfinished one, to continue it", _MEND)


def _refuse_changed(run: Path, recipe: Recipe, describe: Callable[[], Mapping[str, Any]]) -> None:
    if _saved_recipe(run) != recipe_dict(recipe):
        raise RecipeError(f"{run} holds a run of another recipe", "the same recipe, to continue it", _MEND)
    try:
        before = read_object(run / INPUTS, ANNOTATION_BYTES, RecipeError)
        changed = changed_input(before, describe())
    except (AttributeError, TypeError) as error:
        raise RecipeError(f"{run / INPUTS} is not as it was written", "the file as fit wrote it", _MEND) from error
    except RecipeError as error:
        raise RecipeError(error.received, error.expected, _MEND) from error
    if changed is not None:
        raise RecipeError(
            f"{changed} has changed since the run in {run} began",
            "what it has been trained on so far",
            f"put it back, {_MEND}",
        )


def _saved_recipe(run: Path) -> Any:
    try:
        return read_yaml(run / RECIPE, RecipeError)
    except GeodistillError as error:
        raise RecipeError(error.received, error.expected, _MEND) from error
