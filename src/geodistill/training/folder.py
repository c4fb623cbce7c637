"""A run's folder: made, taken up again or begun anew, never with foreign files in it nor with changed inputs."""

from __future__ import annotations

import hashlib
import json
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from geodistill.data.manifest import Manifest, Row
from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import DataError, GeodistillError, GeodistillWarning, OutputError, RecipeError, output_errors
from geodistill.files import check_outputs, sha256_of, write_text
from geodistill.folders import (
    empty_folder,
    foreign_files,
    hold_folder,
    mark_folder,
    read_marker,
    refuse_foreign,
    refuse_links,
    results_within,
    sweep,
)
from geodistill.methods.schema import Recipe
from geodistill.raster.source import every_file, stamp_of
from geodistill.reading import ANNOTATION_BYTES, read_object, read_yaml
from geodistill.training.recipe import recipe_dict, recipe_files, role_of

if TYPE_CHECKING:
    from geodistill.data.datamodule import DataModule

KIND = "run of fit"
RECIPE, INPUTS, CHECKPOINTS = "recipe.yaml", "inputs.json", "checkpoints"
_MARKER, _ACCELERATOR = ".geodistill.json", "trainer.accelerator"

OURS = (
    *(RECIPE, INPUTS, f"{CHECKPOINTS}/*.ckpt", "pictures/*step_*.png", "figures-*.json"),
    *("logs/*metrics.csv", "logs/*hparams.yaml", "logs/*events.out.tfevents.*"),
    *(f"segmenter/{name}" for name in (DESCRIPTION, WEIGHTS, _MARKER)),
    *(f"segmenters/*/{name}" for name in (DESCRIPTION, WEIGHTS, _MARKER)),
    *(f"encoder/{name}" for name in ("config.json", "model.safetensors", _MARKER)),
)
"""All that a run writes in its folder, as `mark_folder` takes it."""


def run_identity(recipe: Recipe, run: Path) -> str:
    """Return what a run's checkpoints are known by: runs of one recipe on one set of inputs are the same run.

    It stays that of the recipe that the run began with, on whatever accelerator and in whatever version it goes on.
    """
    file = run / RECIPE
    # Of several processes one writes it, and another may be here before it, or on another machine.
    values = read_yaml(file, RecipeError) if file.is_file() else recipe_dict(recipe)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def refuse_other_folders(run: Path, restart: bool) -> None:
    """Refuse a folder that is no run of ours, before anything is written.

    Raises:
        OutputError: It holds something else; with ``restart`` also where it holds other things beside a run.
    """
    if not run.is_dir():
        check_outputs([run], [])  # a name of its own, and no file's
        return
    kept = results_within(run)
    marker, foreign = read_marker(run), foreign_files(run, kept)
    if foreign and (marker is None or marker[0] != KIND):
        raise OutputError(
            f"{run} is not empty and holds no run of fit ({foreign[0]})",
            "a new or empty folder",
            "choose another --out",
        )
    if restart or (marker is not None and marker[0] != KIND):
        refuse_foreign(run, KIND, kept)  # a Segmenter is ours too, and no place for a run


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

    A run without any checkpoint has nothing to lose: another recipe may take its place. ``describe`` returns what
    `describe_inputs` does.

    Raises:
        RecipeError: The folder holds a run of another recipe, a finished one, or one whose inputs have changed.
        OutputError: It holds something else, a link in place of what is ours, or cannot be written.
    """
    if _follows():
        return
    refuse_other_folders(run, restart)
    sweep(run, locked=True)
    finished = is_finished(run, recipe)
    begun = any((run / CHECKPOINTS).glob("*.ckpt"))
    if not restart and (finished or begun):
        if finished and not (run / RECIPE).is_file():
            raise RecipeError(f"{run} holds a run of another recipe", "the same recipe, to continue it", _MEND)
        _refuse_other_recipe(run, recipe, _MEND if finished else f"name its own, {run / RECIPE}, {_MEND}")
        if finished:
            raise RecipeError(f"{run} holds a finished run", "an unfinished one, to continue it", _MEND)
        refuse_links(run, OURS)
        _refuse_changed(run, describe, _MEND)
        return
    empty_folder(run)
    with output_errors(run):
        mark_folder(run, KIND, OURS)
        write_text(run / INPUTS, json.dumps(describe(), ensure_ascii=False), errors="surrogatepass")
        write_text(run / RECIPE, yaml.safe_dump(recipe_dict(recipe), sort_keys=False))


def is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether a run's folder holds what the last of the recipe's stages leaves."""
    return (run / "segmenter").is_dir() or ("labels" not in recipe.stages and (run / "encoder").is_dir())


_MEND = "begin again with --restart (restart=True in Python), or name another output folder"


def _refuse_changed(run: Path, describe: Callable[[], Mapping[str, Any]], mend: str) -> None:
    try:
        before = read_object(run / INPUTS, ANNOTATION_BYTES, RecipeError)
        changed = changed_input(before, describe())
    except (AttributeError, TypeError) as error:
        raise RecipeError(f"{run / INPUTS} is not as it was written", "the file as fit wrote it", mend) from error
    except RecipeError as error:
        raise RecipeError(error.received, error.expected, mend) from error
    if changed is not None:
        raise RecipeError(
            f"{changed} has changed since the run in {run} began",
            "what it has been trained on so far",
            f"put it back, or {mend}",
        )


