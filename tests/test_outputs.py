from __future__ import annotations

import os
from pathlib import Path

import pytest

from geodistill.errors import OutputError
from geodistill.files import check_outputs, check_suffix


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.tif"
    path.write_text("years of work")
    return path


def test_different_files_pass(scene: Path) -> None:
    check_outputs([scene.with_name("map.tif"), scene.with_name("new") / "map.tif"], [scene, "https://a/b.tif"])


@pytest.mark.parametrize("kind", ["itself", "relative", "symbolic link", "hard link", "folder link"])
def test_an_input_is_never_an_output(scene: Path, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "map.tif"
    if kind == "itself":
        output = scene
    elif kind == "relative":
        monkeypatch.chdir(tmp_path)
        (tmp_path / "deep").mkdir()
        output = Path("deep/../scene.tif")
    elif kind == "symbolic link":
        output.symlink_to(scene)
    elif kind == "hard link":
        os.link(scene, output)
    else:
        (tmp_path / "link").symlink_to(tmp_path)
        output = tmp_path / "link" / "scene.tif"
    with pytest.raises(OutputError, match="would be overwritten, and is read"):
        check_outputs([output], [scene])


def test_results_do_not_overwrite_each_other(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="written twice"):
        check_outputs([tmp_path / "a.tif", tmp_path / "b" / ".." / "a.tif"], [])


def test_files_of_a_folder_that_is_read_stay(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="belongs to"):
        check_outputs([scene], [tmp_path])
    check_outputs([tmp_path / "new.tif"], [tmp_path])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        check_outputs([tmp_path], [])


def test_suffixes() -> None:
    check_suffix("a.ONNX", (".onnx",))
    with pytest.raises(OutputError, match=r"ends in \.onnx or \.ort"):
        check_suffix("a.safetensors", (".onnx", ".ort"))
