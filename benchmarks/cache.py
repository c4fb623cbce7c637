"""Seconds a training step with the teacher computed, with it read from its cache, and without any teacher's work.

All three alternate in one run, on the same batches, so that the ratios hold on a machine that others use as well. The
ceiling is the step whose targets are in memory already: what a cache without any cost would give.

    python benchmarks/cache.py --encoders vit_small_patch14_dinov2 --sizes 256 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from geodistill.data.sampling import Batch
from geodistill.methods.cache import TeacherCache
from geodistill.methods.distillation import add_distillation
from geodistill.methods.method import Method
from geodistill.methods.schema import CommonLosses
from geodistill.methods.supervised.network import SupervisedNetwork
from geodistill.methods.supervised.training import SupervisedObjective
from geodistill.methods.task import OptimizerConfig, ScheduleConfig, SegmentationTask
from geodistill.methods.teacher import EncoderTeacher, FrozenTeacher, TeacherOutput
from geodistill.nn.encoders import build_encoder
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("ground", "building")), ("red", "green", "blue"), (120.0,) * 3, (60.0,) * 3)


def make_teacher(name: str, levels: int) -> FrozenTeacher:
    """Build an encoder with random weights that gives its last levels."""
    depth = len(build_encoder(name).channels)
    blocks = {"vit_small_patch14_dinov2": 12, "vit_base_patch14_dinov2": 12}.get(name, depth)
    encoder = build_encoder(name, indices=range(blocks - levels, blocks))
    return EncoderTeacher(encoder, (120.0,) * 3, (60.0,) * 3, (0, 1, 2))


def make_task(teacher: FrozenTeacher, student: str) -> SegmentationTask:
    """A student that learns from labels and from the teacher's features."""
    arguments = {"architecture": "segformer", "encoder": student}
    network = SupervisedNetwork(SPEC.channels, SPEC.classes, **arguments)
    method = Method("supervised", arguments, network, SupervisedObjective({"ce": 1.0}))
    method = add_distillation(method, {"feature": 1.0}, {"teacher": teacher}, CommonLosses())
    task = SegmentationTask(method, SPEC, OptimizerConfig(), ScheduleConfig(), 1000)
    return task.train()


def make_batches(size: int, count: int, views: int) -> list[Batch]:
    """Random images and labels, each with a slot of its own."""
    batches: list[Batch] = []
    for first in range(0, views, count):
        mask = torch.randint(0, 2, (count, size, size))
        keys = [str(first + i) for i in range(count)]
        batches.append(
            {"image": 255 * torch.rand(count, 3, size, size), "mask": mask, "valid": mask < 2,
             "unlabelled": mask > 1, "key": keys, "source": keys, "slot": torch.arange(first, first + count)}
        )  # fmt: skip
    return batches


def measure(encoder: str, size: int, options: argparse.Namespace, folder: Path) -> list[str]:
    """Time the three kinds of step in turn, and give a row of the table."""
    torch.manual_seed(0)
    teacher = make_teacher(encoder, options.levels)
    task = make_task(teacher, options.student)
    optimizer = torch.optim.AdamW(task.parameters())
    batches = make_batches(size, options.batch, options.views)

    def open_cache() -> TeacherCache:
        return TeacherCache(folder, {"encoder": encoder}, teacher.output_shapes(size, 2), options.views, 1e12,
                            options.storage)  # fmt: skip

    kept = open_cache()
    outputs: list[TeacherOutput] = []
    for batch in batches:
        teacher.cache = kept
        outputs.append(teacher.targets(batch))
    ask = teacher.targets

    def step(batch: Batch, targets: Callable[[Batch], TeacherOutput]) -> tuple[float, float]:
        """Seconds of the step, and of asking the teacher within it."""
        asked = 0.0

        def timed(given: Batch) -> TeacherOutput:
            nonlocal asked
            started = time.perf_counter()
            output = targets(given)
            asked = time.perf_counter() - started
            return output

        teacher.targets = timed  # type: ignore[method-assign]
        started = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            output = task(batch)
            terms = task._method.objective(output, batch, 0)
        sum(terms.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
        return time.perf_counter() - started, asked

    times: dict[str, list[float]] = {"computed": [], "cached": [], "ceiling": []}
    reads: list[float] = []
    for turn in range(options.rounds + 1):
        place = turn % len(batches)
        for kind in times:
            teacher.cache = kept if kind == "cached" else None
            batch = batches[place].copy()
            source = (lambda given, place=place: outputs[place]) if kind == "ceiling" else ask
            seconds, asked = step(batch, source)
            if turn:  # the first round warms up
                times[kind].append(seconds)
                reads += [asked] if kind == "cached" else []
    teacher.targets = ask  # type: ignore[method-assign]
    cold = read_cold(teacher, open_cache, batches)
    computed, cached, ceiling = (statistics.median(times[kind]) for kind in ("computed", "cached", "ceiling"))
    return [
        encoder, str(size), f"{computed:.3f}", f"{cached:.3f}", f"{ceiling:.3f}", f"{computed / cached:.2f}x",
        f"{computed / ceiling:.2f}x", f"{100 * ceiling / cached:.1f} %", f"{1000 * statistics.median(reads):.1f}",
        f"{1000 * cold:.1f}", f"{kept.size.record / 1e6:.2f}",
    ]  # fmt: skip


def read_cold(teacher: FrozenTeacher, open_cache: Callable[[], TeacherCache], batches: list[Batch]) -> float:
    """Median seconds of reading a batch whose pages the system has dropped, with the check of its sums."""
    cache = open_cache()
    for path in cache.folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    teacher.cache = cache
    seconds = []
    for batch in batches:
        started = time.perf_counter()
        teacher.targets(batch.copy())
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Measure each teacher at each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="+", default=["vit_small_patch14_dinov2", "vit_base_patch14_dinov2"])
    parser.add_argument("--student", default="mit_b0")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--levels", type=int, default=1, help="levels of the teacher, from the last")
    parser.add_argument("--views", type=int, default=16, help="images in the cache")
    parser.add_argument("--rounds", type=int, default=12, help="steps of each kind")
    parser.add_argument("--storage", choices=["float16", "uint8"], default="float16")
    parser.add_argument("--bf16", action="store_true", help="train the student in bf16-mixed precision")
    options = parser.parse_args()
    heads = ["teacher", "px", "computed s", "cached s", "ceiling s", "gain", "at most", "of ceiling", "read ms",
             "cold ms", "MB/image"]  # fmt: skip
    rows = [heads]
    for size in options.sizes:
        for encoder in options.encoders:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(encoder, size, options, Path(folder)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
