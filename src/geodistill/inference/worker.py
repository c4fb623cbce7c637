"""A worker: it owns a model, and maps scenes, or blocks of rows of a huge one, with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.errors import RecipeError
from geodistill.inference.checkpoint import PartFiles, about_of, work_folder
from geodistill.inference.inputs import InputScene, open_scene
from geodistill.inference.layers import SceneMap
from geodistill.inference.network import RunPlan, as_network, count_passes, fixed_batch, load_on
from geodistill.inference.options import BACKENDS, PRECISIONS, LocationHint, PredictOptions
from geodistill.inference.scene_map import chosen_for, map_scene, segment_parts
from geodistill.inference.windows import Area, WindowPlan, area_of
from geodistill.nn.device import device_name
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from geodistill.inference.location import PerPlaceModel


@dataclass(frozen=True)
class SceneTask:
    """A scene to map, or some rows of windows of it."""

    scene: InputScene
    path: Path
    rows: range | None = None


class Worker:
    """Maps scenes with one model; loading, exporting, compiling and measuring are paid for once.

    It is a value that can be sent to another process or machine, where it loads the model again.
    """

    def __init__(self, model: Segmenter | str, options: PredictOptions) -> None:
        self._model, self.options = model, options
        self._segmenter: Segmenter | None = None
        self._places: PerPlaceModel | None = None
        self._plans: dict[tuple[Any, ...], RunPlan] = {}
        self._opened: dict[InputScene, Raster] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross to another process without what was loaded."""
        return Worker, (self._model, self.options)

    def with_options(self, options: PredictOptions) -> Worker:
        """Return a worker with the same model, loaded already, that does otherwise."""
        worker = Worker(self.segmenter, options)
        worker._segmenter, worker._places = self._segmenter, self._places
        return worker

    def map(self, task: SceneTask) -> SceneMap:
        """Map a scene.

        Raises:
            GeodistillError: It cannot be mapped.
        """
        with self.open(task.scene) as raster:
            segmenter, plan = self.plan(task, raster)
            scene_map = map_scene(segmenter, plan, raster, task.path)
        return replace(scene_map, notes=plan.notes + scene_map.notes)

    def segment_block(self, task: SceneTask) -> int:
        """Segment a block into the work's folder, which the caller has locked; return the number of windows computed.

        Raises:
            GeodistillError: They cannot be segmented.
        """
        with self.open(task.scene) as raster:
            segmenter, plan = self.plan(task, raster)
            area = area_of(raster, self.options.aoi, segmenter.tile)
            computed = 0
            for part in plan.column_blocks(raster, task.rows):
                with PartFiles(work_folder(task.path), plan.windows, part, plan.layers) as files:
                    segment_parts(plan, area, [files])
                    computed += files.windows
            return computed

    @property
    def segmenter(self) -> Segmenter:
        """The model, on its device."""
        if self._segmenter is None:
            self._segmenter = load_on(self._model, self.options.device, self.options.scales)
        return self._segmenter

    def close(self) -> None:
        """Close the scenes that were handed over open and mapped by nobody."""
        while self._opened:
            self._opened.popitem()[1].close()

    def keep_open(self, scene: InputScene, raster: Raster) -> None:
        """Take over a scene that is open already, for the task that will map it."""
        self._opened[scene] = raster

    @contextmanager
    def open(self, scene: InputScene) -> Iterator[Raster]:
        """Open a scene for the time of a task.

        Raises:
            DataError: See `open_scene`.
        """
        with offline_where(self.options.local_only):
            raster = self._opened.pop(scene, None) or open_scene(scene, self.options, self.segmenter.spec)
            with raster:
                yield raster

    def plan(self, task: SceneTask, raster: Raster) -> tuple[Segmenter, RunPlan]:
        """Settle how a scene is mapped: as it was begun, where an earlier map is continued.

        Returns:
            The model for the place of the scene, and the plan.

        Raises:
            GeodistillError: The model reads the climate zone and nothing says where the scene lies, or what was asked
                for is not available.
        """
        area = area_of(raster, self.options.aoi, self.segmenter.tile)
        options = as_begun(task.path, torch_only(self.segmenter, self.options))
        windows = area.windows(self.segmenter.tile, options.overlap)
        segmenter, prompts = self._at_place(area, windows)
        if prompts is not None:
            return segmenter, _settle(segmenter, options, area, windows, prompts)
        # What is measured on one scene holds for others of about its size: small ones are not worth much of a search.
        order = count_passes(windows, options.tta).bit_length() // 3 if options.backend == "auto" else 0
        key = (replace(options, resume=False), order, segmenter.prompts[:1])
        if key not in self._plans:
            self._plans[key] = _settle(segmenter, options, area, windows, None)
        return segmenter, replace(self._plans[key], options=options, windows=windows)

    def _at_place(self, area: Area, windows: WindowPlan) -> tuple[Segmenter, NDArray[np.int64] | None]:
        """Return the model for the place of a scene, and each window's prompt where it spans climate zones."""
        segmenter, options = self.segmenter, self.options
        hint = LocationHint(options.lonlat, options.zone, options.region, options.date)
        if not segmenter.prompts:
            hint.refuse_for_images_alone()
            return segmenter, None
        from geodistill.inference.location import PerPlaceModel, scene_prompts

        prompts = scene_prompts(segmenter, area.raster, windows, hint, area.grid)
        if prompts is None or len(segmenter.prompts) == 1:
            return segmenter, None
        if (prompts != prompts[0, 0]).any():
            return segmenter, prompts
        self._places = self._places or PerPlaceModel(segmenter, hint)
        return self._places.for_prompt(int(prompts[0, 0])), None


