"""Results written over inputs, or into a person's folder: nothing that was there is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from torture.cases import CASES, TORCH
from torture.trials import Book, Boxes, classify, files_of, noise

PREDICT = ("predict", "--model", "in/model", *TORCH, "--overlap", "0", "--input")
SCAN = ("data", "scan", "--images", "in/set/images", "--masks", "in/set/masks", "--legend", "in/legend.yaml", "--out")
PATCHES = ("data", "patches", "--manifest", "in/m.parquet", "--size", "24", "--out")
EVALUATE = CASES["evaluate"].argv[:-1]
FIT = ("fit", "--config", "in/recipe.yaml", "--data.manifest", "in/m.parquet", "--trainer.max_steps", "2", "--out")
LABEL = ("label", "build", "--images", "in/det/images", "--boxes", "in/det/boxes.json", "--format", "coco",
         "--segmenter", "box", "--out")  # fmt: skip
ABLATE, STATS = CASES["ablate"].argv[:-1], CASES["label stats"].argv[:-1]
EXPORT = ("export", "--model", "in/model", "--to")

FOLDER_VERBS = {
    "predict": (*PREDICT, "in/scenes/s0.tif", "in/scenes/s1.tif", "--out"),
    "patches": PATCHES,
    "evaluate": EVALUATE,
    "fit": FIT,
    "label": LABEL,
    "ablate": ABLATE,
    "label stats": STATS,
    "hub": (*EXPORT, "hub", "--out"),
    "stac": (*EXPORT, "stac", "--out"),
}
AGAIN = {"fit": ("--restart",), "label": ("--resume",), "predict": ("--resume",)}

PERSON = ("thesis.doc", "recipe.yaml", "shown/me.txt", "segmenter/notes.txt", "checkpoints/old.txt", "images/mine.png",
          "gray/mine.png", "item.json.bak", "s0_old.tif")  # fmt: skip


def _person(box: Path, folder: str) -> None:
    for name in PERSON:
        path = box / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("method: supervised\n" if name == "recipe.yaml" else "mine", encoding="utf-8")


def _trial(boxes: Boxes, book: Book, what: str, argv: tuple[str, ...], set_up: Callable[[Path], object],
           only: str = "") -> None:  # fmt: skip
    box = boxes.new()
    set_up(box)
    old = {**files_of(box, "in"), **files_of(box)}
    done = boxes.go(argv)
    now = {**files_of(box, "in"), **files_of(box)}
    lost = [name for name in old if old[name] != now.get(name) and name.endswith(only)]
    outcome = "silent" if lost else classify(done, same=True)
    said = f"lost: {', '.join(lost)}" if lost else noise(done.err) if outcome == "noisy" else done.said
    book.add("a person's files", what, outcome, ("right", "line"), f"{' '.join(argv[-3:])}: {said}")


@pytest.mark.parametrize("verb", FOLDER_VERBS)
def test_a_persons_folder(boxes: Boxes, book: Book, verb: str) -> None:
    argv = FOLDER_VERBS[verb]
    for more in ((), AGAIN.get(verb, ())):
        _trial(boxes, book, verb, (*argv, "out/person", *more), lambda box: _person(box, "out/person"))
        _trial(boxes, book, verb, (*argv, "out/link", *more), _linked_folder)
    _trial(boxes, book, verb, (*argv, "in", *AGAIN.get(verb, ())), lambda box: None)
    _trial(boxes, book, verb, (*argv, ".", *AGAIN.get(verb, ())), lambda box: _person(box, "out"))
    _trial(boxes, book, verb, (*argv, "in/model", *AGAIN.get(verb, ())), lambda box: None)
    again = (*argv, "out/person", *AGAIN.get(verb, ()))
    _trial(boxes, book, verb, again, lambda box: _after_a_run(boxes, box, argv), only="mine.txt")
    book.finish()


def _linked_folder(box: Path) -> None:
    _person(box, "in/theirs")
    (box / "out/link").symlink_to(box / "in/theirs", target_is_directory=True)


def _after_a_run(boxes: Boxes, box: Path, argv: tuple[str, ...]) -> None:
    """A finished result of ours, in which a person has put files of their own since."""
    boxes.go((*argv, "out/person"))
    for folder in [box / "out/person", *(p for p in (box / "out/person").rglob("*") if p.is_dir())]:
        if folder.is_dir():
            (folder / "mine.txt").write_text("mine", encoding="utf-8")


def _keep(source: str, name: str) -> Callable[[Path], object]:
    return lambda box: shutil.copy2(box / source, box / name)


def _link(source: str, name: str, hard: bool = False) -> Callable[[Path], object]:
    def make(box: Path) -> None:
        (box / name).hardlink_to(box / source) if hard else (box / name).symlink_to(box / source)

    return make


def _nothing(box: Path) -> None:
    """The box as it is."""


def _work_is_a_link(box: Path) -> None:
    _person(box, "in/theirs")
    (box / "out/.map.tif.work").symlink_to(box / "in/theirs", target_is_directory=True)


S0, S1 = "in/scenes/s0.tif", "in/scenes/s1.tif"
OVER: dict[str, list[tuple[tuple[str, ...], Callable[[Path], object]]]] = {
    "predict": [
        ((*PREDICT, S0, "--out", S0), _nothing),
        ((*PREDICT, S0, "--out", "in/link.tif"), _link(S0, "in/link.tif")),
        ((*PREDICT, "in/link.tif", "--out", S0), _link(S0, "in/link.tif")),
        ((*PREDICT, S0, "--out", "in/hard.tif"), _link(S0, "in/hard.tif", hard=True)),
        ((*PREDICT, "in/scenes/v.vrt", "--out", S1), _nothing),
        ((*PREDICT, "in/scenes/item.json", "--out", S1), _nothing),
        ((*PREDICT, "in/scenes/tiles.parquet", "--out", "in/scenes"), _nothing),
        ((*PREDICT, "in/m_confidence.tif", "--out", "in/m.tif", "--confidence"), _keep(S0, "in/m_confidence.tif")),
        ((*PREDICT, "in/m_probabilities.tif", "--out", "in/m.tif", "--probabilities", "uint8"),
         _keep(S0, "in/m_probabilities.tif")),
        ((*PREDICT, "in/a.tif", "in/a_confidence.tif", "--out", "in", "--confidence"),
         lambda box: (_keep(S0, "in/a.tif")(box), _keep(S1, "in/a_confidence.tif")(box))),
        ((*PREDICT, "in/scenes/item.json", "--out", "in/scenes/item.tif", "--stac"), _nothing),
        ((*PREDICT, S0, "--out", "in/model/segmenter.tif", "--stac"), _nothing),
        ((*PREDICT, S0, "--out", "in/model/model.safetensors"), _nothing),
        ((*PREDICT, S0, "--out", "out/map.tif"), _work_is_a_link),
        ((*PREDICT, S0, "--out", "out/map.tif", "--resume"), _work_is_a_link),
    ],
    "scan": [
        ((*SCAN, name), _nothing)
        for name in ("in/legend.yaml", "in/set/images/scene_0.tif", "in/set/masks/scene_0.tif", "in/det/boxes.json",
                     ".", "in/set")
    ],
    "export": [
        ((*EXPORT, to, "--out", name), _nothing)
        for to, name in (("onnx", "in/model/model.safetensors"), ("qgis", "in/model/segmenter.json"),
                         ("hub", "in/model"), ("onnx", "in/m.parquet"), ("hub", "in/m.parquet"))
    ],
    "label": [((*LABEL, name), _nothing) for name in ("in/det", "in/det/images", "in/det/boxes.json")],
    "fit": [
        ((*FIT, "in/set", "--restart"), _nothing),
        ((*FIT, "in/set/images", "--restart"), _nothing),
        ((*FIT, "out/run", "--teacher.encoder", "test_resnet", "--teacher.weights", "null", "--losses.weights.feature",
          "1", "--teacher.cache", "in/det"), _nothing),
    ],
    "patches": [((*PATCHES, name), _nothing) for name in ("in/set", "in/set/images", "in/m.parquet")],
    "evaluate": [((*EVALUATE, name), _nothing) for name in ("in/set", "in/m.parquet")],
    "stats": [((*STATS, name), _nothing) for name in ("in/det", "in/det/boxes.json")],
}  # fmt: skip


@pytest.mark.parametrize("verb", OVER)
def test_an_output_over_an_input(boxes: Boxes, book: Book, verb: str) -> None:
    for argv, set_up in OVER[verb]:
        _trial(boxes, book, f"{verb}, over inputs", argv, set_up)
    book.finish()
