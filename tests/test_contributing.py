"""The examples of CONTRIBUTING.md: each is short, and works as it stands when put into its table."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from factories import make_raster
from geodistill.cli import main
from geodistill.lazy import load
from geodistill.segmenter import Segmenter
from tiny import tiny_spec
from towns import write_town

ROOT = Path(__file__).parents[1]
EXAMPLES = dict(
    re.findall(
        r"```python\n(?:# (\w+)\.py\n)(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
    )
)
TABLES = {
    "focal": "geodistill.methods.method:METHODS",
    "l2": "geodistill.methods.method:LOGIT_LOSSES",
    "skips": "geodistill.methods.supervised.network:DECODERS",
    "plain": "geodistill.nn.bodies:OWN_FAMILIES",
    "corners": "geodistill.label.formats.detection:FORMATS",
    "bright": "geodistill.label.segmenters.promptable:SEGMENTERS",
    "reference": "geodistill.backends:BACKENDS",
    "fields": "geodistill.data.catalog.declarations:CATALOG",
    "archive": "geodistill.exports.exporters:EXPORTERS",
}
Example = Callable[[str], Any]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Example]:
    """Import an example as a module; its table is as before afterwards."""
    (tmp_path / "examples").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "examples")
    added = []

    def use(name: str) -> Any:
        table = load(TABLES[name])
        assert name not in table
        sys.modules.pop(name, None)  # another test's example of that name
        added.append((table, name))
        (tmp_path / "examples" / f"{name}.py").write_text(EXAMPLES[name], encoding="utf-8")
        return import_module(name)

    yield use
    for table, name in added:
        table.pop(name, None)
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, masks, boxes of two forms, and a manifest."""
    folder = tmp_path_factory.mktemp("town")
    write_town(folder, count=6, size=64)
    (folder / "legend.yaml").write_text("classes: {ground: 0, building: 1}\n")
    for path in (folder / "images").iterdir():
        boxes = folder / "boxes" / f"{path.stem}.corners"
        boxes.parent.mkdir(exist_ok=True)
        boxes.write_text("4 6 40 38 building\n30 30 60 60 building\n")
    paths = ["--images", str(folder / "images"), "--masks", str(folder / "masks")]
    legend = ["--legend", str(folder / "legend.yaml")]
    assert main(["data", "scan", *paths, *legend, "--out", str(folder / "manifest.parquet")]) == 0
    return folder


def fit(town: Path, out: Path, *flags: str) -> Segmenter:
    short = "--trainer.max_steps 2 --trainer.accelerator cpu --trainer.pictures 0 --data.crop 32 --data.batch_size 2"
    manifest = ["--data.manifest", str(town / "manifest.parquet"), "--data.workers", "0"]
    assert main(["fit", *flags, *manifest, *short.split(), "--out", str(out)]) == 0
    return Segmenter.load(out)


def test_every_kind_of_part_has_an_example_of_thirty_lines_at_most() -> None:
    assert set(EXAMPLES) == set(TABLES)
    lines = {name: sum(bool(line.strip()) for line in code.splitlines()) for name, code in EXAMPLES.items()}
    assert {name: count for name, count in lines.items() if count > 30} == {}


@pytest.mark.slow
def test_a_method(example: Example, town: Path, tmp_path: Path) -> None:
    example("focal")
    segmenter = fit(town, tmp_path / "run", "--method", "focal", "--network.encoder", "test_resnet")
    assert segmenter.name == "supervised"
    assert '"focal"' in (tmp_path / "run" / "segmenter" / "segmenter.json").read_text()


@pytest.mark.slow
def test_a_loss_between_teacher_and_student(example: Example, town: Path, tmp_path: Path) -> None:
    example("l2")
    student = ["--config", "supervised-folder", "--network.encoder", "test_resnet", "--network.decoder_channels", "16"]
    fit(town, tmp_path / "teacher", *student)
    teacher = ["--teacher.segmenter", str(tmp_path / "teacher"), "--losses.weights.l2", "0.5"]
    fit(town, tmp_path / "student", *student, *teacher)
    assert '"l2"' in (tmp_path / "student" / "segmenter" / "segmenter.json").read_text()


