"""Getting a model ready: backends and batch sizes, measured once and kept by a map that is continued."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor

from factories import make_raster, noise
from geodistill.methods.supervised import SupervisedNetwork
from geodistill.raster import Raster
from geodistill.scene.inputs import Scene
from geodistill.scene.network import as_images, as_network
from geodistill.scene.options import Options, cut_columns
from geodistill.scene.predict import predict
from geodistill.scene.prepare import fastest_batch, first_windows, prepare
from geodistill.scene.stream import SPAN, Settings
from geodistill.scene.task import Task, as_begun
from geodistill.scene.windows import Area, Part, Plan
from geodistill.scene.work import open_work
from geodistill.segmenter import Segmenter
from tiny import tiny_networks, tiny_segmenter, tiny_spec


@pytest.fixture(autouse=True)
def _networks() -> Iterator[None]:
    with tiny_networks():
        yield


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_images_of_any_sample_type_become_float32(dtype: str) -> None:
    windows = [noise((3, 8, 8), "uint16", seed).astype(dtype) for seed in range(2)]
    images = as_images([w[:, ::-1] if i else w for i, w in enumerate(windows)][:1], torch.device("cpu"))
    assert images.dtype == torch.float32
    np.testing.assert_array_equal(images[0].numpy(), windows[0].astype(np.float32))


def test_logits_in_another_precision_become_probabilities() -> None:
    segmenter = tiny_segmenter(tile=8)

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = segmenter(images)
        return logits.bfloat16()

    windows = [noise((3, 8, 8))]
    found = as_network(segmenter, forward=forward).probabilities(windows)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, as_network(segmenter).probabilities(windows), atol=0.03)


def test_windows_are_tried_where_there_is_data(tmp_path: Path) -> None:
    pixels = np.zeros((3, 200, 200), np.uint8)
    pixels[:, 150:, 150:] = 9
    with Raster(make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0)) as raster:
        windows = first_windows(Area.whole(raster), 32, 0.25)
    assert 1 <= len(windows) <= 4
    assert all(window.any() for window in windows)
    with Raster(make_raster(tmp_path / "b.tif", pixels=0 * pixels, nodata=0)) as raster:
        (window,) = first_windows(Area.whole(raster), 32, 0.25)
    assert not window.any()


def test_the_fastest_batch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {1: 1.0, 2: 1.0, 4: 1.9, 8: 4.1}
    monkeypatch.setattr("geodistill.scene.prepare._seconds", lambda _, windows: seconds[len(windows)])
    network = as_network(tiny_segmenter(tile=8))
    # 4 is but a little faster than 2.
    assert fastest_batch(network, [noise((3, 8, 8))]) == 4
    seconds[4] = 1.97
    assert fastest_batch(network, [noise((3, 8, 8))]) == 2


def test_what_was_measured_is_kept_with_the_work(tmp_path: Path) -> None:
    task = Task("m", Scene("a", "a.tif"), tmp_path / "a.tif", Options(batch="auto", resume=True), "run")
    assert as_begun(task) == task.options
    with open_work(task.path, {"batch": 7, "backend": "openvino", "precision": "bf16"}, resume=False):
        begun = as_begun(task)
        assert (begun.batch, begun.backend, begun.precision) == (7, "openvino", "bf16")
        asked = replace(task, options=replace(task.options, batch=3, backend="torch"))
        assert (as_begun(asked).batch, as_begun(asked).backend) == (3, "torch")
        assert as_begun(replace(task, options=Options(batch="auto"))) == Options(batch="auto")


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_other_backends_make_the_same_map(tmp_path: Path, backend: str) -> None:
    pytest.importorskip("onnxruntime" if backend == "onnx" else "openvino")
    torch.manual_seed(0)
    arguments = {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16}
    network = SupervisedNetwork(3, 3, architecture="unet", encoder="test_resnet", decoder_channels=16)
    segmenter = Segmenter.from_network("supervised", arguments, tiny_spec(std=60), network.state_dict(), 32, {})
    source = make_raster(tmp_path / "scene.tif", height=90, width=120)
    made = {
        name: predict(segmenter, [source], tmp_path / f"{name}.tif", Options(device="cpu", backend=name))[0]
        for name in ("torch", backend)
    }
    with rasterio.open(made["torch"].path) as one, rasterio.open(made[backend].path) as other:
        assert (one.read(1) != other.read(1)).mean() <= 1e-3
        assert one.tags()["RUN"] != other.tags()["RUN"]


def test_compiling_is_torchs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []

    def compile_nothing(module: torch.nn.Module, **_: object) -> torch.nn.Module:
        compiled.append(True)
        return module

    monkeypatch.setattr(torch, "compile", compile_nothing)
    with Raster(make_raster(tmp_path / "a.tif")) as raster:
        ready = prepare(tiny_segmenter(), Options(device="cpu", compile=True), Area.whole(raster))
    assert compiled == [True]
    assert ready.options.backend == "torch"


def test_a_wide_scene_is_cut_where_batches_end() -> None:
    plan = Plan.of(2000, 400 * 48 + 16, 64, 0.25)
    assert len(plan.lefts) == 400
    options = Options(Settings(batch=2))
    assert cut_columns(plan, options, 5, 3, 1) == [Part.whole(plan)]
    for megabytes in (2, 4, 8, 16):
        parts = cut_columns(plan, replace(options, max_memory=megabytes * 2**20), 5, 3, 1)
        assert parts[0].first_column == 0
        assert parts[-1].last_column == 400
        for left, right in pairwise(parts):
            assert left.last_column == right.first_column
            assert right.first_column % (SPAN * 2) == 0
    assert len(parts) < 400 / 16
