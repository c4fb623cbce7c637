"""One scene becomes its maps."""

from __future__ import annotations

import hashlib
import json
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geodistill.engine import progress_bar
from geodistill.errors import BusyError, DataError, OutputError, one_line
from geodistill.inference.beside import outputs_of, remove_earlier, write_beside
from geodistill.inference.checkpoint import (
    OtherWorkError,
    PartFiles,
    discard_work,
    edges_of,
    has_finished_rows,
    open_work,
    remove_work,
)
from geodistill.inference.geotiff import MapInfo, describe, map_beside, write_map
from geodistill.inference.layers import SceneMap
from geodistill.inference.network import RunPlan, cache_bytes
from geodistill.inference.sliding import CHOOSE_BANDS, check_bands, stream
from geodistill.inference.strips import Hole
from geodistill.inference.windows import Area, area_of
from geodistill.raster import Raster, Window
from geodistill.reading import parse_json, parse_object
from geodistill.segmenter import Segmenter
from geodistill.version import __version__

CHOSEN = "CHOSEN"
"""Tag of a map: what was measured and chosen for it, as JSON, so that ``--resume`` need not measure again."""


def map_scene(
    segmenter: Segmenter,
    plan: RunPlan,
    raster: Raster,
    path: Path,
    blocks: Sequence[range] | None = None,
    share: Callable[[], None] | None = None,
) -> SceneMap:
    """Segment a scene and write its maps.

    ``blocks`` are rows of windows, by default one block of all; ``share`` has other workers segment them, and what they
    leave undone is done here.

    Raises:
        DataError: The scene cannot be read.
        OutputError: A map cannot be written, or another run is making it. Finished rows are kept for ``--resume``.
    """
    check_bands(raster, plan.network.bands, CHOOSE_BANDS)
    options = plan.options
    area = area_of(raster, options.aoi, plan.windows.size)
    if options.stac:
        from geodistill.inference.stac_item import require_pystac

        require_pystac()
    layers = plan.layers
    about = identity(segmenter, plan, area)
    files = {layer.name: map_beside(path, layer.name) for layer in layers}
    beside: dict[str, Any] = {name: file for name, file in files.items() if name != "classes"}
    scene_map = SceneMap(raster.source, path, **beside)
    if options.resume and (earlier := _finished_before(list(files.values()), run_of(about))) is not None:
        discard_work(path, about)
        scene_map = replace(scene_map, finished_before=True, windows=earlier[0], holes=earlier[1])
        return write_beside(scene_map, segmenter, area, files, options)
    blocks = blocks or [range(len(plan.windows.tops))]
    parts = [part for rows in blocks for part in plan.column_blocks(raster, rows)]
    finished = False
    try:
        with open_work(path, about, options.resume) as folder:
            try:
                if share is not None:
                    share()
                with ExitStack() as opened:
                    stored = [opened.enter_context(PartFiles(folder, plan.windows, part, layers)) for part in parts]
                    segment_parts(plan, area, stored)
                    holes = tuple(hole for part in stored for hole in part.holes)
                    scene_map = replace(scene_map, windows=sum(part.windows for part in stored), holes=holes)
                    info = MapInfo(area.grid, segmenter.spec.legend, tags_of(segmenter, scene_map, about))
                    remove_earlier(path, [*outputs_of(path, options), *files.values()])
                    # The map of classes comes last: where it is, all maps are.
                    for layer in reversed(layers):
                        write_map(files[layer.name], layer, stored, info, folder)
                finished = True
                return write_beside(scene_map, segmenter, area, files, options)
            finally:
                # While it is locked: once it is not, it may be another run's.
                if finished or not has_finished_rows(path):
                    remove_work(path)
    except (BusyError, OtherWorkError):
        raise
    except (DataError, OutputError) as error:
        if has_finished_rows(path):
            raise type(error)(error.received, error.expected, _keeps(error.mend)) from error
        raise


def _keeps(mend: str) -> str:
    kept = "finished rows are kept: the same command with --resume goes on from them"
    return f"{mend}; {kept}" if mend else kept


