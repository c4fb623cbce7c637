"""What `--input` may name: folders of band files, STAC items and collections, tile indexes."""

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import shapely

from factories import make_raster, noise
from geodistill.errors import DataError, RecipeError
from geodistill.inference.inputs import InputScene, find_scenes
from geodistill.raster import Raster

RGB = ("red", "green", "blue")


def band_file(path: Path, number: int, height: int = 20) -> Path:
    return make_raster(path, pixels=np.full((1, height, height), number, np.uint8))


def values(scene: InputScene) -> list[int]:
    """The value of each band, in the order a model gets them."""
    with Raster(scene.source, scene.bands) as raster:
        return [int(v) for v in raster.read()[0][:, 0, 0]]


def test_a_landsat_folder(tmp_path: Path) -> None:
    folder = tmp_path / "LC08_L1TP_193025"
    for number in range(1, 8):
        band_file(folder / f"LC08_L1TP_193025_B{number}.TIF", number)
    (folder / "LC08_MTL.txt").write_text("")
    band_file(folder / "LC08_L1TP_193025_QA_PIXEL.TIF", 99)
    (scene,) = find_scenes([folder], model_bands=RGB)
    assert scene.name == "LC08_L1TP_193025"
    assert values(scene) == [4, 3, 2]
    (scene,) = find_scenes([folder], bands=("5", "B1", "swir16"), model_bands=RGB)
    assert values(scene) == [5, 1, 6]
    with pytest.raises(DataError, match=r"has no file of band 'b9'; expected one of b1, b2"):
        find_scenes([folder], model_bands=("b9",))


def test_a_sentinel_folder_takes_the_finest_of_a_band(tmp_path: Path) -> None:
    safe = tmp_path / "S2A_MSIL2A.SAFE"
    for metres in (10, 20):
        for number in (2, 3, 4):
            path = safe / "GRANULE" / f"R{metres}m" / f"T32UQD_20210612_B0{number}_{metres}m.tif"
            side = 200 // metres
            pixels = np.full((1, side, side), number * 10 + metres // 10, np.uint8)
            make_raster(path, pixels=pixels, transform=_grid(metres))
            make_raster(safe / "GRANULE" / "QI_DATA" / f"MSK_DETFOO_B0{number}.tif", pixels=pixels, transform=_grid(5))
    (scene,) = find_scenes([safe], model_bands=RGB)
    assert scene.name == "S2A_MSIL2A"
    assert values(scene) == [41, 31, 21]


@pytest.mark.parametrize(
    "files",
    [
        ["LE07_L1TP_B{}.TIF", "gap_mask/LE07_L1TP_GM_B{}.TIF"],
        ["LE07_L1TP_B{}.TIF", "LE07_L1TP_GM_B{}.TIF"],
        ["LE71660752003101EDC00_B{}.TIF", "gap_mask/LE71660752003101EDC00_GM_B{}.TIF"],
        ["LE07_L1TP_B{}_VCID_1.TIF", "LE07_L1TP_B{}_VCID_2.TIF"],
        ["R10m_B0{}.tif", "R20m_B0{}.tif"],
        ["T32UQD_B0{}.tif", "T32UQD_B0{}.tiff"],
    ],
)
def test_a_band_of_one_scene_may_have_several_files(files: list[str], tmp_path: Path) -> None:
    for other, name in enumerate(files):
        for number in (2, 3, 4):
            pixels = np.full((1, 20, 20), number + 10 * other, np.uint8)
            make_raster(tmp_path / name.format(number), pixels=pixels, transform=_grid(20 if "R20m" in name else 10))
    (scene,) = find_scenes([tmp_path], bands=("b4", "b3", "b2"))
    assert [Path(source).name for source in scene.sources] == [files[0].format(number) for number in (4, 3, 2)]


@pytest.mark.parametrize("name", ["Banjul_GM_2020_B{}.tif", "clip_GM_B{}.tif"])
def test_a_name_with_the_letters_of_gap_masks_is_no_gap_mask(name: str, tmp_path: Path) -> None:
    for number in (2, 3, 4):
        band_file(tmp_path / name.format(number), number, 20)
    (scene,) = find_scenes([tmp_path], bands=("b4", "b3", "b2"))
    assert [Path(source).name for source in scene.sources] == [name.format(number) for number in (4, 3, 2)]


@pytest.mark.parametrize(
    "files",
    [
        ["06/LC08_L1TP_20210612_B{}.TIF", "07/LC08_L1TP_20210714_B{}.TIF"],
        ["LC08_L1TP_20210612_B{}.TIF", "LC08_L1TP_20210714_B{}.TIF"],
        ["06/LC08_B{}.TIF", "07/LC08_B{}.TIF"],
        ["L8/LC08_L1TP_B{}.TIF", "S2/T32UQD_B0{}.tif"],
    ],
)
@pytest.mark.parametrize("left_out", [None, 2])
def test_a_folder_of_several_scenes_is_refused(files: list[str], left_out: int | None, tmp_path: Path) -> None:
    for scene, name in enumerate(files):
        for number in (2, 3, 4):
            if scene or number != left_out:
                band_file(tmp_path / name.format(number), number, 20 + 20 * name.startswith("S2"))
    with pytest.raises(DataError, match=r"_B0?4.* and .*_B0?4.* hold one band; .*--stack"):
        find_scenes([tmp_path], model_bands=RGB)


def _grid(metres: int) -> Any:
    from rasterio.transform import from_origin

    return from_origin(500_000, 40_000, metres, metres)


def test_a_folder_of_rasters_is_as_many_scenes(tmp_path: Path) -> None:
    for name in ("b.tif", "a.TIF", "below/c.tif"):
        make_raster(tmp_path / name)
    (tmp_path / "a.txt").touch()
    scenes = find_scenes([tmp_path])
    assert [(scene.name, scene.source) for scene in scenes] == [
        (name, str(tmp_path / file)) for name, file in (("a", "a.TIF"), ("b", "b.tif"))
    ]


def test_a_folder_without_rasters_and_no_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no raster in the folder .*; expected files .*\.tif"):
        find_scenes([tmp_path])
    with pytest.raises(DataError, match="no input raster"):
        find_scenes([])


def test_files_given_together(tmp_path: Path) -> None:
    paths = [band_file(tmp_path / f"T32_B0{number}.tif", number) for number in (4, 3, 2)]
    with pytest.raises(RecipeError, match="stack or mosaic"):
        find_scenes(paths, stack=True, mosaic=True)
    (scene,) = find_scenes(paths, stack=True)
    assert (scene.name, values(scene)) == ("T32", [4, 3, 2])
    assert [s.name for s in find_scenes(paths)] == ["T32_B04", "T32_B03", "T32_B02"]


def item(name: str, **assets: Any) -> dict[str, Any]:
    return {"type": "Feature", "stac_version": "1.0.0", "id": name, "assets": assets}


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data))
    return path


