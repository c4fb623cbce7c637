"""Evaluation: the right numbers, the same as `predict` maps, and the files it leaves."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from factories import make_raster, truncate
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.errors import DataError, OutputError, RecipeError, UnknownNameError
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.scoring import ErrorCells, ImageScore, ScoringSettings, read_preview, score_image
from geodistill.inference.network import as_network
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.inference.sliding import stream
from geodistill.inference.windows import Area
from geodistill.metrics import ConfusionMatrix
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX
from tiny import brightest, tiny_segmenter

LAYERS = ("errors.png", "image.webp", "prediction.png", "truth.png")


def counts_by_hand(manifest: Manifest) -> NDArray[np.int64]:
    """Count the band network's answers against the masks, straight from the files."""
    counts = np.zeros((3, 3), np.int64)
    for row in manifest.entries:
        assert row.mask is not None
        with rasterio.open(row.image) as image, rasterio.open(row.mask) as mask:
            pixels, truth = image.read(), mask.read(1)
        for t, p in zip(truth.ravel(), brightest(pixels).ravel(), strict=True):
            if t != IGNORE_INDEX:
                counts[t, p] += 1
    nodata = sum(row.window.width * 2 for row in manifest.entries)
    counts[0, 0] -= nodata  # The two rows without data are class 0 on both sides when read plainly.
    return counts


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_scores_are_those_of_one_matrix_over_the_split(
    manifest: Manifest, segmenter: Segmenter, overlap: float
) -> None:
    scores = evaluate(segmenter, manifest, options=EvaluateOptions(overlap=overlap, device="cpu"))
    np.testing.assert_array_equal(scores.counts, counts_by_hand(manifest))
    assert scores.oa == np.trace(scores.counts) / scores.counts.sum()
    assert 0.8 < scores.miou < 1


def test_evaluate_and_predict_see_the_same_numbers(tmp_path: Path, manifest: Manifest) -> None:
    segmenter = tiny_segmenter("context", tile=16)
    matrix = ConfusionMatrix(3)
    for i, row in enumerate(manifest.entries):
        assert row.mask is not None
        options = PredictOptions(overlap=0.5, probabilities="float32", device="cpu")
        (made,) = predict(segmenter, [row.image], tmp_path / f"p{i}.tif", options)
        with Raster(row.image) as raster:
            area = Area(raster, row.window)
            parts = list(stream(as_network(segmenter), area, area.windows(16, 0.5), options, batch=4))
        scored = np.concatenate([part.layers["probabilities"] for part in parts], 1)
        valid = np.concatenate([part.valid for part in parts])
        assert made.probabilities is not None
        with rasterio.open(made.probabilities) as file:
            assert np.abs(file.read() - scored)[:, valid].max() < 1e-5
        with rasterio.open(made.path) as file, rasterio.open(row.mask) as mask:
            classes, truth = file.read(1), mask.read(1)
        matrix.update(classes, np.where(classes == IGNORE_INDEX, np.uint8(IGNORE_INDEX), truth))
    scores = evaluate(segmenter, manifest, options=EvaluateOptions(overlap=0.5, device="cpu"))
    np.testing.assert_array_equal(scores.counts, matrix.counts)