def test_the_loss_is_zero_on_itself_and_leaves_pixels_out(example: Example) -> None:
    l2 = example("l2").l2
    logits, mask = torch.randn(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64)
    assert l2(logits, logits, mask, None) == 0
    assert l2(logits, -logits, mask, None) > 0
    assert l2(logits, -logits, mask + 255, None) == 0


@pytest.mark.parametrize("encoder", ["test_resnet", "test_vit"])
def test_a_decoder(example: Example, tmp_path: Path, encoder: str) -> None:
    example("skips")
    arguments = {"architecture": "skips", "encoder": encoder, "decoder_channels": 8}
    Segmenter("supervised", arguments, tiny_spec(3, 2), 64, {}).save(tmp_path / "segmenter")
    network = Segmenter.load(tmp_path / "segmenter").network.train()
    logits = network(torch.randn(2, 3, 50, 70)).logits
    assert logits.shape == (2, 2, 50, 70)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_encoder_family(example: Example) -> None:
    example("plain")
    from geodistill.nn.bodies import OWN_OPTIONS
    from geodistill.nn.encoders import build_encoder, list_encoders

    try:
        assert list_encoders("plain") == ["plain"]
        maps = build_encoder("plain", 4)(torch.randn(1, 4, 50, 70))
    finally:
        del OWN_OPTIONS["plain"]
    assert [tuple(level.shape) for level in maps] == [(1, 16, 13, 18), (1, 32, 7, 9), (1, 64, 4, 5), (1, 128, 2, 3)]


def test_a_format_and_a_segmenter(example: Example, town: Path, tmp_path: Path) -> None:
    example("corners")
    example("bright")
    paths = ["--images", str(town / "images"), "--boxes", str(town / "boxes"), "--format", "corners"]
    how = ["--segmenter", "bright", "--background", "ground"]
    assert main(["label", "build", *paths, *how, "--out", str(tmp_path / "labels")]) == 0
    instances = json.loads((tmp_path / "labels" / "instances.json").read_text())
    assert len(instances["annotations"]) == 12


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    arguments = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    Segmenter("supervised", arguments, tiny_spec(3, 2), 64, {}).save(tmp_path / "segmenter")
    return tmp_path / "segmenter"


@pytest.mark.slow
def test_a_backend(example: Example, segmenter: Path) -> None:
    example("reference")
    from geodistill.backends.backend import open_backend

    model = Segmenter.load(segmenter).eval()
    backend = open_backend("reference", model, device="cpu", size=64, batch=2)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(backend(images), model(images), rtol=1e-3, atol=1e-4)


def test_a_data_set(example: Example, tmp_path: Path) -> None:
    example("fields")
    for name in "abcd":
        make_raster(tmp_path / "root" / "tiles" / f"{name}.tif", pixels=np.full((3, 16, 16), 9, np.uint8))
        make_raster(tmp_path / "root" / "labels" / f"{name}_label.tif", pixels=np.ones((1, 16, 16), np.uint8))
    out = tmp_path / "fields.parquet"
    assert main(["data", "scan", "--dataset", "fields", "--root", str(tmp_path / "root"), "--out", str(out)]) == 0
    from geodistill.data.manifest import Manifest

    assert [row.split for row in Manifest.load(out).rows()] == ["train", "train", "val", "test"]


def test_an_exporter(example: Example, segmenter: Path, tmp_path: Path) -> None:
    example("archive")
    assert main(["export", "--model", str(segmenter), "--to", "archive", "--out", str(tmp_path / "weights.npz")]) == 0
    with np.load(tmp_path / "weights.npz") as archive:
        assert set(archive.files) == set(Segmenter.load(segmenter).state_dict())
