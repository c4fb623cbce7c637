"""Robustness: what each change does to pixels, and a table whose figures can be told beforehand."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from factories import make_raster
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.intervals import mean_iou
from geodistill.evaluation.perturbations import PERTURBATIONS, within
from geodistill.evaluation.robustness import RobustnessOptions, robustness
from geodistill.raster import Window
from geodistill.raster.array import ArrayRaster
from tiny import brightest, tiny_segmenter, tiny_spec

pytestmark = pytest.mark.usefixtures("tiny_models")

BY_NAME = {perturbation.name.split(",")[0]: perturbation for perturbation in PERTURBATIONS}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Fields in each of which one band is brightest by far: the network is right wherever bands keep their order."""
    rows = []
    for index in range(4):
        rng = np.random.default_rng(index)
        band = rng.integers(0, 3, (4, 5)).repeat(16, 0).repeat(16, 1)
        pixels = rng.integers(1, 40, (3, 64, 80)) + 150 * (np.arange(3)[:, None, None] == band)
        image = make_raster(tmp_path / "data" / f"image_{index}.tif", pixels=pixels.astype(np.uint8))
        mask = make_raster(tmp_path / "data" / f"mask_{index}.tif", pixels=brightest(pixels)[None])
        rows.append(Row(image, mask, "test", Window(0, 0, 64, 80)))
    saved = Manifest(tuple(rows), ("b0", "b1", "b2"), tiny_spec().legend)
    saved.save(tmp_path / "manifest.parquet")
    return Manifest.load(tmp_path / "manifest.parquet")


def test_what_each_change_does_to_pixels() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 60, 44)).astype(np.float32)
    like, everywhere = image.astype(np.uint8), np.ones((60, 44), bool)

    def changed(name: str) -> np.ndarray:
        return within(BY_NAME[name].change(image, everywhere, np.random.default_rng(1))[0], like)

    np.testing.assert_array_equal(changed("brighter"), np.minimum(np.rint(image * 1.25), 255))
    np.testing.assert_array_equal(changed("bands swapped"), image[[2, 1, 0]])
    np.testing.assert_array_equal(changed("shifted by 7 pixels"), image[:, 7:, 7:])
    noise = changed("noise") - image
    assert 0.06 < noise.std() / image.std() < 0.11  # a tenth, less what is clipped
    veil = np.percentile(image, 98, axis=(1, 2))[:, None, None]
    np.testing.assert_array_equal(changed("haze"), np.rint(0.7 * image + np.float32(0.3) * veil.astype(np.float32)))
    assert changed("2 times the distance").shape == (3, 30, 22)
    np.testing.assert_allclose(changed("2 times the distance")[0, 0, 0], image[0, :2, :2].mean(), atol=0.5)
    smooth = np.add.outer(np.arange(64), np.arange(64))[None].repeat(3, 0).astype(np.float32)
    left, _ = BY_NAME["JPEG"].change(smooth, np.ones((64, 64), bool), rng)
    assert 0 < np.abs(left - smooth).max() < 12
    bands = np.concatenate([smooth * 37, smooth * 5, smooth, smooth])
    many, _ = BY_NAME["JPEG"].change(bands, np.ones((64, 64), bool), rng)
    assert np.abs(many[0] / 37 - smooth[0]).max() < 8
    # What moves or scales an image comes back onto its pixels.
    classes = rng.integers(0, 5, (60, 44)).astype(np.uint8)
    for name in ("shifted by 7 pixels", "turned by 90 degrees", "0.5 times the distance"):
        one = BY_NAME[name]
        assert one.back is not None
        if name.startswith("0.5"):
            there = classes.repeat(2, 0).repeat(2, 1)
        else:
            there = one.change(classes[None].astype(np.float32), everywhere, rng)[0][0].astype(np.uint8)
        back = one.back(there, (60, 44))
        np.testing.assert_array_equal(back[back != 255], classes[back != 255])
        assert (back != 255).mean() > 0.7


