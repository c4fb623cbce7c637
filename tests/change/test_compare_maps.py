"""What changed between two maps: areas, patches, shifts, legends, grids; the same for any strips, in flat memory."""

import colorsys
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import Affine, from_origin
from scipy.ndimage import label

from class_maps import LEGEND, blobs, hide, read, write_map
from factories import make_raster
from geodistill.change.compare_maps import ChangeOptions, MapChange, compare_maps
from geodistill.change.legends import change_legend, common_classes, parse_renames
from geodistill.change.map_pair import may_be_shifted
from geodistill.change.matrix import ChangeMatrix
from geodistill.cli import main
from geodistill.errors import DataError, GeodistillWarning, OutputError, RecipeError, UnknownNameError
from geodistill.spec import IGNORE_INDEX, Legend

PLACE = from_origin(500_000, 40_000, 10, 10)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write_map(tmp_path / "before.tif", blobs(120, 90, 1), "EPSG:32636", PLACE),
        write_map(tmp_path / "after.tif", blobs(120, 90, 2), "EPSG:32636", PLACE),
    )


def compare(pair: tuple[Path, Path], **options: object) -> tuple[MapChange, NDArray[np.uint8]]:
    made = compare_maps(*pair, pair[0].with_name("change.tif"), ChangeOptions(**options))  # type: ignore[arg-type]
    with rasterio.open(made.path) as file:
        return made, file.read(1)


def test_the_matrix_and_the_map_say_what_became_what(pair: tuple[Path, Path]) -> None:
    made, changes = compare(pair)
    before, after = blobs(120, 90, 1), blobs(120, 90, 2)
    known = (before < 3) & (after < 3)
    expected = np.zeros((3, 3))
    np.add.at(expected, (before[known], after[known]), 100.0)
    np.testing.assert_allclose(made.matrix.areas, expected)
    assert made.matrix.unit == "m2"
    assert made.matrix.dismissed == 0
    assert made.matrix.changed == pytest.approx(100 * (before != after)[known].sum())
    assert ((changes == IGNORE_INDEX) == ~known).all()
    with rasterio.open(made.path) as file:
        names = json.loads(file.tags()["LEGEND"])["names"]
        assert (file.crs.to_epsg(), file.transform) == (32636, PLACE)
        assert file.tags()["BEFORE"] == "before.tif"
    assert names[0] == "unchanged"
    assert ((changes == 0) == (known & (before == after))).all()
    for index, name in enumerate(names[1:], 1):
        old, _, new = name.partition(" to ")
        own = known & (before == LEGEND.names.index(old)) & (after == LEGEND.names.index(new))
        assert ((changes == index) == own).all()
    assert sorted(p.name for p in made.path.parent.iterdir()) == [
        *("after.tif", "before.tif", "change.qml", "change.tif", "change.tif.aux.xml")
    ]


def test_what_an_earlier_comparison_left_goes_and_what_a_person_changed_stays(pair: tuple[Path, Path]) -> None:
    before, after = pair
    out = before.with_name("change.tif")
    likely = np.full((1, 120, 90), 200, np.uint8)
    sure = [make_raster(out.with_name(f"{name}.tif"), pixels=likely, transform=PLACE) for name in "ab"]
    compare_maps(before, after, out, ChangeOptions(vector="gpkg"), confidence=sure)
    maps = {"before.tif", "after.tif", "a.tif", "b.tif", "change.qml", "change.tif", "change.tif.aux.xml"}
    assert {p.name for p in out.parent.iterdir()} == maps | {"change.gpkg", "change_confidence.tif"}
    compare_maps(after, before, out, ChangeOptions(vector="geojson"))
    assert {p.name for p in out.parent.iterdir()} == maps | {"change.geojson"}
    out.with_suffix(".geojson").write_text("mine")
    with pytest.raises(OutputError, match="changed since"):
        compare_maps(before, after, out)
    assert out.with_suffix(".geojson").read_text() == "mine"


