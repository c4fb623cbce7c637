"""One scene becomes its maps."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from tqdm import tqdm

from geodistill.errors import BusyError, DataError, GeodistillError, OutputError
from geodistill.inference.checkpoint import (
    Layer,
    OtherWorkError,
    PartFiles,
    discard_work,
    edges_of,
    has_finished_rows,
    open_work,
    remove_work,
)
from geodistill.inference.geotiff import MapInfo, write_map
from geodistill.inference.network import Network
from geodistill.inference.options import Options, cache_bytes, cut_columns
from geodistill.inference.outputs import map_beside
from geodistill.inference.sliding import check_bands, stream
from geodistill.inference.stac import require_pystac, write_item
from geodistill.inference.strips import Hole
from geodistill.inference.style import write_style
from geodistill.inference.vector import write_vectors
from geodistill.inference.windows import Area, Plan
from geodistill.raster import Raster, Window
from geodistill.reading import parse_json, parse_object
from geodistill.segmenter import Segmenter
from geodistill.version import __version__

CHOSEN = "CHOSEN"
"""Tag of a map: what was measured and chosen for it, as JSON, so that ``--resume`` need not measure again."""

Rows = tuple[int, int]
"""Rows of windows, from the first to before the last."""


@dataclass(frozen=True)
class SceneMap:
    """What was made of a scene.

    Attributes:
        source: The scene.
        path: The map of classes.
        confidence: The map of the classes' probabilities, where asked for.
        probabilities: The map with one band a class, where asked for.
        stac: The STAC item, where asked for.
        vectors: The polygons, where asked for.
        windows: Windows that the network has seen, in this run and those it continued.
        holes: What could not be read, in pixels of the scene.
        finished_before: Whether an earlier run had made it already.
        told: What was measured and chosen before, for the user.
        error: Why there is no map, where there is none.
    """

    source: str
    path: Path
    confidence: Path | None = None
    probabilities: Path | None = None
    stac: Path | None = None
    vectors: Path | None = None
    windows: int = 0
    holes: tuple[Hole, ...] = ()
    finished_before: bool = False
    told: str = ""
    error: GeodistillError | None = field(default=None, compare=False)


def layers_of(options: Options, classes: int) -> tuple[Layer, ...]:
    """Say what is stored of a scene."""
    wanted = options.settings.wanted
    layers = [Layer("classes", 1, "uint8")]
    if wanted.confidence:
        layers.append(Layer("confidence", 1, "uint8"))
    if wanted.probabilities:
        layers.append(Layer("probabilities", classes, "uint8" if wanted.probabilities == "uint8" else "float32"))
    return tuple(layers)


def map_scene(
    segmenter: Segmenter,
    network: Network,
    raster: Raster,
    path: Path,
    options: Options,
    blocks: Sequence[Rows] | None = None,
    share: Callable[[], None] | None = None,
) -> SceneMap:
    """Segment a scene and write its maps.

    Args:
        segmenter: The model, for its legend and what it is called.
        network: The same, ready to run.
        raster: The scene.
        path: The map of classes; other maps lie beside it.
        options: How; backend and batch size as they were chosen.
        blocks: Rows of windows of each block, by default one of all.
        share: Has other workers segment the blocks; what they leave undone is done here.

    Raises:
        DataError: The scene cannot be read.
        OutputError: A map cannot be written, or another run is making it. Finished rows are kept for ``--resume``.
    """
    area = Area.whole(raster)
    check_bands(raster, network.bands)
    if options.stac:
        require_pystac()
    layers = layers_of(options, network.classes)
    about = identity(segmenter, network, raster, options)
    files = {layer.name: map_beside(path, layer.name) for layer in layers}
    made = SceneMap(raster.source, path, files.get("confidence"), files.get("probabilities"))
    beside = partial(_write_beside, segmenter=segmenter, raster=raster, files=files, options=options)
    if options.resume and (found := _finished_before(list(files.values()), run_of(about))) is not None:
        discard_work(path, about)
        return beside(replace(made, finished_before=True, windows=found[0], holes=found[1]))
    settings = options.settings
    plan = Plan.of(area.window.height, area.window.width, network.size, settings.overlap)
    rows_of_all = blocks or [(0, len(plan.tops))]
    parts = [part for rows in rows_of_all for part in cut_columns(plan, options, network.classes, raster, rows)]
    finished = False
    try:
        with open_work(path, about, options.resume) as folder:
            try:
                if share is not None:
                    share()
                with ExitStack() as opened:
                    held = [opened.enter_context(PartFiles(folder, plan, part, layers)) for part in parts]
                    segment_parts(network, area, plan, held, options)
                    holes = tuple(hole for part in held for hole in part.holes)
                    made = replace(made, windows=sum(part.windows for part in held), holes=holes)
                    tags = tags_of(segmenter, made, about)
                    info = MapInfo(raster.grid, segmenter.spec.legend, tags)
                    # The map of classes comes last: where it is, all maps are.
                    for layer in reversed(layers):
                        write_map(files[layer.name], layer, held, info, folder)
                finished = True
                return beside(made)
            finally:
                # While it is held: once it is not, it may be another run's.
                if finished or not has_finished_rows(path):
                    remove_work(path)
    except (DataError, OutputError) as error:
        if has_finished_rows(path) and not isinstance(error, BusyError | OtherWorkError):
            raise type(error)(error.received, error.expected, _keeps(error.mend)) from error
        raise


def _write_beside(
    made: SceneMap, *, segmenter: Segmenter, raster: Raster, files: Mapping[str, Path], options: Options
) -> SceneMap:
    """Write the style of a finished map, and polygons and the STAC item where asked for."""
    write_style(made.path, segmenter.spec.legend)
    beside = dict(files)
    if options.vector is not None:
        written = write_vectors(made.path, options.vector, made.confidence)
        left = f", {written.left_out} smaller ones left out" if written.left_out else ""
        told = f"{written.polygons} polygons{left}"
        made = replace(made, vectors=written.path, told="; ".join(filter(None, (made.told, told))))
        beside["polygons"] = written.path
    if options.stac:
        model, legend = describe(segmenter), segmenter.spec.legend
        made = replace(made, stac=write_item(beside, raster.grid, legend, raster.source, model, raster.acquired))
    return made


def _keeps(mend: str) -> str:
    kept = "finished rows are kept: the same command with --resume goes on from them"
    return f"{mend}; {kept}" if mend else kept


def segment_parts(network: Network, area: Area, plan: Plan, parts: Sequence[PartFiles], options: Options) -> None:
    """Segment what is missing of each block and store it; reading, computing and storing overlap.

    Raises:
        DataError: The scene cannot be read.
        OSError: There is no space left.
    """
    raster = area.raster
    progress = tqdm(
        total=sum(part.pixels.height * part.pixels.width for part in parts),
        initial=sum(part.rows * part.pixels.width for part in parts),
        desc=raster.name,
        unit="px",
        unit_scale=True,
        disable=not sys.stderr.isatty(),
        delay=2,
        leave=False,
    )
    widest = max(part.pixels.width for part in parts) + plan.size
    # In bytes. GDAL would else keep decoded blocks in 5 % of the machine's memory.
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes(raster, widest)), progress, ThreadPoolExecutor(1) as pen:
        for part in parts:
            if part.finished:
                continue
            missing = replace(part.part, first_row=part.next_row)
            edges = edges_of(part.folder, plan, part.part, network.classes)
            # Closed first of all: its reading threads must have ended before the raster is closed.
            with closing(stream(network, area, options.settings, part=missing, edges=edges)) as rows:
                writing: Future[None] | None = None
                for done in rows:
                    if writing is not None:
                        writing.result()
                    writing = pen.submit(part.append, done)
                    progress.update(done.valid.size)
                if writing is not None:
                    writing.result()


def identity(segmenter: Segmenter, network: Network, raster: Raster, options: Options) -> dict[str, Any]:
    """Give all that the bytes of a map follow from, as JSON."""
    settings, prompts = options.settings, network.prompts
    return {
        "source": raster.source,
        "stamp": raster.stamp,
        "shape": [raster.grid.height, raster.grid.width],
        "bands": list(raster.band_names),
        "model": segmenter.fingerprint(),
        "overlap": settings.overlap,
        "blend": settings.blend,
        "tta": settings.tta,
        "batch": settings.batch,
        "confidence": settings.wanted.confidence,
        "probabilities": settings.wanted.probabilities,
        "backend": options.backend,
        "resample": options.resample,
        "nodata": options.nodata,
        "precision": options.precision,
        "compile": options.compile,
        "device": next(segmenter.parameters()).device.type,
        "max_memory": options.max_memory,
        "prompts": None if prompts is None else zlib.crc32(prompts.tobytes()),
        "version": __version__,
    }


def run_of(about: Mapping[str, Any]) -> str:
    """Name all that the bytes of a map follow from."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def tags_of(segmenter: Segmenter, made: SceneMap, about: Mapping[str, Any]) -> dict[str, str]:
    """Give the tags of a scene's maps."""
    tags = {"MODEL": describe(segmenter), "RUN": run_of(about), "WINDOWS": str(made.windows)}
    tags[CHOSEN] = json.dumps({key: about[key] for key in ("backend", "precision", "batch", "device")})
    return tags | ({"HOLES": json.dumps([hole.to_dict() for hole in made.holes])} if made.holes else {})