def test_jpeg_is_what_pillow_makes_of_an_image_in_red_green_and_blue() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 8, 8)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, -1)).save(file, "JPEG", quality=50)
    left, _ = BY_NAME["JPEG"].change(image.astype(np.float32), np.ones((64, 64), bool), np.random.default_rng(1))
    with Image.open(file) as picture:
        np.testing.assert_allclose(left, np.moveaxis(np.asarray(picture, np.float32), -1, 0), atol=2)


def test_changes_are_measured_where_there_is_data() -> None:
    """Half of the image is none; bands are far from 0, as those of sensors of 16 bits are."""
    rng = np.random.default_rng(0)
    image = rng.normal(5000, 300, (4, 96, 80)).astype(np.float32)
    valid = np.ones((96, 80), bool)
    valid[:, 41:] = False
    data, image = image[:, :, :41].copy(), np.where(valid, image, 0)
    whole = np.ones(data.shape[1:], bool)
    changed = {name: one.change(image, valid, np.random.default_rng(1)) for name, one in BY_NAME.items()}
    for name in ("noise", "haze", "JPEG", "brighter", "bands swapped"):
        assert (changed[name][1] == valid).all()
    noise = (changed["noise"][0] - image)[:, valid]
    np.testing.assert_allclose(noise.std(1), data.std((1, 2)) / 10, rtol=0.05)
    np.testing.assert_allclose(changed["haze"][0][:, valid], BY_NAME["haze"].change(data, whole, rng)[0].reshape(4, -1))
    alone = BY_NAME["JPEG"].change(data, whole, rng)[0]
    np.testing.assert_allclose(changed["JPEG"][0][:, :, :40], alone[:, :, :40], rtol=1e-5)  # whole blocks of 8 pixels
    coarse, there = changed["2 times the distance"]
    assert (there == (np.arange(40) < 20)).all()  # of the pixel at the edge a half is data
    means = data[:, :, :40].reshape(4, 48, 2, 20, 2).mean((2, 4))
    np.testing.assert_allclose(coarse[:, there].reshape(4, 48, 20), means, rtol=1e-5)
    for name in ("0.5 times the distance", "0.75 times the distance", "1.5 times the distance"):
        scaled, there = changed[name]
        assert scaled[:, there].min() > 3500, "no pixel is mixed with what is none"
        assert there.mean() == pytest.approx(valid.mean(), abs=0.02)
    shifted, turned = changed["shifted by 7 pixels"], changed["turned by 90 degrees"]
    assert all(((moved[0] != 0).all(0) == moved[1]).all() for moved in (shifted, turned))