def segment_parts(plan: RunPlan, area: Area, parts: Sequence[PartFiles]) -> None:
    """Segment what is missing of each block and store it; reading, computing and storing overlap.

    Raises:
        DataError: The scene cannot be read.
        OSError: There is no space left.
    """
    raster = area.raster
    progress = progress_bar(
        range(0),
        one_line(raster.name),
        total=sum(part.pixels.height * part.pixels.width for part in parts),
        initial=sum(part.rows * part.pixels.width for part in parts),
        unit="px",
        unit_scale=True,
        delay=2,
        leave=False,
    )
    widest = max(part.pixels.width for part in parts) + plan.windows.size
    # In bytes. GDAL would else keep decoded blocks in 5 % of the machine's memory.
    with rasterio.Env(GDAL_CACHEMAX=cache_bytes(raster, widest)), progress, ThreadPoolExecutor(1) as pen:
        for part in parts:
            if part.finished:
                continue
            missing = replace(part.part, first_row=part.next_row)
            left, right = edges_of(part.folder, plan.windows, part.part, plan.network.planes)
            how = plan.options
            rows = stream(plan.network, area, plan.windows, how, batch=plan.batch, part=missing, left=left, right=right)
            # Closed first of all: its reading threads must have ended before the raster is closed.
            with closing(rows):
                writing: Future[None] | None = None
                for done in rows:
                    if writing is not None:
                        writing.result()
                    writing = pen.submit(part.append, done)
                    progress.update(done.valid.size)
                if writing is not None:
                    writing.result()


def identity(segmenter: Segmenter, plan: RunPlan, area: Area) -> dict[str, Any]:
    """Return all that the bytes of a map follow from, as JSON."""
    raster, outline = area.raster, area.outline
    options, prompts = plan.options, plan.network.prompts
    return {
        "source": raster.source,
        "stamp": raster.stamp,
        "shape": [raster.grid.height, raster.grid.width],
        "bands": list(raster.band_names),
        "model": segmenter.fingerprint(),
        "overlap": options.overlap,
        "blend": options.blend,
        "tta": options.tta,
        "batch": plan.batch,
        "confidence": options.confidence_as if options.with_confidence else None,
        "probabilities": options.probabilities,
        **({} if options.class_sets is None else {"class_sets": options.class_sets}),
        **({"distance": True} if plan.network.distance else {}),
        "backend": plan.backend,
        "gsd": raster.grid.gsd,
        "nodata": options.nodata,
        "aoi": None if outline is None else [outline.digest, *astuple(area.window)],
        "precision": plan.precision,
        "compile": options.compile,
        "device": next(segmenter.parameters()).device.type,
        "max_memory": options.max_memory,
        "prompts": None if prompts is None else zlib.crc32(prompts.tobytes()),
        "version": __version__,
    }


def run_of(about: Mapping[str, Any]) -> str:
    """Return a name of all that the bytes of a map follow from."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def tags_of(segmenter: Segmenter, scene_map: SceneMap, about: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a scene's maps."""
    tags = {"MODEL": describe(segmenter), "RUN": run_of(about), "WINDOWS": str(scene_map.windows)}
    tags[CHOSEN] = json.dumps({key: about[key] for key in ("backend", "precision", "batch", "device")})
    tags |= {} if about["confidence"] is None else {"CONFIDENCE": about["confidence"]}
    tags |= {"COVERAGE": f"{about['class_sets']:g}"} if "class_sets" in about else {}
    return tags | ({"HOLES": json.dumps([hole.to_dict() for hole in scene_map.holes])} if scene_map.holes else {})


def chosen_for(path: Path) -> dict[str, Any] | None:
    """Return what was measured and chosen for a map that is there; ``None`` where it does not say."""
    try:
        return parse_object(_tags(path).get(CHOSEN, ""), path)
    except DataError:
        return None


def _tags(path: Path) -> dict[str, str]:
    """Return the tags of a map; none where it is not there, was cut short, or is something else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                # Its last pixels are written last.
                file.read(1, window=Window(file.height - 1, file.width - 1, 1, 1).to_rasterio())
                tags: dict[str, str] = file.tags()
    except (RasterioError, CPLE_BaseError):
        return {}
    return tags


def _finished_before(files: Sequence[Path], run: str) -> tuple[int, tuple[Hole, ...]] | None:
    """Return windows and holes of maps that this very run would make again, or ``None``."""
    earlier = None
    for file in files:
        tags = _tags(file)
        if tags.get("RUN") != run:
            return None
        try:
            holes = tuple(Hole.from_dict(hole) for hole in parse_json(tags.get("HOLES", "[]"), file))
            earlier = int(tags["WINDOWS"]), holes
        except (DataError, KeyError, TypeError, ValueError):
            return None  # tags that were altered: it is made again
    return earlier
