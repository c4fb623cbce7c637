"""The commands of the page, run as they stand."""

import shutil
from pathlib import Path

import pytest

from factories import make_raster
from geodistill.cli import main
from shown import shown_blocks
from tiny import tiny_segmenter

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.slow
def test_the_pages_commands_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_segmenter().save("runs/student/segmenter")
    Path("runs/student/test").mkdir()
    Path("runs/student/test/metrics.json").write_text('{"miou": 0.7, "mf1": 0.8, "oa": 0.9}')
    shutil.copy(make_raster(tmp_path / "made" / "scene.tif"), "scene.tif")
    for command in shown_blocks(PAGE)[0]:
        assert main(command) == 0, capsys.readouterr().err
    for file in (
        "student.pt2",
        "student_openvino/model.xml",
        "student.onnx",
        "student_qgis.onnx",
        "catalog/student/item.json",
        "student/README.md",
        "map.gpkg",
    ):
        assert Path(file).is_file()
