"""`predict`: scenes of any size in, georeferenced maps out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

from geodistill.engine import Engine, run_tasks
from geodistill.errors import ArtifactError, DataError, GeodistillError
from geodistill.inference.blocks import map_in_blocks
from geodistill.inference.inputs import Scene, find_scenes
from geodistill.inference.options import Options
from geodistill.inference.outputs import check_paths, map_paths
from geodistill.inference.scene_map import SceneMap
from geodistill.inference.sliding import check_bands
from geodistill.inference.strangers import offline
from geodistill.inference.worker import Task, make_map, open_scene, warn_unlike
from geodistill.raster.source import is_local
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
        OutputError: A map cannot be written, or a file that would be written is read.
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
    if options.local_only and not isinstance(model, Segmenter) and not Path(model).exists():
        raise ArtifactError(f"no directory {model}", "a model on this machine, for --local-only")
    spec = model.spec if isinstance(model, Segmenter) else read_description(find_segmenter(model))[2]
    scenes = find_scenes(inputs, stack=stack, bands=options.bands, own=spec.bands, local_only=options.local_only)
    paths = map_paths(scenes, out)
    keep_going = options.settings.keep_going
    with offline(options.local_only):
        read = check_scenes(scenes, spec, options)
    if not isinstance(model, Segmenter):
        read.append(str(find_segmenter(model)))
    check_paths(paths, options, read)
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


def check_scenes(scenes: Sequence[Scene], spec: Spec, options: Options) -> list[str]:
    """Open every scene once, so that a wrong one is told now and not after hours.

    With ``keep_going`` a wrong one is told when its turn comes.

    Returns:
        Every file on this machine that is read for them: what is named, and what that refers to.

    Raises:
        DataError: One cannot be read or has other bands than the model.
    """
    read = {name for scene in scenes for name in (*scene.sources, scene.listed) if name is not None}
    for scene in scenes:
        try:
            with open_scene(scene, options, spec) as raster:
                read.update(raster.files)
                check_bands(raster, spec.bands)
                warn_unlike(raster, spec)
        except DataError:
            if not options.settings.keep_going:
                raise
    return [name for name in sorted(read) if is_local(name)]
