"""A map made anew keeps nothing that an earlier one of its name left beside it; what is a person's stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factories import make_raster
from geodistill.errors import OutputError
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

PLAIN = PredictOptions(backend="torch", device="cpu")
MORE = PredictOptions(
    **{"confidence": True, "probabilities": "uint8", "vector": "gpkg", "preview": True, "unlike": True},
    **{"backend": "torch", "device": "cpu"},
)
BESIDE = {"m_confidence.tif", "m_probabilities.tif", "m.gpkg", "m_preview.png", "m_unlike.tif"}
MAP = {"m.tif", "m.tif.aux.xml", "m.qml"}


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return make_raster(tmp_path / "s.tif")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_files_beside_an_earlier_map_go_with_it(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tif"
    predict(tiny_segmenter(), [scene], out, MORE)
    assert names(out.parent) == MAP | BESIDE
    predict(tiny_segmenter("context"), [scene], out, PLAIN)
    assert names(out.parent) == MAP


def test_a_map_that_a_notebook_saves_keeps_none_of_them_either(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tif"
    predict(tiny_segmenter(), [scene], out, MORE)
    tiny_segmenter("context").predict(scene).save(out)
    assert names(out.parent) == MAP


def test_a_finished_map_that_is_continued_keeps_them(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tif"
    plain: dict[str, Any] = {"backend": "torch", "device": "cpu"}
    preview, resume = PredictOptions(**plain, preview=True), PredictOptions(**plain, resume=True)
    predict(tiny_segmenter(), [scene], out, preview)
    predict(tiny_segmenter(), [scene], out, resume)
    assert names(out.parent) == MAP | {"m_preview.png"}
    predict(tiny_segmenter(), [scene], out, PLAIN)
    assert names(out.parent) == MAP


def test_what_a_person_edited_before_a_map_was_continued_is_not_taken_for_ours(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tif"
    sure = replace(PLAIN, confidence=True)
    predict(tiny_segmenter(), [scene], out, replace(sure, vector="geojson"))
    out.with_suffix(".geojson").write_text("edited")
    predict(tiny_segmenter(), [scene], out, replace(sure, resume=True, preview=True))
    with pytest.raises(OutputError, match=r"m\.geojson .* changed since"):
        predict(tiny_segmenter(), [scene], out, sure)
    assert out.with_suffix(".geojson").read_text() == "edited"


def test_nothing_of_a_persons_is_removed(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tif"
    predict(tiny_segmenter(), [scene], out, PLAIN)
    mine = {name: out.with_name(name) for name in ("m.gpkg", "m.json", "m_preview.png", "m_objects.fgb")}
    for path in mine.values():
        path.write_text("mine")
    make_raster(out.with_name("m_confidence.tif"))
    predict(tiny_segmenter("context"), [scene], out, PLAIN)
    assert names(out.parent) == MAP | set(mine) | {"m_confidence.tif"}


def test_a_map_of_another_scene_is_no_layer(scene: Path, tmp_path: Path) -> None:
    other = make_raster(tmp_path / "s_confidence.tif")
    predict(tiny_segmenter(), [scene, other], tmp_path / "out", PLAIN)
    predict(tiny_segmenter("context"), [scene], tmp_path / "out", PLAIN)
    assert "s_confidence.tif" in names(tmp_path / "out")


def test_what_was_changed_since_is_refused_before_any_work(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.tif"
    predict(tiny_segmenter(), [scene], out, MORE)
    with out.with_suffix(".gpkg").open("ab") as file:
        file.write(b"edited")
    before = {path: path.read_bytes() for path in out.parent.iterdir()}
    with pytest.raises(OutputError, match=r"m\.gpkg was written with the earlier m\.tif and changed since"):
        predict(tiny_segmenter("context"), [scene], out, PLAIN)
    assert {path: path.read_bytes() for path in out.parent.iterdir()} == before


def test_what_is_read_is_not_removed(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.tif"
    predict(tiny_segmenter(), [scene], out, MORE)
    with pytest.raises(OutputError, match=r"m_confidence\.tif would be overwritten, and is read"):
        predict(tiny_segmenter(channels=1), [tmp_path / "m_confidence.tif"], out, PLAIN)
