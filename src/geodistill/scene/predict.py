"""`predict`: rasters of any size in, georeferenced maps out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from geodistill import __version__
from geodistill.errors import DataError, OutputError, RecipeError
from geodistill.raster import IMAGE_SUFFIXES, Raster
from geodistill.scene.stream import SceneRows, check_bands, check_options, stream
from geodistill.scene.windows import Area
from geodistill.scene.writer import BLOCK, open_map
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX


def predict(
    model: Segmenter | Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    *,
    overlap: float = 0.25,
    blend: str = "cosine",
    probabilities: bool = False,
    batch_size: int = 4,
    device: str = "auto",
) -> list[Path]:
    """Map rasters of any size, in memory that grows with their width and not with their height.

    Args:
        model: A Segmenter, its directory or hub id.
        inputs: One or more rasters with the bands the model was trained on.
        out: The map, a name that ends in ``.tif``; or a directory, which gets a map by the name of each raster.
        overlap: Smallest share of a window that its neighbour covers too, 0 to 0.75.
        blend: ``cosine`` (of probabilities) or ``none``.
        probabilities: Write one float32 band a class instead of uint8 classes.
        batch_size: Windows a forward pass.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` ...

    Returns:
        The maps, in the order of the rasters.

    Raises:
        DataError: A raster cannot be read or has other bands than the model.
        ArtifactError: There is no such model, or it is altered.
        RecipeError: Overlap, batch size or device cannot be used.
        UnknownNameError: There is no such blending.
        OutputError: A map cannot be written; nothing half-written is left.
    """
    paths = map_paths(inputs, out)
    check_options(overlap, blend, batch_size)
    segmenter = load_on(model, device)
    for source in inputs:
        with Raster(source) as raster:
            check_bands(segmenter, Area.whole(raster))
    for source, path in zip(inputs, paths, strict=True):
        with Raster(source) as raster:
            _map_one(segmenter, raster, path, overlap, blend, probabilities, batch_size)
    return paths


def map_paths(inputs: Sequence[Path | str], out: Path | str) -> list[Path]:
    """Say where each raster's map goes.

    Raises:
        DataError: There is no input, or two inputs have one name.
        OutputError: A map would overwrite a raster, several maps are to go into one file, or the file's suffix is
            that of another format.
    """
    sources, target = [Path(source) for source in inputs], Path(out)
    if not sources:
        raise DataError("no input raster", "at least one")
    suffix, file = target.suffix.lower(), not target.is_dir()
    if file and suffix in IMAGE_SUFFIXES and (len(sources) > 1 or suffix not in (".tif", ".tiff")):
        expected = "a directory for several maps" if len(sources) > 1 else "a name that ends in .tif, or a directory"
        raise OutputError(f"output {target}", expected)
    paths = [target] if file and suffix in (".tif", ".tiff") else [target / f"{s.stem}.tif" for s in sources]
    if len(set(paths)) != len(paths):
        raise DataError("input rasters of one name", "different file names", "map them in two calls")
    own = {source.resolve() for source in sources}
    for path in paths:
        if path.resolve() in own:
            raise OutputError(f"the map would overwrite its raster {path}", "another place", "choose another --out")
    return paths


def load_on(model: Segmenter | Path | str, device: str) -> Segmenter:
    """Load a Segmenter onto a device, ready for inference.

    Raises:
        RecipeError: The device does not exist here.
    """
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
    try:
        segmenter = segmenter.to(torch.device(name))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"device {device!r} ({first})", "auto, cpu, or an accelerator of this machine") from error
    return segmenter.eval().to(memory_format=torch.channels_last)


def _map_one(
    segmenter: Segmenter,
    raster: Raster,
    path: Path,
    overlap: float,
    blend: str,
    probabilities: bool,
    batch_size: int,
) -> None:
    grid = raster.grid
    rows = stream(segmenter, Area.whole(raster), overlap=overlap, blend=blend, batch_size=batch_size)
    progress = tqdm(
        total=grid.height, desc=raster.path.name, unit="row", disable=not sys.stderr.isatty(), delay=2, leave=False
    )
    with (
        # In bytes. GDAL would else keep decoded blocks in 5 % of the machine's memory.
        rasterio.Env(GDAL_CACHEMAX=cache_bytes(raster)),
        open_map(path, grid, segmenter.spec.legend, probabilities, describe(segmenter)) as writer,
        progress,
        ThreadPoolExecutor(1) as pen,
        # Closed first of all: its reading thread must have ended before the raster is closed.
        closing(rows),
    ):
        writing: Future[None] | None = None
        for part in rows:
            reduced = as_probabilities(part) if probabilities else as_classes(part)
            if writing is not None:
                writing.result()
            writing = pen.submit(writer.write, reduced)
            progress.update(part.valid.shape[0])
        if writing is not None:
            writing.result()


def cache_bytes(raster: Raster) -> int:
    """Bytes GDAL may hold: about two rows of blocks of the raster, so that a strip's border is not decoded twice."""
    return 2**22 + 2 * BLOCK * raster.grid.width * raster.channels * raster.dtype.itemsize


def describe(segmenter: Segmenter) -> str:
    """Name a model in a map's tags: network, encoder, and the package that wrote the map."""
    arguments = segmenter.arguments
    parts = [segmenter.name, arguments.get("architecture"), arguments.get("encoder")]
    return f"{' '.join(str(part) for part in parts if part)}, geodistill {__version__}"


def as_classes(part: SceneRows) -> NDArray[np.uint8]:
    """``(1, rows, W)`` uint8 classes, `IGNORE_INDEX` where not valid."""
    if part.probabilities.device.type == "cpu":
        classes = _most_probable(part.probabilities.numpy())
    else:
        classes = part.probabilities.argmax(0).to(torch.uint8).cpu().numpy()
    return np.where(part.valid, classes, np.uint8(IGNORE_INDEX))[None]


def _most_probable(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The argmax over the first axis; eight times as fast, since whole planes are compared."""
    highest = probabilities[0].copy()
    classes = np.zeros(highest.shape, np.uint8)
    for index in range(1, len(probabilities)):
        np.putmask(classes, probabilities[index] > highest, np.uint8(index))
        np.maximum(highest, probabilities[index], out=highest)
    return classes


def as_probabilities(part: SceneRows) -> NDArray[Any]:
    """``(K, rows, W)`` float32, NaN where not valid."""
    return np.where(part.valid, part.probabilities.cpu().numpy(), np.float32("nan"))
