"""A map in memory: what `Segmenter.predict` returns."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import DataError, RecipeError
from geodistill.files import check_outputs, check_suffix
from geodistill.inference.beside import earlier_files, remove_earlier
from geodistill.inference.checkpoint import PartFiles
from geodistill.inference.geotiff import MapInfo, describe, map_beside, write_map
from geodistill.inference.inputs import InputScene, warn_unlike
from geodistill.inference.layers import Layer
from geodistill.inference.options import PredictOptions
from geodistill.inference.products import PRODUCTS
from geodistill.inference.sliding import CHOOSE_BANDS, STEPS, SceneRows, check_bands, stream
from geodistill.inference.style import write_style
from geodistill.inference.windows import Part, WindowPlan, area_of
from geodistill.inference.worker import SceneTask, Worker
from geodistill.legend_entries import Colour
from geodistill.notebook import html_table
from geodistill.raster import Grid, Raster
from geodistill.raster.array import ArrayRaster
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, hexadecimal

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from matplotlib.axes import Axes

SHOWN = 512
"""Longest side in pixels of the picture that a notebook shows."""


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """A map of classes in memory, with what it says about itself.

    Attributes:
        classes: ``(H, W)`` uint8: position in the legend, 255 where there is no data.
        valid: ``(H, W)`` bool: where there is data.
        grid: Where the pixels lie.
        legend: The classes.
        probabilities: ``(K, H, W)`` float32, summing to 1 over the classes, NaN where there is no data; ``None`` where
            they were not asked for.
        tags: What the written map is tagged with: the model and how it was run.

    Example:
        >>> prediction = gd.Segmenter.load("runs/student").predict("tile.tif")
        >>> prediction.classes.shape, prediction.confidence.dtype
        ((96, 96), dtype('float32'))
        >>> path = prediction.save("tile_map.tif")
    """

    classes: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    grid: Grid
    legend: Legend
    probabilities: NDArray[np.float32] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    _confidence: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    _files: tuple[str, ...] = ()

    @property
    def confidence(self) -> NDArray[np.float32]:
        """``(H, W)`` float32 in steps of 1/250, NaN where there is no data: the probability of the chosen class.

        Or what ``options.confidence_as`` asks for, which the tag ``CONFIDENCE`` names.
        """
        steps = self._confidence / np.float32(STEPS)
        return np.where(self.valid, steps, np.float32(np.nan)).astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.grid.height, self.grid.width

    def to_rgb(self) -> NDArray[np.uint8]:
        """Return the map in the legend's colours: ``(H, W, 4)`` uint8 RGBA, transparent where there is no data."""
        alpha = np.where(self.valid, 255, 0).astype(np.uint8)
        return np.dstack([self.legend.paint(self.classes), alpha])

    def shares(self) -> dict[str, float]:
        """Return the share of each class among the pixels with data, 0..1."""
        counts = np.bincount(self.classes[self.valid], minlength=len(self.legend))
        total = max(int(self.valid.sum()), 1)
        return {name: int(count) / total for name, count in zip(self.legend.names, counts, strict=False)}

    def save(self, path: Path | str, *, confidence: bool = False) -> Path:
        """Write the map as a cloud-optimised GeoTIFF, as `predict` writes it, with its style for QGIS.

        Args:
            path: The file, ``.tif``; what is there is replaced, and what an earlier map left beside it removed.
            confidence: Write the confidence beside it, ``NAME_confidence.tif``. Probabilities are written where they
                were asked for, ``NAME_probabilities.tif``.

        Returns:
            The file of the classes.

        Raises:
            OutputError: It cannot be written, has another suffix, or is what was mapped.
        """
        target = Path(path)
        check_suffix(target, (".tif", ".tiff"))
        layers = [Layer("classes", 1, "uint8")]
        values: dict[str, Any] = {"classes": self.classes[None], "confidence": self._confidence[None]}
        if confidence:
            layers.append(Layer("confidence", 1, "uint8"))
        if self.probabilities is not None:
            layers.append(Layer("probabilities", len(self.legend), "float32"))
            values["probabilities"] = self.probabilities
        files = {layer.name: map_beside(target, layer.name) for layer in layers}
        check_outputs([*files.values(), *earlier_files(target, list(files.values()))], self._files)
        target.parent.mkdir(parents=True, exist_ok=True)
        windows = WindowPlan.of(*self.shape, max(self.shape), 0)
        info = MapInfo(self.grid, self.legend, self.tags)
        with (
            TemporaryDirectory(dir=target.parent, prefix=f".{target.stem[:40]}.part-") as folder,
            PartFiles(Path(folder), windows, Part.whole(windows), tuple(layers)) as part,
        ):
            part.append(SceneRows(0, 0, values, self.valid, 1, ()))
            remove_earlier(target, list(files.values()))
            for layer in reversed(layers):
                write_map(files[layer.name], layer, [part], info, Path(folder))
        write_style(target, self.legend)
        return target

    def polygons(self, *, min_area: float = 0.0, simplify: float = 0.0) -> GeoDataFrame:
        """Return the regions as polygons with their class, name, pixels, area in square metres and mean confidence.

        Args:
            min_area: Smaller ones are left out: square metres, or pixels where the map is not georeferenced.
            simplify: Tolerance in pixels.

        Returns:
            A row per region, in the map's CRS.
        """
        import geopandas

        from geodistill.inference.vector import write_vectors

        with TemporaryDirectory(prefix="geodistill-") as folder:
            path = self.save(Path(folder) / "map.tif", confidence=True)
            vectors = write_vectors(
                path, "parquet", min_area=min_area, simplify=simplify, confidence=map_beside(path, "confidence")
            )
            return geopandas.read_parquet(vectors.path)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the map in its colours with a legend of the classes that occur.

        Args:
            axes: Where to draw; by default a new figure.

        Returns:
            The axes.
        """
        from matplotlib import pyplot
        from matplotlib.patches import Patch

        from geodistill.writing import plot_label

        if axes is None:
            axes = pyplot.subplots(layout="constrained")[1]
        axes.imshow(self.to_rgb(), interpolation="nearest")
        axes.set_axis_off()
        handles = [Patch(color=hexadecimal(colour), label=plot_label(name)) for colour, name, _ in self._present()]
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        return axes

    def _present(self) -> list[tuple[Colour, str, float]]:
        """Return colour, name and share of each class that occurs."""
        classes = zip(self.legend.colours, self.legend.names, self.shares().values(), strict=True)
        return [(colour, name, share) for colour, name, share in classes if share]

    def __repr__(self) -> str:
        shares = ", ".join(f"{name} {share:.1%}" for _, name, share in self._present())
        return f"Prediction({self.shape[0]} x {self.shape[1]} pixels: {shares or 'no data'})"

    def _repr_html_(self) -> str:
        """Return the map and its classes for a notebook."""
        from PIL import Image

        step = -(-max(self.shape) // SHOWN)
        file = io.BytesIO()
        Image.fromarray(self.to_rgb()[::step, ::step]).save(file, "PNG")
        picture = base64.b64encode(file.getvalue()).decode()
        rows = [(colour, name, f"{share:.1%}") for colour, name, share in self._present()]
        return (
            f'<div style="display:flex;gap:1em;align-items:start"><img alt="map of classes" '
            f'src="data:image/png;base64,{picture}"/>{html_table(("", "class", "share"), rows)}</div>'
        )


def predict_image(
    segmenter: Segmenter,
    image: NDArray[Any] | Tensor | Path | str | Raster,
    *,
    valid: NDArray[np.bool_] | None = None,
    grid: Grid | None = None,
    probabilities: bool = False,
    options: PredictOptions | None = None,
) -> Prediction:
    """Map an image that fits in memory; see `Segmenter.predict`, which it is behind."""
    options = options or PredictOptions(backend="torch", device=next(segmenter.parameters()).device.type)
    beside = any(getattr(options, product.option) for product in PRODUCTS)
    of_files = options.resume or options.blocks or options.zoom is not None or options.max_memory
    if of_files or beside:
        what = "a prediction in memory with resume, blocks, max_memory, zoom or a file beside"
        raise RecipeError(what, "options without them")
    options = replace(options, confidence=True, probabilities="float32" if probabilities else None)
    if isinstance(image, Raster) and options.nodata is not None:
        raise RecipeError("an open Raster with nodata", "its file, or a Raster opened with it")
    if not isinstance(image, Path | str) and (options.gsd == "model" or options.bands):
        raise RecipeError("an array with gsd model or bands", "a file, or an array as the model takes it")
    worker = Worker(segmenter, options)
    with ExitStack() as stack:
        stack.callback(segmenter.train, segmenter.training)
        raster = stack.enter_context(_opened(worker, image, valid, grid))
        check_bands(raster, segmenter.spec.bands, CHOOSE_BANDS)
        warn_unlike(raster, segmenter.spec, options)
        placed, plan = worker.plan(SceneTask(InputScene(raster.name, raster.source), Path("map.tif")), raster)
        area = area_of(raster, options.aoi, placed.tile)
        rows = stream(plan.network, area, plan.windows, plan.options, batch=plan.batch)
        with closing(rows):
            done = list(rows)
        files = raster.files
        mapped_grid = area.grid  # of a closed file GDAL would say nothing, and complain on standard error
    layers = {name: np.concatenate([each.layers[name] for each in done], 1) for name in done[0].layers}
    return Prediction(
        layers["classes"][0].astype(np.uint8, copy=False),
        np.concatenate([each.valid for each in done]),
        mapped_grid,
        placed.spec.legend,
        layers["probabilities"].astype(np.float32, copy=False) if probabilities else None,
        {"MODEL": describe(segmenter), "CONFIDENCE": options.confidence_as},
        layers["confidence"][0].astype(np.uint8, copy=False),
        files,
    )


def _opened(
    worker: Worker,
    image: NDArray[Any] | Tensor | Path | str | Raster,
    valid: NDArray[np.bool_] | None,
    grid: Grid | None,
) -> AbstractContextManager[Raster]:
    """Return an image as a raster; what is a file is closed again, an open raster stays open."""
    if isinstance(image, Path | str | Raster) and (valid is not None or grid is not None):
        raise RecipeError("valid or grid with a file", "the file's own; or its pixels as an array")
    if isinstance(image, Path | str):
        return worker.open(InputScene(Path(image).stem, str(image)))
    if isinstance(image, Raster):
        return nullcontext(image)
    pixels = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    channels = worker.segmenter.spec.channels
    if pixels.ndim == 3 and pixels.shape[0] != channels and pixels.shape[2] == channels:
        raise DataError(
            f"an image of shape {pixels.shape}",
            f"({channels}, rows, columns)",
            "put the bands first: numpy.moveaxis(image, -1, 0)",
        )
    if pixels.ndim == 3 and pixels.shape[0] > channels:
        mend = f"choose {channels} of them, such as image[:{channels}]"
        named = ", ".join(worker.segmenter.spec.bands[:12])
        raise DataError(f"an image of {pixels.shape[0]} bands", f"{channels} ({named}) for this model", mend)
    return ArrayRaster(pixels, valid, grid, worker.options.nodata)