def test_bands_are_known_by_their_names(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    options = EvaluateOptions(device="cpu")
    expected = evaluate(segmenter, manifest, options=options).counts
    rows = []
    for row in manifest.entries:
        with Raster(row.image) as raster:
            pixels = raster.read()[0]
        # Another order, and a band more than the model has.
        pixels = np.concatenate([pixels[::-1], pixels.max(0, keepdims=True)])
        image = make_raster(tmp_path / row.image.name, pixels=pixels, nodata=0, bands=("b2", "b1", "b0", "nir"))
        rows.append(replace(row, image=image))
    named = replace(manifest, entries=tuple(rows), bands=("b2", "b1", "b0", "nir"))
    np.testing.assert_array_equal(evaluate(segmenter, named, options=options).counts, expected)
    network, legend, settings = as_network(segmenter), segmenter.spec.legend, ScoringSettings()
    one, other = (
        read_preview(network, score_image(network, each.entries[0], legend, settings), legend, settings)
        for each in (manifest, named)
    )
    np.testing.assert_array_equal(one.image, other.image)


def test_too_many_bands_are_refused_without_flags_that_evaluate_lacks(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter
) -> None:
    row = manifest.entries[0]
    image = make_raster(tmp_path / "four.tif", height=40, width=50, channels=4, dtype="uint16")
    four = replace(manifest, entries=(replace(row, image=image),))
    with pytest.raises(DataError, match=r"has 4 bands; expected 3 .* for this model$"):
        evaluate(segmenter, four, options=EvaluateOptions(device="cpu"))


def test_mirrors_change_the_scores_of_a_network_with_context(manifest: Manifest) -> None:
    segmenter = tiny_segmenter("context", tile=16)
    plain = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"))
    mirrored = evaluate(segmenter, manifest, options=EvaluateOptions(flips=True, device="cpu"))
    assert plain.support.tolist() == mirrored.support.tolist()
    assert not np.array_equal(plain.counts, mirrored.counts)


def test_it_leaves_tables_pictures_and_images_to_look_at(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter
) -> None:
    out = tmp_path / "out"
    scores = evaluate(segmenter, manifest, "test", out, EvaluateOptions(subset=["c0", "c1"], device="cpu", worst=2))
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*")) == [
        ".geodistill.json",
        "confusion.png",
        "metrics.csv",
        "metrics.json",
        "per_image.csv",
        "shown",
        "shown/.geodistill.json",
        *(f"shown/best-001-{layer}" for layer in LAYERS),
        *(f"shown/median-001-{layer}" for layer in LAYERS),
        "shown/shown.json",
        *(f"shown/worst-001-{layer}" for layer in LAYERS),
    ]
    data = json.loads((out / "metrics.json").read_text())
    assert data["miou"] == pytest.approx(scores.iou[:2].mean())
    assert data["means_over"] == ["c0", "c1"]
    assert data["classes"]["c2"]["pixels"] == scores.support[2]
    assert (data["about"]["split"], data["about"]["images"]) == ("test", 3)
    with (out / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == ["c0", "c1", "c2", "(mean)", "(overall accuracy)"]
    assert float(lines[0]["iou"]) == pytest.approx(scores.iou[0], abs=1e-6)
    assert float(lines[3]["f1"]) == pytest.approx(scores.mf1, abs=1e-6)
    with (out / "per_image.csv").open() as file:
        images = list(csv.DictReader(file))
    assert [Path(line["image"]).name for line in images] == ["image <0>.tif", "image <1>.tif", "image <2>.tif"]
    assert float(images[0]["miou"]) == 1
    assert sum(int(line["pixels"]) for line in images) == scores.support.sum()


def test_results_replace_those_before_and_leave_other_files(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter
) -> None:
    out = tmp_path / "out"
    evaluate(segmenter, manifest, "test", out, EvaluateOptions(device="cpu"))
    (out / "notes.txt").write_text("mine")
    (out / "shown" / "worst-001-image.webp").write_bytes(b"")
    evaluate(segmenter, manifest, "test", out, EvaluateOptions(device="cpu", worst=1))
    assert (out / "shown" / "worst-001-image.webp").read_bytes()[:4] == b"RIFF"
    assert len(list((out / "shown").iterdir())) == 2 + 3 * len(LAYERS)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_row_that_is_a_part_of_a_scene_is_all_that_is_scored(manifest: Manifest, segmenter: Segmenter) -> None:
    row = manifest.entries[2]
    part = replace(row, window=Window(9, 20, 8, 30))
    matrix = score_image(as_network(segmenter), part, segmenter.spec.legend, ScoringSettings()).matrix
    assert matrix.counts.sum() == 8 * 30


def test_the_part_with_most_errors_is_found_in_a_large_image(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(1, 200, (3, 400, 300), dtype=np.uint8)
    truth = brightest(pixels)
    truth[290:310, 150:170] = (truth[290:310, 150:170] + 1) % 3
    truth[:300, 290:] = IGNORE_INDEX
    row = Row(
        make_raster(tmp_path / "i.tif", pixels=pixels),
        make_raster(tmp_path / "m.tif", pixels=truth[None]),
        "test",
        Window(40, 0, 360, 300),
    )
    monkeypatch.setattr("geodistill.evaluation.scoring.PART", 128)
    score = score_image(as_network(segmenter), row, segmenter.spec.legend, ScoringSettings())
    part = score.part
    assert (part.height, part.width) == (128, 128)
    assert part.row <= 290
    assert part.row + 128 >= 310
    assert part.col <= 150
    assert part.col + 128 >= 170
    asked: list[str | None] = []

    def watched(network: Any, area: Any, windows: Any, options: Any, **more: Any) -> Any:
        asked.append(options.probabilities)
        return stream(network, area, windows, options, **more)

    monkeypatch.setattr("geodistill.evaluation.scoring.stream", watched)
    network = replace(as_network(segmenter), class_sets={"0.9": 0.5})
    seen = read_preview(network, score, segmenter.spec.legend, ScoringSettings())
    assert asked == [None]  # a picture shows no probabilities
    np.testing.assert_array_equal(seen.image, pixels[(slice(None), *part.slices)])
    np.testing.assert_array_equal(seen.truth, truth[part.slices])
    assert (seen.truth != seen.prediction).sum() == 400


def test_the_score_of_an_image_is_over_the_classes_its_labels_hold(manifest: Manifest, segmenter: Segmenter) -> None:
    legend = segmenter.spec.legend
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    score = ImageScore(manifest.entries[0], matrix, Window(0, 0, 1, 4))
    assert score.miou(legend, legend.names) == 0.75
    assert score.oa == 0.75
    assert np.isnan(score.miou(legend, ["c1"]))
    assert np.isnan(ImageScore(manifest.entries[0], ConfusionMatrix(3), Window(0, 0, 1, 4)).oa)


def test_error_cells_of_odd_sizes() -> None:
    wrong = np.zeros((130, 70), bool)
    wrong[128:, 66:] = True
    cells = ErrorCells(130, 70)
    for first in range(0, 130, 33):
        cells.add(first, wrong[first : first + 33])
    assert cells.worst(64) == Window(66, 6, 64, 64)
    assert cells.worst(1000) == Window(0, 0, 130, 70)
    assert ErrorCells(10, 10).worst(64) == Window(0, 0, 10, 10)


def test_a_table_in_percent(manifest: Manifest, segmenter: Segmenter) -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    lines = str(matrix.scores(segmenter.spec.legend, ["c0", "c1"])).splitlines()
    assert lines[0].split() == ["class", "IoU", "F1", "prec", "recall", "pixels"]
    assert lines[1].split() == ["c0", "66.67", "80.00", "100.00", "66.67", "3"]
    assert lines[3].split() == ["c2", "-", "-", "-", "-", "0"]
    assert lines[4].split()[:3] == ["mean", "*", "58.33"]
    assert lines[5] == "overall accuracy 75.00"
    assert lines[6] == "* over c0, c1"
    assert len({len(line) for line in lines[:5]}) == 1


@pytest.mark.slow
def test_the_verb_prints_the_table_or_json(
    tmp_path: Path, manifest: Manifest, segmenter: Segmenter, capsys: pytest.CaptureFixture[str]
) -> None:
    segmenter.save(tmp_path / "model")
    manifest.save(tmp_path / "manifest.parquet")
    argv = ["evaluate", "--model", str(tmp_path / "model"), "--manifest", str(tmp_path / "manifest.parquet")]
    argv += ["--out", str(tmp_path / "out"), "--device", "cpu", "--classes", "c0", "c2"]
    assert main(argv) == 0
    assert "overall accuracy" in capsys.readouterr().out
    assert main([*argv, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["means_over"] == ["c0", "c2"]
    (tmp_path / "data" / "mask_1.tif").unlink()
    (tmp_path / "out2").mkdir()
    assert main([*argv, "--out", str(tmp_path / "out2")]) == 2
    error = capsys.readouterr().err
    assert "mask_1.tif" in error
    assert error.count("\n") == 1
    assert list((tmp_path / "out2").iterdir()) == []


def test_what_cannot_be_scored_is_refused(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    legend = segmenter.spec.legend
    with pytest.raises(DataError, match="no 'val' images"):
        evaluate(segmenter, manifest, "val")
    with pytest.raises(DataError, match="the classes a, b; expected the model's: c0, c1, c2"):
        evaluate(segmenter, replace(manifest, legend=type(legend)(("a", "b"))))
    with pytest.raises(UnknownNameError, match="unknown class 'clutter'"):
        evaluate(segmenter, manifest, options=EvaluateOptions(subset=["clutter"]))
    with pytest.raises(RecipeError, match="overlap"):
        evaluate(segmenter, manifest, options=EvaluateOptions(overlap=1))
    with pytest.raises(DataError, match="has 3 bands; expected 4"):
        evaluate(tiny_segmenter(channels=4), manifest, options=EvaluateOptions(device="cpu"))
    with pytest.raises(DataError, match="something is wrong"):
        evaluate(segmenter, replace(manifest, problems=("something is wrong",)))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file is not a directory"):
        evaluate(segmenter, manifest, "test", tmp_path / "file" / "out")


def test_files_that_changed_since_the_scan(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    first, second, third = manifest.entries
    assert first.mask is not None
    legend = segmenter.spec.legend

    def score(row: Row) -> None:
        score_image(as_network(segmenter), row, legend, ScoringSettings())

    with pytest.raises(DataError, match="has no mask"):
        score(replace(first, mask=None))
    with pytest.raises(DataError, match=r"mask .*mask_1.tif is 20 x 30 and its image .* is 50 x 40"):
        score(replace(first, mask=second.mask))
    with pytest.raises(DataError, match="the size it had when scanned"):
        score(replace(third, window=Window(0, 0, 18, 64)))
    make_raster(first.mask, pixels=np.full((1, 40, 50), 7, np.uint8))
    with pytest.raises(DataError, match=r"label 7 \(\d+ pixels\) outside the legend"):
        score(first)
    assert (
        score_image(as_network(segmenter), first, legend, ScoringSettings(ignore_unknown=True)).matrix.counts.sum() == 0
    )
    with pytest.raises(DataError, match="no labelled pixel"):
        evaluate(
            segmenter, replace(manifest, entries=(first,), ignore_unknown=True), options=EvaluateOptions(device="cpu")
        )
    truncate(make_raster(third.image, height=17, width=64, tiled=True), 0.8)
    with pytest.raises(DataError, match="truncated"):
        score(third)


@pytest.mark.parametrize("area", [Window(0, 0, 24, 32), Window(6, 9, 13, 17)])
def test_images_are_segmented_at_another_resolution_and_scored_on_their_own_labels(
    tmp_path: Path, segmenter: Segmenter, area: Window
) -> None:
    bands = np.random.default_rng(0).integers(0, 3, (6, 8)).repeat(4, 0).repeat(4, 1)
    speckled = bands.copy()
    speckled[1::4, 1::4] = (bands[1::4, 1::4] + 1) % 3  # one pixel of the sixteen that a pixel of 2 m holds
    pixels = (10 + 100 * (np.arange(3)[:, None, None] == speckled)).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": from_origin(368000, 5807000, 0.5, 0.5)}
    image = make_raster(tmp_path / "image.tif", pixels=pixels, **place)
    mask = make_raster(tmp_path / "mask.tif", pixels=bands.astype(np.uint8)[None], **place)
    manifest = Manifest((Row(image, mask, "test", area),), ("b0", "b1", "b2"), segmenter.spec.legend)
    coarse = evaluate(segmenter, manifest, options=EvaluateOptions(gsd=2.0, device="cpu"))
    assert coarse.oa == 1.0
    assert coarse.support.sum() == area.height * area.width
    rows, cols = slice(area.row, area.row + area.height), slice(area.col, area.col + area.width)
    longest = max(area.height, area.width) * 8 // 32  # as many pixels as at 2 m
    if longest * 4 == max(area.height, area.width):
        assert evaluate(segmenter, manifest, options=EvaluateOptions(resize=longest, device="cpu")).oa == 1.0
    native = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"))
    assert native.oa == pytest.approx((speckled == bands)[rows, cols].mean())
    with pytest.raises(RecipeError, match="metres per pixel"):
        EvaluateOptions(gsd=0.0)
    with pytest.raises(RecipeError, match="one of them"):
        EvaluateOptions(gsd=2.0, resize=64)
    nowhere = Row(make_raster(tmp_path / "nowhere.tif", pixels=pixels, crs=None), mask, "test", area, gsd=0.5)
    known, unknown = (replace(manifest, entries=(row,)) for row in (nowhere, replace(nowhere, gsd=None)))
    assert evaluate(segmenter, known, options=EvaluateOptions(gsd=2.0, device="cpu")).oa == 1.0
    with pytest.raises(DataError, match="evaluate without --gsd"):
        evaluate(segmenter, unknown, options=EvaluateOptions(gsd=2.0, device="cpu"))
