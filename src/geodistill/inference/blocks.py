"""A huge scene cut in blocks of rows that several workers segment; the map is the same to the last bit."""

from __future__ import annotations

from dataclasses import replace

import torch

from geodistill.engine import Engine, run_tasks
from geodistill.inference.network import device_name
from geodistill.inference.options import Options
from geodistill.inference.prepare import default_batch
from geodistill.inference.scene_map import Rows, SceneMap, map_scene
from geodistill.inference.strangers import offline
from geodistill.inference.windows import Plan
from geodistill.inference.worker import Task, make_block, model_of, open_scene, placed, prepared

LEAST_ROWS = 4
"""Rows of windows of the lowest block: each block but the first computes one row more, that above it."""


def map_in_blocks(
    task: Task, blocks: int, *, engine: Engine, workers: int, address: str | None = None, gpus: float = 0
) -> SceneMap:
    """Map a scene with several workers; they must all see the folder of the map.

    Args:
        task: The scene.
        blocks: In how many blocks to cut it, where it is high enough.
        engine: ``local`` or ``ray``.
        workers: Blocks that are worked on at once.
        address: Of the Ray cluster.
        gpus: GPUs for each worker on the cluster.

    Raises:
        GeodistillError: It cannot be mapped. Finished rows are kept.
    """
    if engine == "ray" and gpus and device_name(task.options.device) == "cpu":
        task = replace(task, options=for_gpus(task.options))
    model = model_of(task)
    with offline(task.options.local_only), open_scene(task.scene, task.options, model.spec) as raster:
        segmenter, prompts = placed(model, task, raster)
        ready = prepared(segmenter, task, raster, prompts)
        plan = Plan.of(raster.grid.height, raster.grid.width, ready.network.size, ready.options.settings.overlap)
        cuts = cut_rows(len(plan.tops), blocks)
        # What was measured here holds for all workers, else their rows would differ.
        shared = [replace(task, options=replace(ready.options, resume=True), rows=rows) for rows in cuts]

        def share() -> None:
            results = run_tasks(
                make_block, shared, engine=engine, workers=workers, address=address, keep_going=False, gpus=gpus
            )
            for _ in results:
                pass

        made = map_scene(segmenter, ready.network, raster, task.path, ready.options, cuts, share)
    return replace(made, told="; ".join(filter(None, (ready.told, made.told))))


def for_gpus(options: Options) -> Options:
    """Choose for workers that have GPUs, where this machine has none to measure on: what is left open is torch's."""
    batch = options.batch if isinstance(options.batch, int) else default_batch(torch.device("cuda"))
    backend = "torch" if options.backend == "auto" else options.backend
    return replace(options, backend=backend, batch=batch, precision=options.precision.replace("auto", "fp32"))


def cut_rows(rows: int, blocks: int) -> tuple[Rows, ...]:
    """Cut rows of windows evenly in at most ``blocks`` blocks of at least `LEAST_ROWS`."""
    count = max(min(blocks, rows // LEAST_ROWS), 1)
    edges = [round(i * rows / count) for i in range(count + 1)]
    return tuple((edges[i], edges[i + 1]) for i in range(count))