def refuse_other_run(
    run: Path, recipe: Recipe, describe: Callable[[], Mapping[str, Any]], mend: str, planned: Collection[str] = ()
) -> None:
    """Make sure that a finished run is one of this recipe, on what its manifests, models and images are now.

    ``describe`` is as for `prepare_run`.

    Of a ``planned`` key, which follows from the others, another value is a warning.

    Raises:
        RecipeError: It is another.
        DataError: A file cannot be read.
    """
    _refuse_other_recipe(run, recipe, mend, planned)
    _refuse_changed(run, describe, mend)


def _refuse_other_recipe(run: Path, recipe: Recipe, mend: str, planned: Collection[str] = ()) -> None:
    try:
        saved, asked = dict(_values(read_yaml(run / RECIPE, RecipeError))), dict(_values(recipe_dict(recipe)))
    except GeodistillError as error:
        raise RecipeError(error.received, error.expected, mend) from error
    # A version that did not know a key trained as its default does; a term without a weight was left out.
    defaults = dict(_values(recipe_dict(type(recipe)())))
    saved = {key: value for key, value in defaults.items() if key in asked and ".weights." not in key} | saved
    for key in {**asked, **saved}:
        if key != _ACCELERATOR and (key in saved, saved.get(key)) != (key in asked, asked.get(key)):
            differs = f"{key} was {saved.get(key)}, is {asked.get(key)}"
            if key not in planned:
                what = f"{run} holds a run of another recipe ({differs})"
                raise RecipeError(what, "the same recipe, to continue it", mend)
            text = f"{run} is a finished run that an earlier version planned ({differs}); it is compared as it is"
            warnings.warn(text, GeodistillWarning, stacklevel=2)


def _values(part: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a recipe with its dotted key."""
    if not isinstance(part, dict) or not part:
        yield prefix, part
        return
    for name, value in part.items():
        yield from _values(value, f"{prefix}.{name}" if prefix else str(name))


_MODEL_FILES = ("*.safetensors", "*.json", "*.bin", "segmenter/*.safetensors", "segmenter/*.json")
_TOGETHER = 5000
"""Files whose sources are looked up in one go."""


def named_files(recipe: Recipe) -> dict[str, list[Path]]:
    """Return the files on this machine that a recipe's keys name, by key: manifests, and models of every kind.

    Of a folder, its weights and descriptions.
    """
    files: dict[str, list[Path]] = {}
    for key, name, role in recipe_files(dict(_values(recipe_dict(recipe)))):
        path = Path(name)
        if role == "manifest" or path.is_file():
            files.setdefault(key, []).append(path)
        elif path.is_dir():
            files.setdefault(key, []).extend(sorted(file for kind in _MODEL_FILES for file in path.glob(kind)))
    return files


def describe_inputs(recipe: Recipe, data: DataModule) -> dict[str, Any]:
    """Return what tells whether a run's inputs are those of another day, JSON-ready.

    Manifests by the digest of what is in them, models and training images (with their masks, the sources of virtual
    rasters, and the files beside them) by size and time of change; datasets of tensors by what was measured of them.

    Raises:
        DataError: A file cannot be read.
    """
    described = _describe_named(recipe)
    if not recipe.data.manifest and not data.sets and data.manifest.statistics is not None:
        measured = json.dumps(data.manifest.statistics.to_dict(), sort_keys=True)
        return {"named": described | {"data": {"a dataset": [zlib.crc32(measured.encode())]}}, "images": {}}
    rows = [row for row in data.manifest.entries if row.split != "test"]
    if recipe.data.unlabelled is not None:
        rows += Manifest.load(recipe.data.unlabelled).entries
    return {"named": described, "images": image_stamps(rows)}


def _describe_named(recipe: Recipe) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for key, paths in named_files(recipe).items():
        described[key] = {str(path): _stamp(path, whole=role_of(key) == "manifest") for path in paths}
    return described


def changed_input(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Say which input is another than it was, by two results of `describe_inputs`; ``None`` where none is."""
    for key, stamps in now["named"].items():
        old = before.get("named", {}).get(key, {})
        if changed := _first_difference(old, stamps):
            return f"{changed} ({key})"
    then = before.get("images", {})
    for folder, stamps in now["images"].items():
        if changed := _first_difference(then.get(folder, {}), stamps):
            return f"{folder}/{changed}"
    gone = [folder for folder in then if folder not in now["images"]]
    return gone[0] if gone else None


def _first_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    return next((name for name in {**now, **before} if before.get(name) != now.get(name)), None)


def image_stamps(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Return a checksum of the stamp of each file behind some images and their masks, by folder and name.

    Checksums are short, and a set may have 100,000 images.
    """
    stamps: dict[str, dict[str, int]] = {}
    waiting = list(dict.fromkeys(str(path) for row in rows for path in (row.image, row.mask) if path is not None))
    for first in range(0, len(waiting), _TOGETHER):
        files = every_file(waiting[first : first + _TOGETHER])
        for file, stamp in zip(files, stamp_of(files), strict=True):
            folder, _, name = file.rpartition("/")
            stamps.setdefault(folder, {})[name] = zlib.crc32(json.dumps(stamp).encode())
    return stamps


def _stamp(path: Path, whole: bool) -> str | list[int]:
    """Return the digest of a whole file, or its size and time of change."""
    try:
        if whole:
            return sha256_of(path)
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "a readable file") from error
    return [stat.st_size, stat.st_mtime_ns]
