"""Made-up scenes: repeatable, true to their masks and boxes, readable by every later step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from geodistill.data.scan import scan
from geodistill.errors import DataError, OutputError
from geodistill.raster import Raster
from geodistill.spec import Legend
from geodistill.synthetic import LEGEND, REGIONS, TownScene, draw_scene, write_dataset, write_scene
from geodistill.synthetic.objects import Building, ObjectFrame, Sun

CLASS = {name: index for index, name in enumerate(LEGEND.names)}


@pytest.fixture(scope="module", params=sorted(REGIONS))
def scene(request: pytest.FixtureRequest) -> TownScene:
    return draw_scene(384, REGIONS[request.param], 3)


@settings(deadline=None, max_examples=12)
@given(
    height=st.integers(16, 150),
    width=st.integers(16, 150),
    region=st.sampled_from(sorted(REGIONS)),
    seed=st.integers(0, 2**32),
)
def test_any_size_and_seed_gives_a_whole_scene(height: int, width: int, region: str, seed: int) -> None:
    scene = draw_scene((height, width), REGIONS[region], seed)
    assert scene.image.shape == (3, height, width)
    assert scene.image.dtype == np.uint8
    assert scene.mask.shape == (height, width)
    assert scene.mask.max() < len(LEGEND)
    assert (scene.grid.height, scene.grid.width) == (height, width)


def test_equal_seeds_give_equal_scenes_and_others_do_not() -> None:
    first, again, other = (draw_scene(96, REGIONS["north"], seed) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert first.grid == again.grid
    assert not np.array_equal(first.image, other.image)
    assert first.grid.transform != other.grid.transform


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REGIONS))
def test_every_class_occurs_in_a_handful_of_scenes(name: str) -> None:
    counts = sum(np.bincount(draw_scene(256, REGIONS[name], s).mask.ravel(), minlength=len(LEGEND)) for s in range(8))
    shares = counts / np.sum(counts)
    assert shares.min() > 0.004, dict(zip(LEGEND.names, shares, strict=True))
    assert shares.max() < 0.6


def test_ground_sampling_distance_and_zone_are_the_regions(scene: TownScene) -> None:
    region = next(r for r in REGIONS.values() if scene.grid.crs.to_epsg() == r.epsg)
    assert scene.grid.gsd == pytest.approx(region.gsd, rel=2e-3)
    lon, lat = scene.grid.lonlat or (0.0, 0.0)
    assert scene.grid.crs.is_projected
    assert (lat > 0) == (region.name == "north")
    assert -180 <= lon <= 180


def explained(image: NDArray[np.float64], mask: NDArray[np.uint8]) -> float:
    """Share of the colour variance that lies between classes."""
    total = image.var(1).sum()
    counts = np.bincount(mask.ravel(), minlength=len(LEGEND)).clip(1)
    within = 0.0
    for band in image:
        means = np.bincount(mask.ravel(), band, len(LEGEND)) / counts
        within += float(((band - means[mask.ravel()]) ** 2).mean())
    return 1 - within / float(total)


def test_mask_fits_the_image_better_than_any_shifted_mask(scene: TownScene) -> None:
    inner = np.s_[4:-4, 4:-4]
    image = scene.image.astype(float)[:, *inner].reshape(3, -1)
    fits = {
        (dy, dx): explained(image, np.roll(scene.mask, (dy, dx), (0, 1))[inner])
        for dy in (-2, -1, 0, 1, 2)
        for dx in (-2, -1, 0, 1, 2)
    }
    assert max(fits, key=lambda shift: fits[shift]) == (0, 0)


def test_shadows_darken_the_image_and_leave_the_classes() -> None:
    high = replace(REGIONS["north"], sun_elevation=80.0, noise=0.0)
    low = replace(high, sun_elevation=25.0)
    noon, evening = draw_scene(256, high, 1), draw_scene(256, low, 1)
    assert np.array_equal(noon.mask, evening.mask)
    assert evening.image.mean() < noon.image.mean() - 3


def test_shadows_fall_away_from_the_sun() -> None:
    south_at_noon = Sun.over(replace(REGIONS["north"], sun_azimuth=180.0, sun_elevation=45.0, gsd=0.5))
    thrown = south_at_noon.throw(np.array([[10.0, 10.0]]), height=4.0)
    assert thrown == pytest.approx(np.array([[10.0, 2.0]]))


def test_regions_differ_in_colour_and_scale() -> None:
    north, south = ([draw_scene(192, REGIONS[name], s) for s in range(4)] for name in ("north", "south"))
    means = [np.mean([scene.image.mean((1, 2)) for scene in scenes], 0) for scenes in (north, south)]
    assert np.abs(means[0] - means[1]).max() > 15
    assert REGIONS["north"].gsd != REGIONS["south"].gsd


def inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    drawn = np.zeros(shape, np.uint8)
    cv2.fillPoly(drawn, [np.round((points - 0.5) * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    return drawn.astype(bool)


def test_boxes_hold_their_objects(scene: TownScene) -> None:
    assert {box.category for box in scene.boxes} == {"building", "car", "tree"}
    for box in scene.boxes:
        part = scene.mask[inside(box.points, scene.mask.shape)]
        assert (part == CLASS[box.category]).any()
        if box.category == "car" and not box.difficult:
            area = float(np.prod([np.linalg.norm(box.points[i] - box.points[i + 1]) for i in (0, 1)]))
            assert (part == CLASS["car"]).sum() >= area / 2


@pytest.mark.parametrize("category", ["building", "car", "tree"])
def test_nearly_every_pixel_of_an_object_lies_in_a_box(scene: TownScene, category: str) -> None:
    covered = np.zeros(scene.mask.shape, bool)
    for box in scene.boxes:
        if box.category == category:
            covered |= inside(box.points, scene.mask.shape)
    of_class = scene.mask == CLASS[category]
    assert covered[of_class].mean() > 0.95


def test_box_of_a_turned_building_is_its_outline() -> None:
    building = Building(ObjectFrame(50.0, 40.0, 0.5, 0.5), ((20.0, 10.0, 0.0, 0.0),), 5.0, "gable", (1, 2, 3))
    box = building.oriented_box()
    sides = sorted(np.linalg.norm(box - np.roll(box, 1, 0), axis=1))
    assert sides == pytest.approx([20, 20, 40, 40], rel=1e-4)
    assert box.mean(0) == pytest.approx([50, 40], rel=1e-4)


def test_written_scene_reads_back(scene: TownScene, tmp_path: Path) -> None:
    path = write_scene(scene, tmp_path, "town")
    assert path == tmp_path / "images" / "town.tif"
    with Raster(path) as raster:
        pixels, valid = raster.read()
        assert raster.grid == scene.grid
        assert raster.band_names == ("red", "green", "blue")
    assert valid.all()
    assert np.array_equal(pixels, scene.image)
    with Raster(tmp_path / "masks" / "town.tif") as raster:
        assert np.array_equal(raster.read_labels()[0][0], scene.mask)
        assert [raster.colormap[i][:3] for i in range(len(LEGEND))] == list(LEGEND.colours)  # type: ignore[index]


def test_annotations_are_in_dota_form(scene: TownScene, tmp_path: Path) -> None:
    write_scene(scene, tmp_path, "town")
    source, gsd, *lines = (tmp_path / "labelTxt" / "town.txt").read_text().splitlines()
    assert source.startswith("imagesource:")
    assert float(gsd.removeprefix("gsd:")) == pytest.approx(scene.grid.transform.a)
    assert len(lines) == len(scene.boxes)
    for line, box in zip(lines, scene.boxes, strict=True):
        *numbers, category, difficult = line.split(" ")
        assert np.array(numbers, float).reshape(4, 2) == pytest.approx(box.points, abs=0.051)
        assert (category, difficult) == (box.category, str(int(box.difficult)))


def test_written_folder_can_be_scanned_with_its_legend(tmp_path: Path) -> None:
    paths = write_dataset(tmp_path, REGIONS["north"], 3, 96, seed=4)
    paths += write_dataset(tmp_path, REGIONS["south"], 2, 96)
    assert [p.stem for p in paths] == ["north_0004", "north_0005", "north_0006", "south_0000", "south_0001"]
    assert Legend.load(tmp_path / "legend.yaml") == LEGEND
    report = scan(tmp_path, out=tmp_path / "manifest.parquet", legend=tmp_path / "legend.yaml")
    assert len(report.manifest.entries) == 5
    assert not report.manifest.problems
    assert {round(row.gsd or 0, 2) for row in report.manifest.entries} == {0.3, 0.5}


def test_impossible_requests_are_told_in_one_line(scene: TownScene, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="8 x 64 pixels; expected at least 16"):
        draw_scene((8, 64), REGIONS["north"], 0)
    (tmp_path / "images").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        write_scene(scene, tmp_path, "town")