def test_a_stac_collection_of_items(tmp_path: Path) -> None:
    for number in (2, 3, 4):
        band_file(tmp_path / f"B0{number}.tif", number)
    make_raster(tmp_path / "whole.tif", pixels=noise((4, 9, 9)))
    bands = {
        f"B0{n}": {"href": f"./B0{n}.tif", "eo:bands": [{"name": f"B0{n}", "common_name": name}]}
        for n, name in ((2, "blue"), (3, "green"), (4, "red"))
    }
    thumbnail = {"href": "t.png", "roles": ["thumbnail"]}
    several = {"href": "whole.tif", "bands": [{"name": "nir"}, {"name": "Red"}, {"name": "green"}, {"name": "blue"}]}
    path = write(
        tmp_path / "items.json",
        {
            "type": "FeatureCollection",
            "features": [
                item("by/band ../x", **bands, thumbnail=thumbnail, metadata={"href": "m.xml"}),
                item("whole", visual=several, thumbnail=thumbnail),
                item("only", image={"href": str(tmp_path / "whole.tif"), "type": "image/tiff"}, thumbnail=thumbnail),
            ],
        },
    )
    by_band, whole, only = find_scenes([path], model_bands=RGB)
    # An item's id comes from outside: it must not lead the map anywhere else.
    assert by_band.name == "by_band_.._x"
    assert values(by_band) == [4, 3, 2]
    assert whole.bands == ("2", "3", "4")
    assert (only.source, only.bands) == (str(tmp_path / "whole.tif"), None)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("not JSON", "is not JSON that can be used"),
        ({"type": "FeatureCollection", "features": []}, "holds no items"),
        ({"type": "Feature", "id": "x"}, "not a STAC item"),
        (item("x", a={"href": "a.tif"}, b={"href": "b.tif"}), r"has 2 raster assets \(a, b\).*--bands"),
    ],
)
def test_what_is_no_stac_item(tmp_path: Path, data: Any, says: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    with pytest.raises(DataError, match=says):
        find_scenes([path], model_bands=("b0", "b1"))


def test_a_band_that_an_item_lacks_is_named_where_it_was_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", item("x", red={"href": "r.tif"}, green={"href": "g.tif"}))
    with pytest.raises(DataError, match=r"item x in .* has no asset for nir; expected one of green, red"):
        find_scenes([path], bands=("red", "nir"))
    (scene,) = find_scenes([path], bands=("green", "red"))
    assert scene.source == (str(tmp_path / "g.tif"), str(tmp_path / "r.tif"))


def test_a_tile_index(tmp_path: Path) -> None:
    frame = geopandas.GeoDataFrame(
        {"location": ["a.tif", "/data/b.tif", "https://host/c.tif"]}, geometry=[shapely.Point(i, 0) for i in range(3)]
    )
    frame.to_parquet(tmp_path / "index.parquet")
    scenes = find_scenes([tmp_path / "index.parquet"])
    assert [scene.source for scene in scenes] == [str(tmp_path / "a.tif"), "/data/b.tif", "https://host/c.tif"]
    assert [scene.name for scene in scenes] == ["a", "b", "c"]


def test_a_stac_geoparquet(tmp_path: Path) -> None:
    rows = [item("one", red={"href": "1r.tif"}, green={"href": "1g.tif"}), item("two", red={"href": "2r.tif"})]
    table = pyarrow.Table.from_pylist([{"id": row["id"], "assets": row["assets"]} for row in rows])
    pyarrow.parquet.write_table(table, tmp_path / "items.parquet")
    one, two = find_scenes([tmp_path / "items.parquet"], model_bands=("red",))
    assert (one.name, one.source, one.bands) == ("one", str(tmp_path / "1r.tif"), ("1",))
    assert two.source == str(tmp_path / "2r.tif")


def test_an_index_that_says_no_place(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "index.parquet")
    with pytest.raises(DataError, match="with the columns x"):
        find_scenes([tmp_path / "index.parquet"])
    (tmp_path / "bad.parquet").write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        find_scenes([tmp_path / "bad.parquet"])
