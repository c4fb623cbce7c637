from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest, Row
from geodistill.data.patches import cut_patches, stretched
from geodistill.errors import DataError, OutputError, UnknownNameError
from geodistill.folders import MARKER
from geodistill.raster import Raster, Window
from geodistill.spec import Legend

LEGEND = Legend(("clear", "cloud"), values=(128, 255), ignore_values=(0,))


def scene(folder: Path, height: int = 70, width: int = 100) -> Manifest:
    pixels = noise((5, height, width), "uint16")
    pixels[:, :32, :32] = 0  # a corner without data
    mask = np.where(noise((1, height, width), seed=1) > 100, 255, 128).astype(np.uint8)
    image = make_raster(folder / "s" / "scene.tif", pixels=pixels, nodata=0)
    labels = make_raster(folder / "s" / "scene_mask.tif", pixels=mask)
    row = Row(image, labels, "train", Window(0, 0, height, width))
    return Manifest((row,), ("b1", "b2", "b3", "b4", "b5"), LEGEND)


def test_patches_are_cut_with_their_masks_and_places(tmp_path: Path) -> None:
    cut = cut_patches(scene(tmp_path), tmp_path / "out", 32, ["b4", "b2"])
    assert len(cut.entries) == 2 * 3 - 1  # the corner without data is left out
    assert cut.bands == ("b4", "b2")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [MARKER, "images", "manifest.parquet", "masks"]
    row = next(r for r in cut.entries if r.image.stem.endswith("_32_64"))
    assert row.mask is not None
    with rasterio.open(tmp_path / "s/scene.tif") as whole, rasterio.open(row.image) as part:
        np.testing.assert_array_equal(part.read(), whole.read([4, 2])[:, 32:64, 64:96])
        assert part.transform == whole.window_transform(rasterio.windows.Window(64, 32, 32, 32))
    with rasterio.open(tmp_path / "s/scene_mask.tif") as whole, rasterio.open(row.mask) as part:
        np.testing.assert_array_equal(part.read(1), whole.read(1)[32:64, 64:96] == 255)
    assert Manifest.load(tmp_path / "out/manifest.parquet").statistics is not None


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_what_has_no_data_in_the_scene_has_none_in_the_patch(tmp_path: Path, dtype: str) -> None:
    pixels = np.random.default_rng(0).integers(1, 9, (3, 32, 32)).astype(dtype)
    pixels[:, :, :5] = 0
    pixels[1, 20, 20] = 0  # one band alone: data
    image = make_raster(tmp_path / "scenes" / "a.tif", pixels=pixels, nodata=0)
    mask = make_raster(tmp_path / "masks" / "a.tif", pixels=np.ones((1, 32, 32), np.uint8))
    row = Row(image, mask, "train", Window(0, 0, 32, 32))
    cut = cut_patches(Manifest((row,), ("b0", "b1", "b2"), Legend(("low", "high"))), tmp_path / "out", 16)
    for patch in cut.entries:
        top, left = (int(part) for part in patch.image.stem.split("_")[-2:])
        window = Window(top, left, 16, 16)
        with Raster(patch.image) as file, Raster(image) as scene:
            found, valid = file.read()
            expected, there = scene.read(window)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(valid, there)
    assert {bool(p.image.stem.endswith("_0")) for p in cut.entries} == {True, False}


def test_a_folder_of_other_things_is_refused_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = scene(tmp_path / "town").save(tmp_path / "town" / "manifest.parquet")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path / "notes")
    before = contents(tmp_path)
    for out in (tmp_path / "town", tmp_path / "town" / "s", tmp_path / "notes", Path(), tmp_path):
        with pytest.raises(OutputError, match=r"which is read|did not write there"):
            cut_patches(manifest, out, 32)
    assert contents(tmp_path) == before


def test_an_earlier_result_is_replaced_but_never_what_was_added(tmp_path: Path) -> None:
    manifest, out = scene(tmp_path), tmp_path / "out"
    cut_patches(manifest, out, 32)
    again = cut_patches(manifest, out, 64)
    assert len(list((out / "images").iterdir())) == len(again.entries) == 1
    with pytest.raises(OutputError, match="which is read"):
        cut_patches(Manifest.load(out / "manifest.parquet"), out, 32)
    (out / "images" / "mine.tif").write_bytes(b"x")
    before = contents(out)
    with pytest.raises(OutputError, match=r"did not write there \(images/mine\.tif\)"):
        cut_patches(manifest, out, 32)
    assert contents(out) == before


def test_scenes_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    manifest = scene(tmp_path / "a")
    both = Manifest((*manifest.entries, *scene(tmp_path / "b").entries), manifest.bands, LEGEND)
    with pytest.raises(DataError, match="two scenes called scene in folders called s"):
        cut_patches(both, tmp_path / "out", 32)


def test_stretch_uses_each_patchs_own_range() -> None:
    pixels = np.array([[[100, 200], [300, 0]]], np.uint16)
    valid = np.array([[True, True], [True, False]])
    assert stretched(pixels, valid).tolist() == [[[0, 128], [255, 0]]]
    flat = np.full((1, 2, 2), 7, np.uint16)
    assert stretched(flat, np.ones((2, 2), bool)).tolist() == [[[0, 0], [0, 0]]]


def test_what_cannot_be_cut_leaves_nothing(tmp_path: Path) -> None:
    manifest = scene(tmp_path)
    with pytest.raises(DataError, match="512 x 512"):
        cut_patches(manifest, tmp_path / "out")
    with pytest.raises(UnknownNameError, match="band 'b9'"):
        cut_patches(manifest, tmp_path / "out", 32, ["b9"])
    assert not (tmp_path / "out").exists()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene(tmp_path).save(tmp_path / "m.parquet")
    command = ["data", "patches", "--manifest", str(tmp_path / "m.parquet"), "--size", "32", "--stretch"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "5 patches" in capsys.readouterr().out
    with rasterio.open(next((tmp_path / "out/images").iterdir())) as file:
        assert file.dtypes[0] == "uint8"