def test_a_network_is_told_where_there_is_no_data(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    (first, *_) = manifest.entries
    pixels = _pixels(first.image)
    pixels[:, 20:40, 30:] = 0
    make_raster(first.image, pixels=pixels, nodata=0)
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    def opened(image: np.ndarray, valid: np.ndarray) -> ArrayRaster:
        asked.append((image, valid))
        return ArrayRaster(image, valid)

    monkeypatch.setattr("geodistill.evaluation.robustness.ArrayRaster", opened)
    robustness(tiny_segmenter(), replace(manifest, entries=(first,)), options=RobustnessOptions(resamples=5))
    assert len(asked) == 1 + len(PERTURBATIONS)
    for image, valid in asked:
        assert 0.7 < valid.mean() < 0.9
        assert (image[:, ~valid] == 0).all()


@pytest.mark.slow
def test_the_table_of_a_network_that_looks_at_the_brightest_band(manifest: Manifest) -> None:
    measured = robustness(tiny_segmenter(), manifest, options=RobustnessOptions(resamples=100))
    rows = {row.name.split(",")[0]: row for row in measured.rows}
    assert measured.images == 4
    for name in ("as they are", "shifted by 7 pixels", "turned by 90 degrees", "brighter", "darker", "haze"):
        assert (rows[name].miou.value, rows[name].agreement.value) == (1, 1), name
        assert not rows[name].breaks
    # Green fields stay green; red and blue ones change places.
    green = np.concatenate([brightest(np.asarray(_pixels(row.image))).ravel() == 1 for row in manifest.entries])
    assert rows["bands swapped"].agreement.value == pytest.approx(green.mean())
    assert rows["bands swapped"].miou.value == pytest.approx(1 / 3)
    assert rows["bands swapped"].breaks
    for row in measured.rows:
        assert row.miou.low <= row.miou.value <= row.miou.high
        assert row.agreement.low <= row.agreement.value <= row.agreement.high
    assert "warning: it loses more than 5 points of mIoU under: bands swapped" in str(measured)
    assert "4 images, 4 places: uncertain)" in str(measured)


def test_bands_are_known_by_their_names(manifest: Manifest) -> None:
    for row in manifest.entries:
        make_raster(row.image, pixels=_pixels(row.image)[::-1], bands=("b2", "b1", "b0"))
    measured = robustness(tiny_segmenter(), manifest, options=RobustnessOptions(images=1, resamples=10))
    assert measured.rows[0].miou.value == 1


@pytest.mark.slow
def test_images_of_one_place_are_drawn_together(manifest: Manifest) -> None:
    """Twice each image as one place: the same intervals as of each once, for a place is what is drawn."""
    options = RobustnessOptions(resamples=50)
    once = robustness(tiny_segmenter(), manifest, options=options)
    places = [replace(row, group=row.image.stem) for row in manifest.entries]
    # A window that begins elsewhere and shows the same: the pixels of a row of fields, and all of them.
    grouped = replace(manifest, entries=tuple(row for row in places for _ in range(2)))
    twice = robustness(tiny_segmenter(), grouped, options=options)
    assert (twice.images, twice.groups, once.groups) == (8, 4, 4)
    steady = [row.name for row in once.rows if not row.name.startswith("noise")]
    for one, two in zip(once.rows, twice.rows, strict=True):
        if one.name in steady:
            assert (one.miou, one.loss) == (two.miou, two.loss), one.name
    whole = replace(manifest, entries=tuple(replace(row, group="town") for row in manifest.entries))
    one_place = robustness(tiny_segmenter(), whole, options=options)
    assert one_place.rows[0].to_dict()["miou"] == {"value": 1.0, "low": None, "high": None}
    swapped = next(row for row in one_place.rows if row.name.startswith("bands"))
    assert swapped.breaks  # by its value, for there is no interval
    assert "no interval" in str(swapped.miou)


@pytest.mark.slow
def test_a_model_may_be_an_onnx_file(manifest: Manifest, tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 16, 16)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"class_names": '{"0": "c0", "1": "c1", "2": "c2"}', "seg_thresh": "0"})
    onnx.save(model, tmp_path / "theirs.onnx")
    measured = robustness(tmp_path / "theirs.onnx", manifest, options=RobustnessOptions(images=1, resamples=5))
    assert measured.rows[0].miou.value == 1
    assert evaluate(tmp_path / "theirs.onnx", manifest).miou == 1


def _pixels(path: Path) -> np.ndarray:
    import rasterio

    with rasterio.open(path) as file:
        return np.asarray(file.read())


def test_mean_iou_is_over_classes_that_occur() -> None:
    counts = np.array([[3.0, 1, 0], [0, 4, 0], [0, 0, 0]])
    assert mean_iou(counts) == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert np.isnan(mean_iou(np.zeros((3, 3))))


@pytest.mark.slow
def test_the_command_writes_table_and_picture(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_segmenter().save(tmp_path / "model")
    argv = ["robustness", str(tmp_path / "model"), str(manifest.path), "--out", str(tmp_path / "out")]
    assert main([*argv, "--images", "2", "--resamples", "20"]) == 0
    printed = capsys.readouterr().out
    assert "bands swapped" in printed
    report = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert (report["images"], len(report["rows"])) == (2, 1 + len(PERTURBATIONS))
    lines = (tmp_path / "out" / "robustness.csv").read_text().splitlines()
    assert lines[0].startswith("perturbation,agreement,agreement_low")
    assert len(lines) == 2 + len(PERTURBATIONS)
    with Image.open(tmp_path / "out" / "robustness.png") as picture:
        assert picture.size[0] >= 800
    assert main([*argv, "--images", "2", "--resamples", "20"]) == 0  # over its own
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "robustness.csv").write_text("mine")
    assert main([*argv[:-1], str(tmp_path / "other")]) == 2
    assert main([*argv[:-2], "--images", "0"]) == 2