def _settle(
    segmenter: Segmenter,
    options: PredictOptions,
    area: Area,
    windows: WindowPlan,
    prompts: NDArray[np.int64] | None,
) -> RunPlan:
    """Choose what the options leave open; with torch as it is there is nothing to measure."""
    plain = options.backend == "torch" and options.precision in ("auto", "fp32") and not options.compile
    if plain and options.batch != "auto":
        distance = asks_distance(segmenter, options)
        network = as_network(segmenter, tta=options.tta, prompts=prompts, distance=distance)
        return RunPlan(
            options, network, windows, fixed_batch(options, network.device), options.backend, options.precision
        )
    from geodistill.inference.prepare import prepare

    return prepare(segmenter, options, area, windows, prompts)


def torch_only(segmenter: Segmenter, options: PredictOptions) -> PredictOptions:
    """Return the options for an ONNX file, which runs itself, and for a distance head; others as they are.

    Raises:
        RecipeError: Another backend or precision is asked for.
    """
    distance = asks_distance(segmenter, options)
    if not segmenter.runs_itself and not distance:
        return options
    backends = ("auto", "torch") if distance else ("auto", "torch", "onnx")
    if options.backend not in backends or options.precision not in ("auto", "fp32") or options.compile:
        asked = f"backend {options.backend}, precision {options.precision}, compile {options.compile}"
        if distance:
            raise RecipeError(f"objects by a distance head with {asked}", "torch in fp32, which runs it")
        raise RecipeError(f"an ONNX file as the model with {asked}", "ONNX Runtime in fp32, which runs it as it is")
    batch = None if distance and options.batch == "auto" else options.batch
    return replace(options, backend="torch", precision="fp32", batch=batch)


def asks_distance(segmenter: Segmenter, options: PredictOptions) -> bool:
    """Whether objects are asked for, and the model has a distance head that tells them apart."""
    has_head = not segmenter.runs_itself and getattr(segmenter.network.network, "distance", False)
    return bool(options.objects and has_head)


@contextmanager
def offline_where(local_only: bool) -> Iterator[None]:
    """Let GDAL reach no address meanwhile, where that was asked for."""
    if not local_only:
        yield
        return
    from geodistill.inference.local_only import offline

    with offline():
        yield


def as_begun(path: Path, options: PredictOptions) -> PredictOptions:
    """Return the options, with what an earlier run had measured for a map in place of what would be measured again."""
    if not options.resume:
        return options
    about = about_of(work_folder(path)) or chosen_for(path) or {}
    known = about.get("backend") in BACKENDS and about.get("precision") in PRECISIONS
    batch = about.get("batch")
    same = about.get("device") == device_name(options.device).split(":")[0]
    if not (same and known and isinstance(batch, int) and batch > 0):  # there is nothing, or it was altered
        return options
    if options.backend == "auto" and options.precision in ("auto", about["precision"]):
        options = replace(options, backend=about["backend"], precision=about["precision"])
    if not isinstance(options.batch, int):
        options = replace(options, batch=batch)
    return options
