"""Which files `predict` will write, known before any work begins and compared with all that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from geodistill.errors import DataError, OutputError
from geodistill.files import LONGEST_NAME
from geodistill.inference.inputs import Scene
from geodistill.inference.options import Options
from geodistill.inference.style import style_files
from geodistill.outputs import check_outputs
from geodistill.raster import IMAGE_SUFFIXES

SUFFIXES = (".tif", ".tiff")
"""Suffixes of maps."""


def map_beside(path: Path, layer: str) -> Path:
    """Return the file of a layer beside the map of classes: ``town_confidence.tif`` for ``town.tif``."""
    return path if layer == "classes" else path.with_name(f"{path.stem}_{layer}{path.suffix}")


def outputs_of(path: Path, options: Options) -> tuple[Path, ...]:
    """Return every file that is written for a scene.

    Args:
        path: Its map of classes.
        options: What is wanted beside it.
    """
    wanted = options.settings.wanted
    files = [path, *style_files(path)]
    if wanted.confidence:
        files.append(map_beside(path, "confidence"))
    if wanted.probabilities:
        files.append(map_beside(path, "probabilities"))
    if options.vector is not None:
        files.append(path.with_suffix(f".{options.vector.format}"))
    if options.stac:
        files.append(path.with_suffix(".json"))
    return tuple(files)


def map_paths(scenes: Sequence[Scene], out: Path | str) -> list[Path]:
    """Return where each scene's map goes.

    Raises:
        DataError: Two scenes have one name.
        OutputError: Several maps are to go into one file, or the file's suffix is that of another format.
    """
    target = Path(out)
    suffix, file = target.suffix.lower(), not os.path.isdir(target)  # noqa: PTH112 - a name too long is no folder
    if file and suffix in IMAGE_SUFFIXES and (len(scenes) > 1 or suffix not in SUFFIXES):
        expected = "a directory for several maps" if len(scenes) > 1 else "a name that ends in .tif, or a directory"
        raise OutputError(f"output {target}", expected, "choose another --out")
    if file and suffix not in SUFFIXES and os.path.exists(target):  # noqa: PTH110 - as above
        raise OutputError(
            f"output {target} is a file", "a name that ends in .tif, or a directory", "choose another --out"
        )
    paths = [target] if file and suffix in SUFFIXES else [target / f"{s.name}.tif" for s in scenes]
    if len(set(paths)) != len(paths):
        double = next(path for path in paths if paths.count(path) > 1)
        raise DataError(f"scenes of one name ({double.stem})", "different names", "map them in two calls")
    return paths


def check_paths(paths: Sequence[Path], options: Options, inputs: Iterable[Path | str]) -> None:
    """Make sure that no file of any scene overwrites an input or another scene's file.

    Args:
        paths: The map of classes of each scene.
        options: What is wanted beside them.
        inputs: Every file that is read.

    Raises:
        OutputError: One would, or has a name that is too long.
    """
    outputs = [file for path in paths for file in outputs_of(path, options)]
    for file in outputs:
        longest = max(len(os.fsencode(part)) for part in file.absolute().parts)
        if longest > LONGEST_NAME:
            raise OutputError(
                f"{file} has a name of {longest} bytes", f"at most {LONGEST_NAME}", "choose another --out"
            )
        try:
            str(file).encode()
        except UnicodeEncodeError as error:  # GDAL takes names in UTF-8 alone
            raise OutputError(f"{file} is no name in UTF-8", "a name in UTF-8", "choose another --out") from error
    check_outputs(outputs, inputs)
