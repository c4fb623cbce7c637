"""Getting a model ready: backends and batch sizes, measured once and kept by a map that is continued."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import Tensor

from factories import make_raster, noise, truncate
from geodistill.backends import choose
from geodistill.backends.backend import available
from geodistill.cli import main
from geodistill.inference.checkpoint import open_work
from geodistill.inference.network import SPAN, RunPlan, as_images, as_network
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.inference.prepare import fastest_batch, first_windows, prepare
from geodistill.inference.windows import Area, Part, WindowPlan
from geodistill.inference.worker import as_begun
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter
from tiny import sparse_raster, tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


def prepared(options: PredictOptions, raster: Raster) -> RunPlan:
    segmenter, area = tiny_segmenter(), Area.whole(raster)
    return prepare(segmenter, options, area, area.windows(segmenter.tile, options.overlap))


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
        windows = first_windows(Area.whole(raster), Area.whole(raster).windows(32, 0.25))
    assert 1 <= len(windows) <= 4
    assert all(window.any() for window in windows)
    with Raster(make_raster(tmp_path / "b.tif", pixels=0 * pixels, nodata=0)) as raster:
        (window,) = first_windows(Area.whole(raster), Area.whole(raster).windows(32, 0.25))
    assert not window.any()


def test_what_cannot_be_read_is_passed_over_where_windows_are_tried(tmp_path: Path) -> None:
    path = truncate(make_raster(tmp_path / "a.tif", height=400, width=400, tiled=True))
    with Raster(path) as raster:
        windows = first_windows(Area.whole(raster), Area.whole(raster).windows(64, 0.25), 8)
    assert len(windows) == 8
    assert all(window.any() for window in windows)
    # So the map has its holes, whatever was to be measured before.
    options = PredictOptions(keep_going=True, batch="auto", device="cpu")
    (made,) = predict(tiny_segmenter(), [path], tmp_path / "map.tif", options)
    assert made.holes
    assert made.notes[0].startswith("batch size ")


def test_the_fastest_batch_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {1: 1.0, 2: 1.0, 4: 1.9, 8: 4.1}
    monkeypatch.setattr("geodistill.inference.prepare._seconds", lambda _, windows: seconds[len(windows)])
    network = as_network(tiny_segmenter(tile=8))
    # 4 is but a little faster than 2.
    assert fastest_batch(network, [noise((3, 8, 8))]) == 4
    seconds[4] = 1.97
    assert fastest_batch(network, [noise((3, 8, 8))]) == 2


def test_what_was_measured_is_kept_with_the_work(tmp_path: Path) -> None:
    asked = PredictOptions(batch="auto", precision="auto", device="cpu", resume=True)
    path = tmp_path / "a.tif"
    assert as_begun(path, asked) == asked
    about = {"batch": 7, "backend": "openvino", "precision": "bf16", "device": "cpu"}
    with open_work(path, about, resume=False):
        begun = as_begun(path, asked)
        assert (begun.batch, begun.backend, begun.precision) == (7, "openvino", "bf16")
        other = as_begun(path, replace(asked, batch=3, backend="torch"))
        assert (other.batch, other.backend) == (3, "torch")
        # Another precision than asked for is no choice of ours.
        exact = as_begun(path, replace(asked, precision="fp32"))
        assert (exact.batch, exact.backend, exact.precision) == (7, "auto", "fp32")
        anew = PredictOptions(batch="auto")
        assert as_begun(path, anew) == anew
    with open_work(path, about | {"device": "cuda"}, resume=False):
        assert as_begun(path, asked) == asked


def test_a_finished_map_is_left_without_measuring_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = make_raster(tmp_path / "scene.tif"), tmp_path / "map.tif"
    monkeypatch.setattr("geodistill.inference.prepare.fastest_batch", lambda network, windows: 3)
    options = PredictOptions(batch="auto", device="cpu")
    (first,) = predict(tiny_segmenter(), [source], out, options)
    assert "batch size 3" in first.notes
    before = out.stat().st_mtime_ns
    monkeypatch.setattr("geodistill.inference.prepare.fastest_batch", lambda network, windows: 5)
    (again,) = predict(tiny_segmenter(), [source], out, replace(options, resume=True))
    assert (again.finished_before, again.windows, out.stat().st_mtime_ns) == (True, first.windows, before)
    # A file of something else is no map that was finished.
    out.write_text("no map")
    (anew,) = predict(tiny_segmenter(), [source], out, replace(options, resume=True))
    assert not anew.finished_before


@pytest.mark.filterwarnings("ignore::geodistill.errors.GeodistillWarning")
def test_a_model_that_sees_the_scene_otherwise_maps_it_again(tmp_path: Path) -> None:
    source, out = make_raster(tmp_path / "scene.tif"), tmp_path / "map.tif"
    options, model = PredictOptions(device="cpu", resume=True), tiny_segmenter()
    predict(model, [source], out, options)
    # The weights are the same, what they are given is not.
    moved = replace(model.spec, mean=(9.0, 0.0, 0.0))
    other = Segmenter(model.name, model.arguments, moved, model.tile, model.provenance)
    other.load_state_dict(model.state_dict())
    (made,) = predict(other, [source], out, options)
    assert not made.finished_before
    (again,) = predict(other, [source], out, options)
    assert again.finished_before


@pytest.mark.slow
def test_the_choice_of_a_backend_is_printed_with_its_tolerance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("geodistill.backends.choose.PAYS", 0.0)
    source, seen = make_raster(tmp_path / "scene.tif", height=90, width=120), []
    plain = choose.choose_backend

    def note(segmenter: Segmenter, windows: Tensor, **more: Any) -> Any:
        seen.append(windows)
        return plain(segmenter, windows, **more)

    monkeypatch.setattr(choose, "choose_backend", note)
    tiny_segmenter("context").save(tmp_path / "model")
    command = ["predict", "--model", str(tmp_path / "model"), "--input", str(source), "--device", "cpu"]
    assert main([*command, "--batch", "2", "--out", str(tmp_path / "map.tif")]) == 0
    told = capsys.readouterr().out.splitlines()[1]
    assert told.startswith("  backend ")
    assert told.endswith("pixels differ (tolerance 0.1 %)")
    assert all(f"{name} fp32 " in told for name in available("cpu"))
    # It was tried on windows of this scene.
    with Raster(source) as raster:
        first = first_windows(Area.whole(raster), Area.whole(raster).windows(16, 0.25), 2)
    np.testing.assert_array_equal(seen[0].numpy(), np.stack(first).astype(np.float32))


@pytest.mark.parametrize(
    ("asked", "tried"),
    [
        ({"confidence": True}, "auto"),
        ({"probabilities": "float16"}, "fp32"),
        ({"precision": "bf16", "probabilities": "float16"}, "bf16"),
        ({"precision": "fp32"}, "fp32"),
    ],
)
def test_lower_precision_is_tried_where_classes_are_what_counts(
    asked: dict[str, Any], tried: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    plain = choose.choose_backend

    def note(segmenter: Segmenter, windows: Tensor, *, precision: Any, **more: Any) -> Any:
        seen.append(precision)
        return plain(segmenter, windows, precision="fp32", **more)

    monkeypatch.setattr(choose, "choose_backend", note)
    with Raster(make_raster(tmp_path / "scene.tif", height=48, width=48)) as raster:
        prepared(PredictOptions(device="cpu", **asked), raster)
    assert seen == [tried]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_other_backends_make_the_same_map(tmp_path: Path, backend: str) -> None:
    pytest.importorskip("onnxruntime" if backend == "onnx" else "openvino")
    segmenter = tiny_segmenter("context", tile=32)
    source = make_raster(tmp_path / "scene.tif", height=90, width=120)
    made = {
        name: predict(segmenter, [source], tmp_path / f"{name}.tif", PredictOptions(device="cpu", backend=name))[0]
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
        ready = prepared(PredictOptions(device="cpu", compile=True), raster)
        assert compiled == [True]
        assert ready.backend == "torch"
        # Sizes of batches are tried before: each that is compiled takes minutes.
        network = as_network(tiny_segmenter())
        monkeypatch.setattr("geodistill.inference.prepare.fastest_batch", lambda tried, _: 7 - len(compiled))
        ready = prepared(PredictOptions(device="cpu", compile=True, batch="auto"), raster)
    assert (ready.batch, ready.notes) == (6, ("batch size 6",))
    assert network.size == ready.network.size


def test_a_wide_scene_is_cut_where_batches_end(tmp_path: Path) -> None:
    plan = WindowPlan.of(2000, 400 * 48 + 16, 64, 0.25)
    assert len(plan.lefts) == 400
    run = RunPlan(PredictOptions(), as_network(tiny_segmenter(classes=5)), plan, 2, "torch", "fp32")
    with Raster(sparse_raster(tmp_path / "wide.tif", plan.height, plan.width)) as raster:
        assert run.column_blocks(raster) == [Part.whole(plan)]
        cut = [replace(run, options=PredictOptions(max_memory=m * 2**20)).column_blocks(raster) for m in (8, 16, 32)]
    for parts in cut:
        assert parts[0].first_column == 0
        assert parts[-1].last_column == 400
        for left, right in pairwise(parts):
            assert left.last_column == right.first_column
            assert right.first_column % (SPAN * 2) == 0
    assert len(parts) < 400 / 16