def test_changes_under_the_least_area_are_none(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole, changes = compare(pair)
    made, kept = compare(pair, min_area=4000.0)
    expected = np.zeros(changes.shape, bool)
    with rasterio.open(whole.path.with_name("change.tif")) as file:
        names = json.loads(file.tags()["LEGEND"])["names"]
    assert 1 < len(names) <= 7
    for index in range(1, 7):
        patches, _ = label(changes == index)
        expected |= (np.bincount(patches.ravel())[patches] >= 40) & (patches > 0)
    assert expected.any()
    assert ((kept > 0) & (kept < 255) == expected).all()
    lost = ((changes > 0) & (changes < 255) & ~expected).sum()
    assert made.matrix.dismissed == pytest.approx(100 * lost)
    assert made.matrix.areas.sum() == pytest.approx(whole.matrix.areas.sum())
    first = made.path.read_bytes()
    monkeypatch.setattr("geodistill.inference.any_map.STRIP", 13)
    again, strips = compare(pair, min_area=4000.0, tolerance=1)
    assert (strips == compare(pair, min_area=4000.0, tolerance=1)[1]).all()
    assert compare(pair, min_area=4000.0)[0].path.read_bytes() == first
    assert again.matrix.changed < made.matrix.changed


def test_a_change_of_exactly_the_least_area_stays(tmp_path: Path) -> None:
    before, after = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    after[5:15, 5:15] = 1
    place = from_origin(500_000.1, 4_000_000.3, 0.3, 0.3)
    maps = [write_map(tmp_path / f"{i}.tif", each, "EPSG:32636", place) for i, each in enumerate((before, after))]
    made = compare_maps(*maps, tmp_path / "change.tif", ChangeOptions(min_area=100 * 0.3 * 0.3))
    assert made.matrix.changed == pytest.approx(9)


def test_shifts_are_no_changes_and_new_things_are() -> None:
    before = np.zeros((40, 60), np.uint8)
    before[:, 20:40] = 1
    shifted = np.roll(before, 2, axis=1)
    assert may_be_shifted(before, shifted, before != shifted, 2).sum() == (before != shifted).sum()
    assert not may_be_shifted(before, shifted, before != shifted, 1).all()
    new = before.copy()
    new[10, 5] = 2  # a single pixel of its own
    new[20:30, 40:50] = 1  # what grew by ten
    dismissed = may_be_shifted(before, new, before != new, 2)
    assert not dismissed[10, 5]
    assert not dismissed[20:30, 42:50].any()
    assert not (dismissed & (before == new)).any()


def test_confidences_of_both_lie_beside(pair: tuple[Path, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sure = rng.integers(0, 251, (2, 120, 90)).astype(np.uint8)
    sure[:, :3, :5] = IGNORE_INDEX
    paths = [
        write_map(tmp_path / f"{name}_confidence.tif", one, "EPSG:32636", PLACE)
        for name, one in zip(("before", "after"), sure, strict=True)
    ]
    made = compare_maps(*pair, tmp_path / "change.tif", ChangeOptions(vector="gpkg"), confidence=paths)
    with rasterio.open(tmp_path / "change_confidence.tif") as file:
        bands = file.read()
        assert file.descriptions == ("confidence", "before", "after")
        assert file.scales == (1 / 250,) * 3
    inside = sure[0] != IGNORE_INDEX
    assert (bands[1:, inside] == sure[:, inside]).all()
    np.testing.assert_allclose(bands[0, inside], np.prod(sure[:, inside] / 250, axis=0) * 250, atol=0.51)
    assert (bands[:, ~inside] == IGNORE_INDEX).all()
    assert made.vectors is not None
    frame = read(made.vectors.path)
    assert not (frame["class"] == 0).any()
    assert frame["area_m2"].sum() == pytest.approx(made.matrix.changed)
    assert frame["confidence"].between(0, 1).all()
    assert frame["name"].str.contains(" to ").all()
    with pytest.raises(RecipeError, match="1 maps of confidence"):
        compare_maps(*pair, tmp_path / "c.tif", confidence=paths[:1])
    odd = make_raster(tmp_path / "odd.tif", pixels=np.zeros((1, 120, 90), np.float32), transform=PLACE)
    with pytest.raises(DataError, match=r"odd\.tif holds float32"):
        compare_maps(*pair, tmp_path / "c.tif", confidence=[odd, odd])


def test_legends_that_differ_are_refused_with_a_mapping(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = Legend(("Field", "road", "houses", "barn"))
    after = write_map(tmp_path / "other.tif", blobs(120, 90, 2), "EPSG:32636", PLACE, other)
    with pytest.raises(DataError, match=r"first map alone has field, house.*'field=Field' 'house=houses' 'barn=NEW'"):
        compare_maps(pair[0], after, tmp_path / "change.tif")
    renames = parse_renames(["field=Field", "house=houses", "barn=houses"])
    made = compare_maps(pair[0], after, tmp_path / "change.tif", ChangeOptions(renames=renames))
    assert made.matrix.names == ("Field", "road", "houses")
    plain = compare_maps(*pair, tmp_path / "change.tif")
    np.testing.assert_allclose(made.matrix.areas, plain.matrix.areas)
    with pytest.raises(UnknownNameError, match="unknown class 'tree'"):
        common_classes(LEGEND, other, {"tree": "road"})
    for text in ("field", "=a", "a="):
        with pytest.raises(RecipeError, match="expected OLD=NEW"):
            parse_renames([text])
    order = common_classes(LEGEND, Legend(("house", "road", "field")), {})
    assert order.before[:3].tolist() == [2, 1, 0]
    assert order.before[IGNORE_INDEX] == IGNORE_INDEX
    with pytest.raises(DataError, match="300 kinds of change"):
        change_legend(Legend(tuple(map(str, range(20)))), [(0, 1)] * 300)


def test_another_grid_is_refused_or_aligned(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The second map lies two columns further right and reaches less far down."""
    moved = write_map(
        tmp_path / "moved.tif", blobs(120, 90, 2)[:100, 2:], "EPSG:32636", PLACE @ Affine.translation(2, 0)
    )
    with pytest.raises(DataError, match=r"two maps on one grid; --align"):
        compare_maps(pair[0], moved, tmp_path / "change.tif")
    made, changes = compare((pair[0], moved), align=True)
    _, whole = compare(pair)
    assert (changes[:100, 2:] > 0).tolist() == (whole[:100, 2:] > 0).tolist()
    assert (changes[100:] == IGNORE_INDEX).all()
    assert (changes[:, :2] == IGNORE_INDEX).all()
    degrees = write_map(tmp_path / "degrees.tif", blobs(10, 10), "EPSG:4326", from_origin(33, 0.36, 1e-4, 1e-4))
    with pytest.raises(DataError, match=r"33, 0\.36, WGS 84"):
        compare_maps(pair[0], degrees, tmp_path / "change.tif")
    assert made.matrix.unit == "m2"


@pytest.mark.parametrize("min_area", [0.0, 500.0])
def test_maps_with_little_or_nothing_in_common(pair: tuple[Path, Path], min_area: float) -> None:
    def moved(columns: int) -> Path:
        place = PLACE @ Affine.translation(columns, 0)
        return write_map(pair[0].with_name(f"moved{columns}.tif"), blobs(120, 90, 2), "EPSG:32636", place)

    with pytest.raises(
        DataError, match=r"before.tif \(x 500000 to 500900, .* and moved90.tif \(x 500900 to 501800, .*36"
    ):
        compare((pair[0], moved(90)), align=True, min_area=min_area)
    assert not pair[0].with_name("change.tif").exists()
    with pytest.warns(GeodistillWarning, match=r"moved80.tif has data for \d+\.\d% of before.tif"):
        compare((pair[0], moved(80)), align=True, min_area=min_area)
    hide(pair[1], np.ones((120, 90), bool), inside=True)
    with pytest.raises(DataError, match="no pixel has data in both"):
        compare(pair, min_area=min_area)


def test_nothing_is_written_over_what_is_read(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would be overwritten"):
        compare_maps(*pair, pair[1])
    with pytest.raises(OutputError, match=r"ends in \.tif"):
        compare_maps(*pair, tmp_path / "change.png")
    plain = make_raster(tmp_path / "plain.tif", channels=1)
    with pytest.raises(DataError, match="holds no legend"):
        compare_maps(plain, pair[1], tmp_path / "change.tif")
    for numbers in ({"tolerance": 65}, {"tolerance": -1}, {"min_area": -1.0}):
        with pytest.raises(RecipeError):
            ChangeOptions(**numbers)  # type: ignore[arg-type]


def test_a_corrupt_map_leaves_nothing_behind(tmp_path: Path) -> None:
    maps = []
    for seed, name in enumerate(("before", "after")):
        more = {"tiled": True, "compress": "deflate"}
        maps.append(write_map(tmp_path / f"{name}.tif", blobs(600, 600, seed), "EPSG:32636", PLACE, **more))
    data = bytearray(maps[1].read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    maps[1].write_bytes(data)
    with pytest.raises(DataError, match="after"):
        compare_maps(*maps, tmp_path / "change.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["after.tif", "before.tif"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    peaks = []
    for height in (1024, 8192):
        small = [blobs(height // 16, 20, seed).repeat(16, 0).repeat(16, 1) for seed in (1, 2)]
        maps = [
            write_map(tmp_path / f"{height}_{at}.tif", one, "EPSG:32636", PLACE, tiled=True)
            for at, one in enumerate(small)
        ]
        tracemalloc.start()
        compare_maps(*maps, tmp_path / "change.tif", ChangeOptions(tolerance=1, min_area=3000, vector="parquet"))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_the_command_line_prints_writes_and_refuses(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["change", *map(str, pair), "--out", str(tmp_path / "change.tif")]
    table = tmp_path / "change.csv"
    assert main([*command, "--vector", "fgb", "--csv", str(table), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert len(geopandas.read_file(about["vectors"])) > 0
    assert {change["from"] for change in about["changes"]} == set(LEGEND.names)
    matrix = pd.read_csv(table, index_col=0)
    assert matrix.loc["sum after", "sum before"] == pytest.approx(about["area"])
    assert matrix.loc["road", "house"] == pytest.approx(about["matrix"][1][2])
    assert main(command) == 0
    text = capsys.readouterr().out
    assert "from \\ to (ha)" in text
    assert "changed " in text
    assert main([*command, "--device", "cpu"]) == 2
    assert "without --model" in capsys.readouterr().err
    assert main([*command, "--map", "x"]) == 2


def test_changes_of_one_name_are_told_apart() -> None:
    classes = Legend(("x", "x to y", "y", "y to z", "z"))
    names = change_legend(classes, [(0, 3), (1, 4), (0, 4)]).names
    assert names == ("unchanged", "'x' to 'y to z'", "'x to y' to 'z'", "x to z")


def test_changes_to_one_class_differ_in_hue() -> None:
    classes = Legend(("water", "bare", "green"), ((48, 96, 192), (192, 160, 96), (48, 160, 64)))
    _, water, bare = change_legend(classes, [(0, 2), (1, 2)]).colours
    hues = [colorsys.rgb_to_hsv(*(value / 255 for value in colour))[0] for colour in (water, bare)]
    assert abs(hues[0] - hues[1]) > 0.1
    assert all(colour[1] == max(colour) for colour in (water, bare))


def test_hectares_have_decimals_enough_for_the_map() -> None:
    drone = ChangeMatrix(("grass", "house"), np.array([[600.0, 36.0], [0.0, 25.0]]), "m2", 4.0)
    for text in ("0.060000  0.003600", "changed 0.003600 ha (5.45%)", "too small 0.000400 ha"):
        assert text in str(drone)
    assert "changed 0.35 ha" in str(replace(drone, areas=np.array([[1.2e8, 3500], [0, 0]])))
    assert "60,000,000  3,600,000" in str(replace(drone, areas=drone.areas * 1e9))


@pytest.mark.parametrize("align", [False, True])
def test_what_a_mask_hides_in_either_map_is_not_compared(pair: tuple[Path, Path], align: bool) -> None:
    hidden = np.zeros((2, 120, 90), bool)
    hidden[0, 40:80, :50] = hidden[1, :60, 30:] = True
    for path, where, inside in zip(pair, hidden, (True, False), strict=True):
        hide(path, where, inside=inside)
    made, changes = compare(pair, align=align)
    before, after = blobs(120, 90, 1), blobs(120, 90, 2)
    known = (before < 3) & (after < 3) & ~hidden.any(0)
    expected = np.zeros((3, 3))
    np.add.at(expected, (before[known], after[known]), 100.0)
    np.testing.assert_allclose(made.matrix.areas, expected)
    assert ((changes == IGNORE_INDEX) == ~known).all()


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16"])
def test_a_class_that_is_the_files_nodata_is_kept_by_align(tmp_path: Path, pair: tuple[Path, Path], kind: str) -> None:
    """The second map lies two columns further right; its legend leaves no value that means no data."""
    after = np.random.default_rng(3).integers(0, 3, (120, 88))
    profile = {"driver": "GTiff", "dtype": kind, "count": 1, "height": 120, "width": 88, "nodata": 0}
    place = PLACE @ Affine.translation(2, 0)
    with rasterio.open(tmp_path / "cover.tif", "w", crs="EPSG:32636", transform=place, **profile) as file:
        file.write(after.astype(kind), 1)
    options, out = ChangeOptions(align=True), tmp_path / "change.tif"
    made = compare_maps(pair[0], tmp_path / "cover.tif", out, options, legends=[LEGEND])
    before = blobs(120, 90, 1)[:, 2:]
    expected = np.zeros((3, 3))
    np.add.at(expected, (before[before < 3], after[before < 3]), 100.0)
    np.testing.assert_allclose(made.matrix.areas, expected)


def test_maps_of_other_makers(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    """Values by a legend file, on another grid, give what the same map as ours gives."""
    ours, _ = compare(pair, align=True)
    values = np.array([30, 10, 20], np.uint16)  # of field, road, house
    classes = np.where(blobs(120, 90, 2) < 3, values[np.minimum(blobs(120, 90, 2), 2)], np.uint16(9))
    foreign = tmp_path / "cover.tif"
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": 120, "width": 90, "nodata": 9}
    with rasterio.open(foreign, "w", crs="EPSG:32636", transform=PLACE, **profile) as file:
        file.write(classes, 1)
    legend = tmp_path / "cover.yaml"
    legend.write_text("classes:\n  field: 30\n  road: 10\n  house: 20\n", encoding="utf-8")
    command = ["change", str(pair[0]), str(foreign), "--out", str(tmp_path / "other.tif"), "--align"]
    assert main(command) == 2
    assert main([*command, "--legend", str(legend)]) == 0
    with rasterio.open(tmp_path / "other.tif") as made, rasterio.open(ours.path) as expected:
        np.testing.assert_array_equal(made.read(1), expected.read(1))
        assert made.tags()["AFTER"] == "cover.tif"
    assert main([*command, "--legend", *[str(legend)] * 3]) == 2
