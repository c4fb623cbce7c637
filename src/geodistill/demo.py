"""`demo`: the whole way on made-up scenes: a teacher, a student that learns from it, scores, a map."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import GeodistillWarning, OutputError, output_errors
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.pictures import panel_grid, to_rgb
from geodistill.files import atomic_path
from geodistill.folders import empty_folder, foreign_files, hold_folder, mark_folder
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.synthetic import LEGEND, REGIONS, draw_scene, write_dataset, write_scene
from geodistill.training.fit import fit
from geodistill.training.folder import OURS as RUN_FILES
from geodistill.training.recipe import load_recipe

ENCODER = "mobilenetv2_050"
KIND = "demo"
NETWORKS = ("teacher", "student_labels_alone", "student")

_MODEL = (DESCRIPTION, WEIGHTS, ".geodistill.json")
OURS = (
    *("metrics.json", "scene.tif", "prediction.tif", "demo.png", "work/*.parquet"),
    *(f"{name}/{file}" for name in NETWORKS for file in _MODEL),
    *("work/*/images/*.tif", "work/*/masks/*.tif", "work/*/legend.yaml"),
    *(f"work/runs/*/{pattern}" for pattern in (*RUN_FILES, ".geodistill.json")),
)
"""All that a demo writes in its folder, as `mark_folder` takes it."""

NATIVE = PredictOptions(gsd="native")

SIDE = 512
SCENE_SIDE = 1536

COMMON = {
    "data.crop": 96,
    "data.batch_size": 8,
    "data.workers": 0,
    "data.scale": [0.75, 1.5],
    "network.encoder": ENCODER,
    "network.decoder_channels": 64,
    "losses.class_weights": "auto",
    "losses.weights.dice": 0.5,
    "optimizer.lr": 6e-3,
    "schedule.kind": "cosine",
    "schedule.warmup_steps": 20,
    "trainer.ema": 0.99,
    "trainer.precision": "auto",  # bfloat16 where the processor is faster in it
}
"""What teacher and students share."""

TAUGHT = {
    "data.unlabelled_share": 0.75,
    "losses.weights.pseudo": 1.0,
    "losses.pseudo_confidence": 0.0,
}
"""What the student has besides that learns from the teacher: its probabilities of images without labels, all pixels."""

LEARNED = """\
teacher: 32 labelled towns, 16 of the north and 16 of the south; {teacher} steps
student labels alone: 4 labelled towns of the north; {student} steps
student: the same 4 towns, and what the teacher sees in 32 unlabelled ones, 16 of each region; {student} steps"""
"""What each network learned from."""


def demo(
    out: Path | str,
    seed: int = 0,
    *,
    size: int = SIDE,
    scene_size: int = SCENE_SIDE,
    steps: int = 335,
    teacher_encoder: str = ENCODER,
    teacher_weights: Path | str | None = None,
) -> str:
    """Run the whole way and leave its results in a directory.

    The teacher learns from labelled towns of two regions; in the south roofs, soil and the ground sampling distance are
    others than in the north. The student has few labels, northern ones alone, and learns what the teacher says of
    images without labels of both regions. Beside it, the same student trains on the same labels for as many steps
    without the teacher. All are scored on new towns of both regions; the map is of a southern one.

    Leaves ``teacher/``, ``student/`` and ``student_labels_alone/`` (Segmenters), ``metrics.json``, ``scene.tif``,
    ``prediction.tif``, ``demo.png``, and what they were made from in ``work/``.

    Args:
        out: Directory of the results; an earlier demo's is replaced.
        seed: Seed of scenes and training.
        size: Side of the training scenes in pixels.
        scene_size: Side of the mapped scene in pixels.
        steps: Steps of each student; the teacher takes 1.25 times as many.
        teacher_encoder: The teacher's encoder.
        teacher_weights: Pretrained weights of it, as ``network.encoder_weights`` takes them; random without.

    Returns:
        What was learned from what, a table of the scores, and where the map is.

    Raises:
        OutputError: The directory holds something else, or cannot be written.
    """
    out = Path(out)
    _refuse_other(out)
    with hold_folder(out, "demo"):
        _refuse_other(out)
        empty_folder(out)
        with output_errors(out):
            mark_folder(out, KIND, OURS)
        weights: Path | str = teacher_weights or "null"
        encoder: dict[str, object] = {"network.encoder": teacher_encoder, "network.encoder_weights": weights}
        return _run(out, seed, size, scene_size, steps, encoder)


def _refuse_other(out: Path) -> None:
    if out.is_dir() and (foreign := foreign_files(out)):
        raise OutputError(
            f"{out} is not empty and holds no demo ({foreign[0]})", "a new or empty directory", "choose another --out"
        )


def _run(out: Path, seed: int, size: int, scene_size: int, steps: int, encoder: dict[str, object]) -> str:
    started = time.monotonic()
    print("drawing towns ...", flush=True)
    manifests = draw_data(out / "work", seed, size)
    runs = train(out, manifests, seed, steps, encoder)
    print("scoring on new towns ...", flush=True)
    scores = {name: {r: evaluate(run, manifests[r], "test") for r in REGIONS} for name, run in runs.items()}
    for name, run in runs.items():
        shutil.copytree(run / "segmenter", out / name)
    print("mapping a scene ...", flush=True)
    write_scene(draw_scene(scene_size, REGIONS["south"], seed + 990), out / "work" / "scene", "scene")
    shutil.copy2(out / "work" / "scene" / "images" / "scene.tif", out / "scene.tif")
    with warnings.catch_warnings():
        # The southern region's coarser pixels are a part of the shift that the demo is about.
        warnings.simplefilter("ignore", GeodistillWarning)
        predict(out / "student", [out / "scene.tif"], out / "prediction.tif", NATIVE)
        draw_picture(out)
    minutes = (time.monotonic() - started) / 60
    with atomic_path(out / "metrics.json") as part:
        report = {name: {r: score.to_dict() for r, score in by_region.items()} for name, by_region in scores.items()}
        part.write_text(json.dumps({"minutes": minutes, **report}, indent=2) + "\n", encoding="utf-8")
    mious = {name: {r: 100 * score.miou for r, score in by_region.items()} for name, by_region in scores.items()}
    learned = LEARNED.format(teacher=5 * steps // 4, student=steps)
    places = f"map: {out / 'prediction.tif'}, picture: {out / 'demo.png'} ({minutes:.1f} minutes)"
    return "\n".join(["", learned, "", format_scores(mious), "", places])


def format_scores(mious: dict[str, dict[str, float]]) -> str:
    """Write the mIoUs in percent, by network and region, as a table, with what the teacher adds."""
    gain = {r: mious["student"][r] - mious["student_labels_alone"][r] for r in ("south", "north")}
    lines = [f"{'mIoU on new towns, percent':<28}{'south':>12}{'north':>12}"]
    for name, by_region in mious.items():
        lines.append(f"{name.replace('_', ' '):<28}{by_region['south']:>12.1f}{by_region['north']:>12.1f}")
    lines.append(f"{'the teacher adds':<28}{gain['south']:>+12.1f}{gain['north']:>+12.1f}")
    return "\n".join(lines)


def draw_data(work: Path, seed: int, size: int) -> dict[str, Path]:
    """Draw and scan what the demo trains and tests on; return manifests by use."""
    first = 1000 * seed
    for region in REGIONS.values():
        write_dataset(work / "both", region, 16, size, first + 100)
        write_dataset(work / "unlabelled", region, 16, size, first + 300)
        write_dataset(work / region.name, region, 4, size, first + 900)
    write_dataset(work / "labelled", REGIONS["north"], 4, size, first + 500)
    manifests = {name: work / f"{name}.parquet" for name in ("both", "labelled", *REGIONS)}
    for name, manifest in manifests.items():
        fractions = (0.0, 0.0, 1.0) if name in REGIONS else (1.0, 0.0, 0.0)
        split = SplitPlan(fractions=fractions, seed=seed)
        scan(work / name, out=manifest, legend=work / name / "legend.yaml", split=split)
    manifests["unlabelled"] = work / "unlabelled.parquet"
    scan(work / "unlabelled" / "images", out=manifests["unlabelled"], legend=LEGEND, unlabelled=True)
    return manifests


def train(out: Path, manifests: dict[str, Path], seed: int, steps: int, encoder: dict[str, object]) -> dict[str, Path]:
    """Train teacher and both students; return their runs."""
    runs = {name: out / "work" / "runs" / name for name in NETWORKS}
    print("training the teacher on labelled towns of two regions ...", flush=True)
    teacher = COMMON | encoder | {"data.manifest": manifests["both"], "trainer.max_steps": 5 * steps // 4}
    _fit("supervised-folder", teacher, runs["teacher"], seed)
    print("training a student on a few northern labels alone ...", flush=True)
    student = COMMON | {"data.manifest": manifests["labelled"], "trainer.max_steps": steps}
    _fit("supervised-folder", student, runs["student_labels_alone"], seed)
    print("training the same student on these labels and what the teacher says of other images ...", flush=True)
    taught = {"teacher.segmenter": runs["teacher"] / "segmenter", "data.unlabelled": manifests["unlabelled"]}
    _fit("supervised-folder", student | TAUGHT | taught, runs["student"], seed)
    return runs


def _fit(recipe: str, keys: dict[str, object], run: Path, seed: int) -> None:
    flags = [f"--{key}={json.dumps(value) if isinstance(value, list) else value}" for key, value in keys.items()]
    fit(load_recipe(recipe, [*flags, f"--trainer.seed={seed}", "--trainer.accelerator=cpu"]), run)


def draw_picture(out: Path) -> None:
    """Write ``demo.png``: the middle of the scene, its truth, both students' maps, and the legend below."""
    alone = Segmenter.load(out / "student_labels_alone").predict(out / "scene.tif", options=NATIVE)
    height, width = alone.shape
    window = Window(height // 4, width // 4, height // 2, width // 2)
    panels: list[NDArray[np.uint8]] = []
    for path in (out / "scene.tif", out / "work" / "scene" / "masks" / "scene.tif", out / "prediction.tif"):
        with Raster(path) as raster:
            panels.append(LEGEND.paint(raster.read_labels(window)[0][0]) if panels else to_rgb(raster.read(window)[0]))
    panels.insert(2, LEGEND.paint(alone.classes[window.slices]))
    titles = ("scene", "truth", "student, labels alone", "student, taught")
    panel_grid([panels], titles, LEGEND, out / "demo.png", side=420)
