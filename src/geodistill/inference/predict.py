"""`predict`: scenes of any size in, georeferenced maps out."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geodistill.description import find_segmenter
from geodistill.engine import Machines, run_tasks
from geodistill.errors import ArtifactError, DataError, GeodistillWarning, OutputError, RecipeError
from geodistill.files import LONGEST_NAME, check_outputs
from geodistill.inference.beside import earlier_files, outputs_of
from geodistill.inference.class_sets import check_class_sets
from geodistill.inference.inputs import InputScene, find_scenes, open_scene, warn_unlike
from geodistill.inference.layers import SceneMap
from geodistill.inference.network import fixed_batch, open_graph
from geodistill.inference.options import PredictOptions
from geodistill.inference.scene_map import map_scene
from geodistill.inference.sliding import CHOOSE_BANDS, check_bands
from geodistill.inference.worker import SceneTask, Worker, offline_where
from geodistill.nn.device import device_name
from geodistill.raster import IMAGE_SUFFIXES, Raster
from geodistill.raster.source import Neighbours, is_local
from geodistill.segmenter import Segmenter, read_description
from geodistill.spec import Spec

SUFFIXES = (".tif", ".tiff")
"""Suffixes of maps."""

LEAST_ROWS = 4
"""Rows of windows of the lowest block: each block but the first computes one row more, that above it."""


def predict(
    model: Segmenter | Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    options: PredictOptions | None = None,
    *,
    stack: bool = False,
    mosaic: bool = False,
    machines: Machines | None = None,
    each: Callable[[SceneMap], None] | None = None,
) -> list[SceneMap]:
    """Map scenes of any size, in memory that grows with their width and not with their height.

    Args:
        model: A Segmenter, its directory or hub id; or an ONNX file (see `GraphSegmenter`).
        inputs: See `find_scenes`: rasters, folders of band files, STAC items, tile indexes.
        out: The map, a name that ends in ``.tif``; or a directory, which gets a map by the name of each scene.
        options: How, by default those of `PredictOptions`.
        stack: All inputs are band files of one scene.
        mosaic: All inputs are neighbouring parts of one scene, on one grid; where they overlap, the first lies on top.
        machines: Where, and how many scenes, or blocks of them, are worked on at once.
        each: Is called with each scene's map as soon as it is made.

    Returns:
        The map of each scene, in their order; with ``keep_going`` also what failed.

    Raises:
        DataError: A raster cannot be read or has other bands than the model.
        ArtifactError: There is no such model, or it is altered.
        RecipeError: A setting cannot be used.
        UnknownNameError: A name among the settings is not known.
        OutputError: A map cannot be written, or a file that would be written is read.
    """
    options, machines = options or PredictOptions(), machines or Machines()
    model, spec = find_model(model, options)
    if options.class_sets is not None:
        check_class_sets(model, options.class_sets)
    if options.objects:
        from geodistill.inference.objects.chosen import find_classes

        find_classes(spec.legend, options.objects, options.right_angles)
    scenes = find_scenes(
        inputs,
        stack=stack,
        mosaic=mosaic,
        bands=options.bands,
        model_bands=spec.bands,
        local_only=options.local_only,
        zoom=options.zoom,
    )
    scenes = within_area(scenes, options)
    paths = map_paths(scenes, out)
    worker = Worker(model if isinstance(model, Segmenter) else str(model), options)
    run = partial(run_tasks, machines=machines)
    maps: dict[int, SceneMap] = {}
    try:
        with offline_where(options.local_only):
            read = check_scenes(scenes, spec, worker)
        read += [str(find_segmenter(model))] if not isinstance(model, Segmenter) else map(str, model.files)
        check_paths(paths, options, read)
        tasks = [SceneTask(scene, path) for scene, path in zip(scenes, paths, strict=True)]
        # Fewer scenes than workers: one scene after the other, each by all workers.
        blocks = options.blocks or (machines.workers if machines.workers > len(tasks) else 1)
        if blocks > 1:
            sharing = worker
            if machines.engine == "ray" and machines.gpus and device_name(options.device) == "cpu":
                sharing = worker.with_options(for_gpus(options))
            whole = partial(map_in_blocks, sharing, blocks=blocks, run=run)
            results = run_tasks(whole, tasks, keep_going=options.keep_going)
        else:
            results = run(worker.map, tasks, keep_going=options.keep_going)
        for result in results:
            task = result.item
            maps[result.index] = result.value or SceneMap(str(task.scene.source), task.path, error=result.error)
            if each is not None:
                each(maps[result.index])
    finally:
        worker.close()
    return [maps[index] for index in sorted(maps)]


def find_model(model: Segmenter | Path | str, options: PredictOptions) -> tuple[Segmenter | Path | str, Spec]:
    """Return a model, an ONNX file opened, and what it is about.

    Raises:
        ArtifactError: There is none, or it is not on this machine against ``local_only``.
    """
    model = open_graph(model)
    if isinstance(model, Segmenter):
        return model, model.spec
    if options.local_only and not Path(model).exists():
        raise ArtifactError(f"no directory {model}", "a model on this machine, for --local-only")
    return model, read_description(find_segmenter(model))[2]


def check_scenes(scenes: Sequence[InputScene], spec: Spec, worker: Worker) -> list[str]:
    """Open every scene once, so that a wrong one is named now and not after hours; a single one stays open.

    With ``keep_going`` a wrong one is named when its turn comes. Every file on this machine that is read for them is
    returned: what is named, and what that refers to.

    Raises:
        DataError: One cannot be read or has other bands than the model.
    """
    read = {name for scene in scenes for name in (*scene.sources, scene.listed) if name is not None}
    read |= {worker.options.aoi} if worker.options.aoi is not None else set()
    for scene in scenes:
        try:
            raster = open_scene(scene, worker.options, spec)
            try:
                read.update(raster.files)
                check_bands(raster, spec.bands, CHOOSE_BANDS)
                warn_order(scene, spec, worker.options)
                warn_unlike(raster, spec, worker.options)
            except DataError:
                raster.close()
                raise
            if len(scenes) == 1:
                worker.keep_open(scene, raster)
            else:
                raster.close()
        except DataError:
            if not worker.options.keep_going:
                raise
    return [name for name in sorted(read) if is_local(name)]


def warn_order(scene: InputScene, spec: Spec, options: PredictOptions) -> None:
    """Say where band files are taken in their order, since they do not have the names of the model's bands.

    Somebody put them so unless they lie as a shell sorts them.
    """
    files = list(scene.sources)
    stacked = not isinstance(scene.source, Neighbours) and len(files) > 1 and files == sorted(files)
    named = any(re.fullmatch(r"band\d+", name) is None for name in spec.bands)
    if not stacked or not named or scene.bands or options.bands:
        return
    try:
        Raster(scene.source, spec.bands).close()
    except DataError as error:
        order = ", ".join(spec.bands[:12]) + (" ..." if len(spec.bands) > 12 else "")
        what = f"{error.received}: the files are taken in their order as {order}; --bands says which is which"
        warnings.warn(what, GeodistillWarning, stacklevel=2)


def check_zoom(scenes: Sequence[InputScene], options: PredictOptions) -> None:
    """Make sure that a zoom level is of a web map, and that a web map is not to be mapped from pole to pole.

    Raises:
        RecipeError: There is no web map, or no area.
    """
    on_the_web = [scene for scene in scenes if any("#zoom=" in source for source in scene.sources)]
    if options.zoom is not None and not on_the_web:
        raise RecipeError(f"--zoom {options.zoom} without a web map", "an address with {z}, {x} and {y}, a WMS or WMTS")
    if on_the_web and options.aoi is None:
        raise RecipeError(f"{on_the_web[0].source} without an area", "a vector file of what to map", "give --aoi")


def within_area(scenes: Sequence[InputScene], options: PredictOptions) -> list[InputScene]:
    """Return the scenes that the area of interest touches; how many of several are left out, a warning says.

    What cannot be opened stays: mapping it comes upon that.

    Raises:
        RecipeError: See `check_zoom`.
        DataError: It touches none of several.
    """
    check_zoom(scenes, options)
    if options.aoi is None or len(scenes) == 1:
        return list(scenes)
    from geodistill.inference.aoi import ElsewhereError, outline_on

    kept = []
    for scene in scenes:
        try:
            with offline_where(options.local_only), Raster(scene.source) as raster:
                outline_on(raster.grid, options.aoi, raster.source)
        except ElsewhereError:
            continue
        except DataError:
            pass
        kept.append(scene)
    if not kept:
        raise DataError(f"{options.aoi} overlaps none of {len(scenes)} scenes", "an area inside some of them")
    if len(kept) < len(scenes):
        what = f"{len(scenes) - len(kept)} of {len(scenes)} scenes lie outside {options.aoi} and are left out"
        warnings.warn(what, GeodistillWarning, stacklevel=3)
    return kept


def map_in_blocks(worker: Worker, task: SceneTask, *, blocks: int, run: Callable[..., Iterator[Any]]) -> SceneMap:
    """Map a huge scene in up to ``blocks`` blocks of rows, to the same bits; ``run`` is `run_tasks` with its machines.

    The workers must all see the folder of the map.

    Raises:
        GeodistillError: It cannot be mapped. Finished rows are kept.
    """
    with worker.open(task.scene) as raster:
        segmenter, plan = worker.plan(task, raster)
        cuts = cut_rows(len(plan.windows.tops), blocks)
        # What was measured here holds for all workers, else their rows would differ.
        sharing = worker.with_options(plan.settled(resume=True))
        shared = [replace(task, rows=rows) for rows in cuts]

        def share() -> None:
            for _ in run(sharing.segment_block, shared, keep_going=False):
                pass

        scene_map = map_scene(segmenter, plan, raster, task.path, cuts, share)
    return replace(scene_map, notes=plan.notes + scene_map.notes)


def for_gpus(options: PredictOptions) -> PredictOptions:
    """Return options for workers that have GPUs, where this machine has none to measure on: torch's defaults."""
    batch = fixed_batch(options, torch.device("cuda"))
    backend = "torch" if options.backend == "auto" else options.backend
    return replace(options, backend=backend, batch=batch, precision=options.precision.replace("auto", "fp32"))


def cut_rows(rows: int, blocks: int) -> tuple[range, ...]:
    """Cut rows of windows evenly in at most ``blocks`` blocks of at least `LEAST_ROWS`."""
    count = max(min(blocks, rows // LEAST_ROWS), 1)
    edges = [round(i * rows / count) for i in range(count + 1)]
    return tuple(range(edges[i], edges[i + 1]) for i in range(count))


def map_paths(scenes: Sequence[InputScene], out: Path | str) -> list[Path]:
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


def check_paths(paths: Sequence[Path], options: PredictOptions, inputs: Iterable[Path | str]) -> None:
    """Make sure that no file of any scene overwrites an input or another scene's file, and that no input is removed.

    Raises:
        OutputError: One would, or has a name that is too long; or see `earlier_files`.
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
    # A map that is only continued may be finished, and then what lies beside it stays.
    removed = [file for path in paths for file in earlier_files(path, outputs, refuse=not options.resume)]
    check_outputs([*outputs, *removed], inputs)
