from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from geodistill.data.manifest import Manifest, Row, make_spec, without_labels
from geodistill.data.statistics import Spread, Statistics
from geodistill.errors import DataError, OutputError
from geodistill.raster import Window
from geodistill.spec import Legend

MEASURED = Statistics(
    splits=("train",),
    mean=(5.0, 6.0),
    std=(2.0, 0.0),
    minimum=(0.0, 6.0),
    maximum=(9.0, 6.0),
    images={"train": 1},
    pixels={"train": 100},
    valid_pixels={"train": 90},
    class_pixels={"train": (60, 20)},
    ignored_pixels={"train": 10},
    unknown_labels={"#010203": 4},
    height=Spread(1, 2, 3),
    gsd=None,
    problems=("one",),
)


def manifest(folder: Path) -> Manifest:
    image = folder / "images" / "a.tif"
    rows = (
        Row(image, folder / "masks" / "a.tif", "train", Window(0, 0, 10, 10), "north", 30.0, 1.0, 0.5, "2020-01-02"),
        Row(image, folder / "masks" / "a.tif", "test", Window(10, 5, 10, 10), gsd=0.7),
        Row(Path("/elsewhere/b.tif"), None, "unlabelled", Window(0, 0, 4, 4)),
    )
    legend = Legend(("a", "b"), values=(0, 255))
    return Manifest(rows, ("red", "nir"), legend, True, MEASURED, ("a problem",))


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    saved = manifest(tmp_path).save(tmp_path / "m.parquet")
    assert Manifest.load(tmp_path / "m.parquet") == saved


def test_the_folder_can_be_moved(tmp_path: Path) -> None:
    manifest(tmp_path / "old").save(tmp_path / "old" / "m.parquet")
    shutil.move(tmp_path / "old", tmp_path / "new")
    rows = Manifest.load(tmp_path / "new" / "m.parquet").entries
    assert rows[0].image == tmp_path / "new" / "images" / "a.tif"
    assert rows[2].image == Path("/elsewhere/b.tif")


def test_others_read_it_as_plain_parquet(tmp_path: Path) -> None:
    manifest(tmp_path).save(tmp_path / "m.parquet")
    table = pd.read_parquet(tmp_path / "m.parquet")
    assert table["image"].tolist() == ["images/a.tif", "images/a.tif", "/elsewhere/b.tif"]
    assert {"image", "mask", "split", "group", "lon", "lat", "gsd", "date"} <= set(table.columns)


def test_rows_of_a_split(tmp_path: Path) -> None:
    found = manifest(tmp_path)
    assert [row.window.row for row in found.rows("test")] == [10]
    assert len(found.rows()) == 3
    assert found.rows("val") == ()
    with pytest.raises(DataError, match="has train 1, test 1, unlabelled 1"):
        found.some_rows("val")
    with pytest.raises(DataError, match="one of train, val, test, unlabelled"):
        found.rows("dev")


def test_keys_tell_areas_of_a_scene_apart(tmp_path: Path) -> None:
    first, second, _ = manifest(tmp_path).entries
    assert first.key.endswith("a.tif")
    assert second.key.endswith("a.tif@10,5")


def test_spec_comes_without_reading_images(tmp_path: Path) -> None:
    spec = make_spec(manifest(tmp_path))
    assert (spec.bands, spec.mean) == (("red", "nir"), (5.0, 6.0))
    assert spec.std == (2.0, 1.0)  # a constant band is not scaled
    assert spec.gsd == pytest.approx(0.6)


def test_spec_needs_legend_and_statistics(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data stats"):
        make_spec(replace(manifest(tmp_path), statistics=None))
    with pytest.raises(DataError, match="no legend"):
        make_spec(replace(manifest(tmp_path), legend=None))
    with pytest.raises(DataError, match="no image with valid pixels"):
        make_spec(replace(manifest(tmp_path), statistics=replace(MEASURED, mean=())))


def test_without_labels_every_image_to_learn_from_is_a_train_image_without_mask(tmp_path: Path) -> None:
    bare = without_labels(manifest(tmp_path))
    assert [(row.split, row.mask, row.image.name) for row in bare.entries] == [
        ("train", None, "a.tif"),
        ("train", None, "b.tif"),
    ]
    assert bare.legend == manifest(tmp_path).legend
    nameless = without_labels(replace(manifest(tmp_path), legend=None))
    assert make_spec(nameless).classes == 1


def test_problems_stop_who_asks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a problem; see 'geodistill data check'"):
        manifest(tmp_path).refuse_problems()
    replace(manifest(tmp_path), problems=()).refuse_problems()


def test_problems_found_while_measuring_are_added_once(tmp_path: Path) -> None:
    measured = replace(manifest(tmp_path), statistics=None).with_statistics(MEASURED).with_statistics(MEASURED)
    assert measured.problems == ("a problem", "one")
    assert measured.statistics == MEASURED


def test_files_that_are_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    with pytest.raises(DataError, match="no manifest"):
        Manifest.load(path)
    path.write_text("hello")
    with pytest.raises(DataError, match="cannot be read"):
        Manifest.load(path)
    pd.DataFrame({"image": ["a"]}).to_parquet(path)
    with pytest.raises(DataError, match="of another kind"):
        Manifest.load(path)


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.data.manifest.FORMAT_VERSION", 99)
    manifest(tmp_path).save(tmp_path / "m.parquet")
    monkeypatch.undo()
    with pytest.raises(DataError, match="format 99"):
        Manifest.load(tmp_path / "m.parquet")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        manifest(tmp_path).save(tmp_path / "file" / "m.parquet")
