"""Damaged files: the same result or one clear line; never a traceback, a crash, a hang, another result in silence."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass

import pytest

from torture.cases import CASES, TORCH, Case
from torture.mutations import mutate
from torture.trials import Book, Boxes, Reference, classify, count, differences, files_of, leftovers, noise, watch


@dataclass(frozen=True)
class Target:
    """A file that is damaged, and the command that then reads it.

    Attributes:
        pattern: The file, or several of which one is chosen.
        case: The command.
        at: For a command's own state: the share of its operations after which it was killed; ``1`` is a finished run.
        unchecked: Why another result in silence cannot be told in this format.
    """

    pattern: str
    case: str
    at: float | None = None
    unchecked: str = ""


def _scene(name: str, source: str) -> Case:
    argv = ("predict", "--model", "in/model", *TORCH, "--overlap", "0", "--input", f"in/scenes/{source}")
    return Case(name, (*argv, "--out", "out/map.tif" if source != "tiles.parquet" else "out/maps"))


def _boxes(name: str, kind: str, boxes: str, folder: str = "det") -> Case:
    argv = ("label", "build", "--images", f"in/{folder}/images", "--boxes", f"in/{folder}/{boxes}", "--format", kind)
    extra = ("--category-field", "category") if kind == "geojson" else ()
    return Case(name, (*argv, *extra, "--segmenter", "box", "--out", "out/set"))


MORE = {
    case.name: case
    for case in (
        *(_scene(f"predict:{s}", s) for s in ("s0.tif", "s1.tif", "v.vrt", "item.json", "p.png")),
        _scene("predict:tiles", "tiles.parquet"),
        *(_boxes(f"label:{kind}", kind, kind) for kind in ("dota", "yolo", "voc")),
        _boxes("label:geojson", "geojson", "boxes.geojson", "geo"),
        Case("fit:short", ("fit", "--config", "in/recipe.yaml", "--data.manifest", "in/m.parquet", "--out", "out/run",
             "--trainer.max_steps", "2"), loose=("out/run/logs/*", "out/run/checkpoints/*")),
    )
}  # fmt: skip

NUMBERS, PIXELS = "numbers in text carry no check sum", "pixels carry no check sum"

TARGETS = {
    "manifest": Target("in/m.parquet", "evaluate", unchecked="Parquet pages carry no check sum"),
    "legend": Target("in/legend.yaml", "scan", unchecked=NUMBERS),
    "recipe": Target("in/recipe.yaml", "fit:short", unchecked=NUMBERS),
    "COCO": Target("in/det/boxes.json", "label:box", unchecked=NUMBERS),
    "DOTA": Target("in/det/dota/*.txt", "label:dota", unchecked=NUMBERS),
    "YOLO": Target("in/det/yolo/*.txt", "label:yolo", unchecked=NUMBERS),
    "VOC": Target("in/det/voc/*.xml", "label:voc", unchecked=NUMBERS),
    "GeoJSON": Target("in/geo/boxes.geojson", "label:geojson", unchecked=NUMBERS),
    "STAC item": Target("in/scenes/item.json", "predict:item.json", unchecked=NUMBERS),
    "tile index": Target("in/scenes/tiles.parquet", "predict:tiles", unchecked="Parquet pages carry no check sum"),
    "VRT": Target("in/scenes/v.vrt", "predict:v.vrt", unchecked=NUMBERS),
    "scene, plain": Target("in/scenes/s1.tif", "predict:s1.tif", unchecked=PIXELS),
    "scene, deflate": Target("in/scenes/s0.tif", "predict:s0.tif", unchecked="tags carry no check sum"),
    "scene, PNG": Target("in/scenes/p.png", "predict:p.png", unchecked="GDAL reads past broken check sums"),
    "image": Target("in/det/images/*.png", "label:grabcut", unchecked="check sums are not all looked at"),
    "mask": Target("in/set/masks/scene_1.tif", "scan", unchecked=PIXELS),
    "segmenter.json": Target("in/model/segmenter.json", "predict:scenes"),
    "model.safetensors": Target("in/model/model.safetensors", "predict:scenes"),
    "last.ckpt": Target("out/run/checkpoints/last.ckpt", "fit:validation", at=0.7),
    "best.ckpt": Target("out/run/checkpoints/best.ckpt", "fit:validation", at=0.7),
    "phase's checkpoint": Target("out/run/checkpoints/transfer.ckpt", "fit:ktda", at=0.7),
    "run's recipe": Target("out/run/recipe.yaml", "fit:validation", at=0.7),
    "label settings": Target("out/set/settings.json", "label:grabcut", at=0.6),
    "label journal": Target("out/set/.journal*", "label:grabcut", at=0.6),
    "finished masks": Target("out/set/gray/*.png", "label:grabcut", at=0.6),
    "finished tiles": Target("out/set/images/*.png", "label:grabcut", at=0.6),
    "predict's about": Target("out/maps/.*.work/about.json", "predict:scenes", at=0.55),
    "predict's journal": Target("out/maps/.*.work/*.jsonl", "predict:scenes", at=0.55),
    "predict's rows": Target("out/maps/.*.work/*.bin", "predict:scenes", at=0.55),
    "cache index": Target("out/cache/*/index.bin", "fit:cache", at=0.5),
    "cache meta": Target("out/cache/*/meta.json", "fit:cache", at=0.5),
    "cache shard": Target("out/cache/*/shard*", "fit:cache", at=0.5),
    "marker": Target("out/patches/.geodistill.json", "patches", at=1),
    "evaluate's marker": Target("out/ev/shown/.geodistill.json", "evaluate", at=1),
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file(boxes: Boxes, book: Book, name: str) -> None:
    target = TARGETS[name]
    case = CASES.get(target.case) or MORE[target.case]
    reference = boxes.reference(case.name, case=case)
    kept = _state(boxes, case, reference, target)
    for trial in range(count(4)):
        rng = random.Random(f"{name} {trial}")
        box = boxes.new(case)
        if kept:
            shutil.copytree(boxes.box.parent / "kept", box / "out", dirs_exist_ok=True)
        files = sorted(box.glob(target.pattern))
        if not files:
            pytest.skip(f"{target.case} leaves no {target.pattern} at that moment")
        file = rng.choice(files)
        what, content = mutate(file.read_bytes(), rng)
        file.write_bytes(content)
        begun = not case.begun or (box / case.begun).exists()
        done = boxes.go((*case.argv, *(case.resume if begun else ())))
        others = differences(case, files_of(box), reference.files, reference.unsteady)
        if file.is_relative_to(box / "in"):
            others = [other for other in others if other.rpartition(" ")[0] != file.relative_to(box).as_posix()]
        outcome = classify(done, not others, reference.err)
        if outcome == "line" and not others and "finished" in done.said:
            outcome = "right"
        left = leftovers(files_of(box))
        if outcome == "right" and left:
            outcome = "left"
        good = ("right", "line", "told", *(["silent"] if target.unchecked else []))
        said = {"silent": (others or [""])[0], "left": (left or [""])[0], "noisy": noise(done.err, reference.err)}.get(
            outcome, done.said
        )
        book.add("damaged", name, outcome, good, f"[{what}] {said}" if outcome not in good else "")
    book.finish()


def _state(boxes: Boxes, case: Case, reference: Reference, target: Target) -> bool:
    """Keep what a killed or finished run leaves, for every trial to begin with."""
    if target.at is None:
        return False
    box, kept = boxes.new(case), boxes.box.parent / "kept"
    at = int(len(reference.events) * target.at)
    boxes.go(case.argv, (lambda: watch(box, at=at)) if target.at < 1 else None)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(box / "out", kept, symlinks=True)
    return True
