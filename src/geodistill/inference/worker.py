"""A scene, or a block of a huge one, as a piece of work that any process or machine can do."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.errors import DataError, GeodistillWarning
from geodistill.inference.checkpoint import PartFiles, about_of, work_folder
from geodistill.inference.inputs import Scene
from geodistill.inference.location import scene_prompts
from geodistill.inference.network import device_name, load_on
from geodistill.inference.options import BACKENDS, PRECISIONS, Options, cut_columns
from geodistill.inference.prepare import Prepared, expected_windows, prepare
from geodistill.inference.radiometry import warn_far
from geodistill.inference.scene_map import SceneMap, chosen_for, layers_of, map_scene, segment_parts
from geodistill.inference.strangers import offline, refuse_outside
from geodistill.inference.windows import Area, Plan
from geodistill.raster import Raster, ResampledRaster
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec

FAR = 1.5
"""A scene whose ground sampling distance differs from the model's by more than this factor is worth a warning."""


@dataclass(frozen=True)
class Task:
    """What one worker does.

    Attributes:
        model: The model's directory or hub id, or the model itself.
        scene: The scene.
        path: Its map.
        options: How.
        run: Name of the call it belongs to: what a process has loaded for one call does not serve another.
        rows: Rows of windows of a block, from the first to before the last; ``None`` for a whole scene.
    """

    model: Segmenter | str
    scene: Scene
    path: Path
    options: Options
    run: str
    rows: tuple[int, int] | None = None


@dataclass
class _Held:
    """What a process holds between the tasks of a call: loading, exporting and compiling is paid for once."""

    run: str = ""
    segmenter: Segmenter | None = None
    placed: dict[int, Segmenter] = field(default_factory=dict)
    prepared: dict[tuple[Options, int, tuple[str, ...]], Prepared] = field(default_factory=dict)


_held = _Held()


def make_map(task: Task) -> SceneMap:
    """Map a scene.

    Raises:
        GeodistillError: It cannot be mapped.
    """
    model = model_of(task)
    with offline(task.options.local_only), open_scene(task.scene, task.options, model.spec) as raster:
        segmenter, prompts = placed(model, task, raster)
        ready = prepared(segmenter, task, raster, prompts)
        made = map_scene(segmenter, ready.network, raster, task.path, ready.options)
    return replace(made, told="; ".join(filter(None, (ready.told, made.told))))


def make_block(task: Task) -> int:
    """Segment the rows of windows of a block into the work's folder, which the caller holds; give their windows.

    Raises:
        GeodistillError: They cannot be segmented.
    """
    assert task.rows is not None
    model = model_of(task)
    with offline(task.options.local_only), open_scene(task.scene, task.options, model.spec) as raster:
        segmenter, prompts = placed(model, task, raster)
        ready = prepared(segmenter, task, raster, prompts)
        network, options = ready.network, ready.options
        area = Area.whole(raster)
        plan = Plan.of(area.window.height, area.window.width, network.size, options.settings.overlap)
        layers = layers_of(options, network.classes)
        parts = cut_columns(plan, options, network.classes, raster, task.rows)
        done = 0
        for part in parts:
            with PartFiles(work_folder(task.path), plan, part, layers) as held:
                segment_parts(network, area, plan, [held], options)
                done += held.windows
        return done


def model_of(task: Task) -> Segmenter:
    """Give the task's model, on its device."""
    if _held.run != task.run or _held.segmenter is None:
        _held.run, _held.segmenter = task.run, load_on(task.model, task.options.device)
        _held.placed, _held.prepared = {}, {}
    return _held.segmenter


def placed(model: Segmenter, task: Task, raster: Raster) -> tuple[Segmenter, NDArray[np.int64] | None]:
    """Give the model for the place of a scene, and each window's prompt where the scene spans climate zones.

    Raises:
        DataError: The model asks for the climate zone, and nothing says where the scene lies.
        UnknownNameError: There is no such zone or region.
    """
    plan = Plan.of(raster.grid.height, raster.grid.width, model.tile, task.options.settings.overlap)
    prompts = scene_prompts(model, raster, plan, task.options.whereabouts)
    if prompts is None or len(model.prompts) == 1:
        return model, None
    first = int(prompts[0, 0])
    if (prompts != first).any():
        return model, prompts
    if first not in _held.placed:
        _held.placed[first] = model.for_prompt(first).eval()
    return _held.placed[first], None


def prepared(segmenter: Segmenter, task: Task, raster: Raster, prompts: NDArray[np.int64] | None = None) -> Prepared:
    """Give the task's network, ready to run, as it was chosen before where a map is continued."""
    options, area = as_begun(task), Area.whole(raster)
    # What is measured on one scene holds for others of about its size: small ones are not worth much of a search.
    order = expected_windows(options, segmenter.tile, area).bit_length() // 3 if options.backend == "auto" else 0
    if prompts is not None:
        ready = prepare(segmenter, options, area, prompts)
    else:
        key = (options, order, segmenter.prompts[:1])
        if key not in _held.prepared:
            _held.prepared[key] = prepare(segmenter, options, area)
        ready = _held.prepared[key]
    return replace(ready, options=replace(ready.options, resume=task.options.resume))


def as_begun(task: Task) -> Options:
    """Give the options, with what an earlier run had measured in place of what would be measured again."""
    options = task.options
    if not options.resume:
        return options
    about = about_of(work_folder(task.path)) or chosen_for(task.path) or {}
    known = about.get("backend") in BACKENDS and about.get("precision") in PRECISIONS
    batch = about.get("batch")
    same = about.get("device") == device_name(options.device).split(":")[0]
    if not (same and known and isinstance(batch, int) and batch > 0):  # nothing tells, or what tells was altered
        return options
    if options.backend == "auto" and options.precision in ("auto", about["precision"]):
        options = replace(options, backend=about["backend"], precision=about["precision"])
    if not isinstance(options.batch, int):
        options = replace(options, batch=batch)
    return options


def open_scene(scene: Scene, options: Options, spec: Spec) -> Raster:
    """Open a scene with the model's bands, at its ground sampling distance where asked for.

    Raises:
        DataError: It cannot be read, has no such bands, or refers to what ``local_only`` forbids.
    """
    bands = scene.bands or options.bands or _named_bands(scene, spec)
    raster = Raster(scene.source, bands, nodata=options.nodata)
    if options.local_only:
        try:
            refuse_outside(scene, raster)
        except DataError:
            raster.close()
            raise
    if options.resample:
        if spec.gsd is None:
            raster.close()
            raise DataError("a model without ground sampling distance", "one to resample to", "drop --resample")
        with raster:
            return ResampledRaster(raster, spec.gsd)
    return raster


def warn_unlike(raster: Raster, spec: Spec) -> None:
    """Warn where a scene's ground sampling distance or samples lie far from those that a model was trained on."""
    own, wanted = raster.grid.gsd, spec.gsd
    if own is not None and wanted is not None and max(own / wanted, wanted / own) > FAR:
        warnings.warn(
            f"{raster.source} has {own:.3g} m a pixel, the model {wanted:.3g} m; --resample brings it there",
            GeodistillWarning,
            stacklevel=2,
        )
    warn_far(raster, spec)


def _named_bands(scene: Scene, spec: Spec) -> tuple[str, ...] | None:
    """The model's bands, where the scene has bands of all these names; else its bands are taken in their order."""
    try:
        with Raster(scene.source, spec.bands):
            return spec.bands
    except DataError:
        return None
