from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_dataset, make_raster, noise, truncate
from geodistill.data import mask_files
from geodistill.data.manifest import Manifest
from geodistill.data.measure import measure
from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.data.statistics import RunningMoments, Spread, Statistics
from geodistill.data.statistics_text import format_statistics


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(0, 999),
    st.sampled_from(["uint8", "uint16", "float32"]),
)
@settings(deadline=None, max_examples=40)
def test_moments_of_parts_are_those_of_the_whole(sizes: list[int], seed: int, dtype: str) -> None:
    parts = [noise((2, size), dtype, seed + i) for i, size in enumerate(sizes)]
    running, half = RunningMoments(2), RunningMoments(2)
    for i, part in enumerate(parts):
        (running if i % 2 else half).update(part)
    running.merge(half)
    whole = np.concatenate(parts, axis=1).astype(np.float64)
    assert running.count == whole.shape[1]
    if running.count:
        np.testing.assert_allclose(running.mean, whole.mean(1))
        np.testing.assert_allclose(running.std, whole.std(1), atol=1e-9)
        np.testing.assert_array_equal(running.minimum, whole.min(1))
        np.testing.assert_array_equal(running.maximum, whole.max(1))


def test_moments_keep_a_small_deviation_on_a_large_mean() -> None:
    values = 1e6 + noise((1, 10_000), "float32").astype(np.float64)
    running = RunningMoments(1)
    for part in np.array_split(values, 7, axis=1):
        running.update(part)
    assert running.std[0] == pytest.approx(values.std(), rel=1e-9)


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Two images of 100 x 80, the first with a nodata stripe and an ignored stripe."""
    for i in range(2):
        pixels = noise((3, 100, 80), "uint16", i)
        labels = np.zeros((1, 100, 80), np.uint8)
        labels[:, 50:] = 1
        if i == 0:
            pixels[:, :10] = 0
            labels[:, 90:] = 255
        make_raster(tmp_path / "images" / f"{i}.tif", pixels=pixels, nodata=0)
        make_raster(tmp_path / "masks" / f"{i}.tif", pixels=labels)
    (tmp_path / "train.txt").write_text("0\n")
    (tmp_path / "test.txt").write_text("1\n")
    return scan(
        tmp_path, None, tmp_path / "m.parquet", split=SplitPlan("lists", lists=tmp_path), statistics=False
    ).manifest


def test_bands_are_measured_on_valid_pixels_of_train_only(dataset: Manifest) -> None:
    found = measure(dataset)
    pixels = noise((3, 100, 80), "uint16", 0)[:, 10:].reshape(3, -1).astype(np.float64)
    np.testing.assert_allclose(found.mean, pixels.mean(1))
    np.testing.assert_allclose(found.std, pixels.std(1))
    assert found.minimum == tuple(pixels.min(1))
    assert found.splits == ("train",)


def test_labels_are_counted_by_split_where_the_image_is_valid(dataset: Manifest) -> None:
    found = measure(dataset)
    assert found.pixels == {"train": 8000, "test": 8000}
    assert found.valid_pixels == {"train": 7200, "test": 8000}
    assert found.class_pixels == {"train": (3200, 3200), "test": (4000, 4000)}
    assert found.ignored_pixels == {"train": 800, "test": 0}
    assert found.height == Spread(100, 100, 100)
    assert found.gsd is not None
    assert found.gsd.median == pytest.approx(0.5, rel=1e-3)


def test_strips_change_nothing(dataset: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure(dataset)
    cut = lambda window: (replace(window, row=window.row + r, height=1) for r in range(window.height))  # noqa: E731
    monkeypatch.setattr("geodistill.data.measure.strips", cut)
    parts = measure(dataset)
    np.testing.assert_allclose(parts.mean, whole.mean)
    np.testing.assert_allclose(parts.std, whole.std)
    assert parts.class_pixels == whole.class_pixels
    assert mask_files.STRIP_PIXELS > 8000  # the first run was one strip


def test_a_broken_file_is_left_out_and_named(dataset: Manifest) -> None:
    truncate(dataset.entries[1].image)
    found = measure(dataset)
    assert len(found.problems) == 1
    assert "1.tif" in found.problems[0]
    assert found.valid_pixels == {"train": 7200}


def test_labels_outside_the_legend_are_problems_unless_ignored(dataset: Manifest, tmp_path: Path) -> None:
    labels = np.full((1, 100, 80), 7, np.uint8)
    make_raster(tmp_path / "masks" / "1.tif", pixels=labels)
    found = measure(dataset)
    assert found.unknown_labels == {"7": 8000}
    assert "label 7 (8000 pixels)" in found.problems[0]
    found = measure(replace(dataset, ignore_unknown=True))
    assert not found.problems
    assert found.ignored_pixels["test"] == 8000


def test_round_trip_through_json(dataset: Manifest) -> None:
    found = measure(dataset)
    assert Statistics.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize("channels", [1, 4, 13])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_text_names_every_class_and_band(tmp_path: Path, channels: int, dtype: str) -> None:
    manifest = scan(make_dataset(tmp_path, 4, channels=channels, dtype=dtype), None, tmp_path / "m.parquet").manifest
    assert manifest.statistics is not None
    text = format_statistics(manifest.statistics, manifest)
    for word in ("train", "val", "test", "class0", "class2", "(ignored)", "band1", f"band{channels}", "gsd"):
        assert word in text