def chosen_for(path: Path) -> dict[str, Any] | None:
    """Return what was measured and chosen for a map that is there; ``None`` where nothing tells."""
    try:
        return parse_object(_tags(path).get(CHOSEN, ""), path)
    except DataError:
        return None


def _tags(path: Path) -> dict[str, str]:
    """Return the tags of a map; none where it is not there, was cut short, or is something else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as made:
                # Its last pixels are written last.
                made.read(1, window=Window(made.height - 1, made.width - 1, 1, 1).to_rasterio())
                tags: dict[str, str] = made.tags()
    except (RasterioError, CPLE_BaseError):
        return {}
    return tags


def _finished_before(files: Sequence[Path], run: str) -> tuple[int, tuple[Hole, ...]] | None:
    """Windows and holes of maps that this very run would make again, or ``None``."""
    found = None
    for file in files:
        tags = _tags(file)
        if tags.get("RUN") != run:
            return None
        try:
            holes = tuple(Hole.from_dict(hole) for hole in parse_json(tags.get("HOLES", "[]"), file))
            found = int(tags["WINDOWS"]), holes
        except (DataError, KeyError, TypeError, ValueError):
            return None  # tags that were altered: it is made again
    return found


def describe(segmenter: Segmenter) -> str:
    """Name a model in a map's tags: network, encoder, and the package that wrote the map."""
    arguments = segmenter.arguments
    parts = [segmenter.name, arguments.get("architecture"), arguments.get("encoder")]
    return f"{' '.join(str(part) for part in parts if part)}, geodistill {__version__}"
