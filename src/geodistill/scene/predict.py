"""`predict`: scenes of any size in, georeferenced maps out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from geodistill.engine import Engine, run_tasks
from geodistill.errors import DataError, GeodistillError, OutputError
from geodistill.raster import IMAGE_SUFFIXES
from geodistill.raster.place import is_local
from geodistill.scene.blocks import map_in_blocks
from geodistill.scene.inputs import Scene, find_scenes
from geodistill.scene.one import SceneMap
from geodistill.scene.options import Options
from geodistill.scene.stream import check_bands
from geodistill.scene.task import Task, make_map, open_scene
from geodistill.segmenter import Segmenter, find_segmenter, read_description
from geodistill.spec import Spec


def predict(
    model: Segmenter | Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    options: Options | None = None,
    *,
    stack: bool = False,
    engine: Engine = "local",
    workers: int = 1,
    address: str | None = None,
    gpus: float = 0,
) -> list[SceneMap]:
    """Map scenes of any size, in memory that grows with their width and not with their height.

    Args:
        model: A Segmenter, its directory or hub id.
        inputs: See `find_scenes`: rasters, folders of band files, STAC items, tile indexes.
        out: The map, a name that ends in ``.tif``; or a directory, which gets a map by the name of each scene.
        options: How, by default those of `Options`.
        stack: All inputs are band files of one scene.
        engine: ``local`` or ``ray``.
        workers: Scenes, or blocks of them, that are worked on at once, each in a process of its own.
        address: Of the Ray cluster.
        gpus: GPUs, or share of one, for each worker on the cluster.

    Returns:
        What was made of each scene, in their order; with ``keep_going`` also what failed.

    Raises:
        DataError: A raster cannot be read or has other bands than the model.
        ArtifactError: There is no such model, or it is altered.
        RecipeError: A setting cannot be used.
        UnknownNameError: A name among the settings is not known.
        OutputError: A map cannot be written.
    """
    maps = iter_maps(
        model, inputs, out, options, stack=stack, engine=engine, workers=workers, address=address, gpus=gpus
    )
    return [made for _, made in sorted(maps, key=lambda pair: pair[0])]


def iter_maps(
    model: Segmenter | Path | str,
    inputs: Sequence[Path | str],
    out: Path | str,
    options: Options | None = None,
    *,
    stack: bool = False,
    engine: Engine = "local",
    workers: int = 1,
    address: str | None = None,
    gpus: float = 0,
) -> Iterator[tuple[int, SceneMap]]:
    """As `predict`, giving each scene's position and map as soon as it is made."""
    options = options or Options()
    spec = model.spec if isinstance(model, Segmenter) else read_description(find_segmenter(model))[2]
    scenes = find_scenes(inputs, stack=stack, bands=options.bands, own=spec.bands)
    paths = map_paths(scenes, out)
    keep_going = options.settings.keep_going
    if not keep_going:
        check_scenes(scenes, spec, options)
    held = model if isinstance(model, Segmenter) else str(model)
    run = uuid4().hex
    tasks = [Task(held, scene, path, options, run) for scene, path in zip(scenes, paths, strict=True)]
    # Fewer scenes than workers: one scene after the other, each by all workers.
    blocks = options.blocks or (workers if workers > len(tasks) else 1)
    if blocks > 1:
        for position, task in enumerate(tasks):
            try:
                made = map_in_blocks(task, blocks, engine=engine, workers=workers, address=address, gpus=gpus)
            except GeodistillError as error:
                if not keep_going:
                    raise
                made = failed(task, error)
            yield position, made
        return
    for result in run_tasks(
        make_map, tasks, engine=engine, workers=workers, address=address, keep_going=keep_going, gpus=gpus
    ):
        yield result.index, result.value or failed(result.item, result.error)


def failed(task: Task, error: GeodistillError | None) -> SceneMap:
    """Say that a scene has no map."""
    return SceneMap(str(task.scene.source), task.path, error=error)


def check_scenes(scenes: Sequence[Scene], spec: Spec, options: Options) -> None:
    """Open every scene once, so that a wrong one is told now and not after hours.

    Raises:
        DataError: One cannot be read or has other bands than the model.
    """
    for scene in scenes:
        with open_scene(scene, options, spec) as raster:
            check_bands(raster, spec.bands)


def map_paths(scenes: Sequence[Scene], out: Path | str) -> list[Path]:
    """Say where each scene's map goes.

    Raises:
        DataError: Two scenes have one name.
        OutputError: A map would overwrite a scene, several maps are to go into one file, or the file's suffix is
            that of another format.
    """
    target = Path(out)
    suffix, file = target.suffix.lower(), not target.is_dir()
    if file and suffix in IMAGE_SUFFIXES and (len(scenes) > 1 or suffix not in (".tif", ".tiff")):
        expected = "a directory for several maps" if len(scenes) > 1 else "a name that ends in .tif, or a directory"
        raise OutputError(f"output {target}", expected)
    paths = [target] if file and suffix in (".tif", ".tiff") else [target / f"{s.name}.tif" for s in scenes]
    if len(set(paths)) != len(paths):
        raise DataError("scenes of one name", "different names", "map them in two calls")
    sources = [s for scene in scenes for s in ([scene.source] if isinstance(scene.source, str) else scene.source)]
    own = {Path(source).resolve() for source in sources if is_local(source)}
    for path in paths:
        if path.resolve() in own:
            raise OutputError(f"the map would overwrite its raster {path}", "another place", "choose another --out")
    return paths
