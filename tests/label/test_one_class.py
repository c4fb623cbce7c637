"""A set in which one class is all that is labelled is refused wherever it is met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detection_sets import make_detection_set, read_coco, settings_of, write_boxes
from geodistill.cli import main
from geodistill.data.check import check
from geodistill.data.data_config import DataConfig
from geodistill.data.data_source import DataSource
from geodistill.data.manifest import Manifest
from geodistill.errors import DataError, RecipeError
from geodistill.label.build_labels import build


@pytest.fixture
def ships(tmp_path: Path) -> Path:
    source = make_detection_set(tmp_path / "set", 8)
    data = read_coco(source)
    write_boxes(source, data | {"annotations": [a for a in data["annotations"] if a["category_id"] == 0]})
    return source


def test_label_build_names_the_mend(ships: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"boxes of 'ship' alone.*--background NAME"):
        build(settings_of(ships), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    build(settings_of(ships, background="water"), tmp_path / "out")
    source = DataSource(DataConfig(crop=32), Manifest.load(tmp_path / "out/manifest.parquet"))
    assert source.spec.legend.names[:2] == ("water", "ship")


@pytest.mark.parametrize("split", ["train", "val"])
def test_fit_and_data_check_refuse(split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_detection_set(tmp_path / "set", 8)
    build(settings_of(source, classes=("ship", "dock", "pier")), tmp_path / "out")
    manifest = Manifest.load(tmp_path / "out/manifest.parquet")
    # The masks of one split lose one of their two classes, as a tool that paints one class leaves them.
    from PIL import Image

    for row in manifest.rows(split):
        assert row.mask is not None
        picture = Image.open(row.mask)
        picture.putdata([255 if value == 1 else value for value in picture.getdata()])
        picture.save(row.mask)
    from geodistill.data.measure import measure

    manifest = manifest.with_statistics(measure(manifest)).save(tmp_path / "m.parquet")
    with pytest.raises(DataError, match=f"no '{split}' label but 'ship'.*two classes or more"):
        DataSource(DataConfig(crop=32), manifest)
    found = [finding for finding in check(manifest) if finding.kind == "lone_class"]
    assert [finding.severity for finding in found] == ["error"]
    assert f"no label in {split} but 'ship'" in found[0].message
    assert main(["data", "check", "--manifest", str(tmp_path / "m.parquet"), "--json"]) == 2
    assert "lone_class" in json.dumps(json.loads(capsys.readouterr().out))
