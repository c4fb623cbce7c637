"""What a run is read from, so that one which goes on can tell whether it is still the same."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError
from geodistill.methods.schema import Recipe
from geodistill.raster.stamps import every_file, stamp_of
from geodistill.training.recipe import recipe_dict

_MANIFESTS = ("manifest", "manifests", "unlabelled")
_MODELS = ("init", "weights", "encoder_weights", "segmenter", "answers")
_MODEL_FILES = ("*.safetensors", "*.json", "*.bin", "segmenter/*.safetensors", "segmenter/*.json")
_TOGETHER = 5000
"""Files whose sources are looked up in one go."""


def named_files(recipe: Recipe) -> dict[str, list[Path]]:
    """Return the files on this machine that a recipe's keys name, by key: manifests, and models of every kind.

    Of a folder, its weights and descriptions.
    """
    files: dict[str, list[Path]] = {}
    for key, value in _strings(recipe_dict(recipe)):
        name, path = key.rpartition(".")[2], Path(value)
        if name in _MANIFESTS or (name in _MODELS and path.is_file()):
            files.setdefault(key, []).append(path)
        elif path.is_dir() and (name in _MODELS or key == "text.encoder"):
            files.setdefault(key, []).extend(sorted(file for kind in _MODEL_FILES for file in path.glob(kind)))
    return files


def input_rows(recipe: Recipe, data: DataModule) -> list[Row]:
    """Return every row whose image a run may read."""
    rows = [row for row in data.manifest.entries if row.split != "test"]
    other = recipe.data.unlabelled
    return rows if other is None else [*rows, *Manifest.load(other).entries]


def describe_inputs(recipe: Recipe, data: DataModule) -> dict[str, Any]:
    """Return what tells whether a run's inputs are those of another day, JSON-ready.

    Manifests by the digest of what is in them, models and training images (with their masks, the sources of virtual
    rasters, and the files beside them) by size and time of change.

    Raises:
        DataError: A file cannot be read.
    """
    described: dict[str, Any] = {}
    for key, paths in named_files(recipe).items():
        manifests = key.rpartition(".")[2] in _MANIFESTS
        described[key] = {str(path): _digest(path) if manifests else _stamp(path) for path in paths}
    files = (str(path) for row in input_rows(recipe, data) for path in (row.image, row.mask) if path is not None)
    return {"named": described, "images": _image_stamps(files)}


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


def _image_stamps(names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return a checksum of each file's stamp, by folder and name: short, since a set may have 100,000 images."""
    stamps: dict[str, dict[str, int]] = {}
    waiting = list(dict.fromkeys(names))
    for first in range(0, len(waiting), _TOGETHER):
        files = every_file(waiting[first : first + _TOGETHER])
        for file, stamp in zip(files, stamp_of(files), strict=True):
            folder, _, name = file.rpartition("/")
            stamps.setdefault(folder, {})[name] = zlib.crc32(json.dumps(stamp).encode())
    return stamps


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "the manifest") from error


def _stamp(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})", "a readable file") from error
    return [stat.st_size, stat.st_mtime_ns]


def _strings(part: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a recipe with its dotted key; a list's texts share one."""
    if isinstance(part, dict):
        for name, value in part.items():
            yield from _strings(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(part, list):
        for value in part:
            yield from _strings(value, prefix)
    elif isinstance(part, str) and part:
        yield prefix, part
