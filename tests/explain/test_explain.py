"""The page of a model and its teacher over one image: what it shows is what they make of it."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import browser
from browser import Browser
from factories import make_raster
from geodistill.cli import main
from geodistill.errors import DataError
from geodistill.explain.explanation import explain_image, read_part, teacher_of
from geodistill.explain.write_pictures import explain
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from reported import figures_of
from served import serve
from text_models import zoned_segmenter

SPEC = Spec(Legend(("ground", "<b>shed</b>")), ("red", "green", "blue"), mean=(90.0,) * 3, std=(50.0,) * 3)
ARGUMENTS = {"architecture": "unet", "encoder": "test_resnet"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student, its teacher, and an image larger than is looked at."""
    where = tmp_path_factory.mktemp("explained")
    torch.manual_seed(0)
    teacher = Segmenter("supervised", ARGUMENTS, SPEC, 64, {})
    teacher.save(where / "teacher")
    recipe = {"recipe": {"teacher": {"segmenter": str(where / "teacher"), "indices": None, "cache": None}}}
    Segmenter("supervised", ARGUMENTS, SPEC, 64, recipe).save(where / "student")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 100, 140), dtype=np.uint8)
    make_raster(where / "tile.tif", pixels=pixels)
    return where


def test_the_middle_of_the_image_is_read(folder: Path) -> None:
    pixels, window = read_part(folder / "tile.tif", SPEC, None)
    assert window == Window(2, 6, 96, 128)
    assert pixels.shape == (3, 96, 128)


def test_bands_are_known_by_their_names(folder: Path, tmp_path: Path) -> None:
    pixels, window = read_part(folder / "tile.tif", SPEC, None)
    with Raster(folder / "tile.tif") as raster:
        turned = make_raster(tmp_path / "bgr.tif", pixels=raster.read()[0][::-1], bands=("blue", "green", "red"))
    np.testing.assert_array_equal(read_part(turned, SPEC, window)[0], pixels)


def test_classes_doubt_and_evidence_are_the_models(folder: Path) -> None:
    student = Segmenter.load(folder / "student").eval()
    pixels, window = read_part(folder / "tile.tif", SPEC, Window(0, 0, 64, 64))
    teacher = teacher_of(student, None)
    assert not isinstance(teacher, str)
    explained = explain_image(student, teacher, pixels, window)
    with torch.no_grad():
        probabilities = student(torch.from_numpy(pixels)[None])[0].softmax(0).numpy()
    np.testing.assert_array_equal(explained.classes, probabilities.argmax(0))
    entropy = -(probabilities * np.log(probabilities)).sum(0) / np.log(2)
    np.testing.assert_allclose(explained.doubt, entropy, atol=1e-4)
    assert explained.evidence.shape == (2, 64, 64)
    assert len(explained.features) == 2
    assert explained.strides[0] <= 16


def test_a_model_of_climate_zones_is_explained_under_that_of_the_image(folder: Path, tmp_path: Path) -> None:
    zoned_segmenter().save(tmp_path / "zoned")
    zoned_segmenter(("Af",)).save(tmp_path / "one")
    pages = [explain(tmp_path / name, folder / "tile.tif", tmp_path / f"{name}.html") for name in ("zoned", "one")]
    assert all("Grad-CAM" in page.read_text(encoding="utf-8") for page in pages)
    plain = make_raster(tmp_path / "plain.tif", height=64, width=64, crs=None)
    with pytest.raises(DataError, match="does not say where it lies"):
        explain(tmp_path / "zoned", plain, tmp_path / "plain.html")


def test_an_address_is_opened_as_one_each_time(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that GDAL's settings for the network hold."""
    zoned_segmenter().save(tmp_path / "zoned")
    remote, opening = [], Raster.__init__

    def watched(raster: Raster, *args: Any, **kwargs: Any) -> None:
        opening(raster, *args, **kwargs)
        remote.append(raster.remote)

    monkeypatch.setattr(Raster, "__init__", watched)
    with serve(tmp_path / "served") as server:
        shutil.copy(folder / "tile.tif", server.folder)
        explain(tmp_path / "zoned", f"{server.address}/tile.tif", tmp_path / "page.html")
    assert len(remote) > 1
    assert all(remote)


@pytest.mark.slow
def test_the_page_and_its_figures(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    argv = ["explain", "--model", str(folder / "student"), "--input", str(folder / "tile.tif"), "--out", str(page)]
    assert main(argv) == 0
    figures = figures_of(page)
    assert [each["model"] for each in figures["pictures"]["components"]] == ["student", "teacher"]
    (data,) = re.findall(r'id="alike-data">(.*?)</script>', page.read_text())
    for model in json.loads(data)["models"]:
        count = model["grid"][0] * model["grid"][1]
        values = np.frombuffer(base64.b64decode(model["values"]), np.uint8).reshape(count, count)
        assert (np.diag(values) == 255).all()
        np.testing.assert_array_equal(values, values.T)
    assert main([*argv, "--no-with-teacher"]) == 0
    assert set(figures_of(page)["similarity"]["grids"]) == {"student"}
    assert "No teacher is shown" in page.read_text()
    assert "the teacher's" not in page.read_text()


def test_what_cannot_be_shown_is_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost = Segmenter.load(folder / "student")
    recipe = {"recipe": {"teacher": {"segmenter": str(folder / "gone")}}}
    Segmenter.from_network("supervised", ARGUMENTS, replace(SPEC), lost.network.network.state_dict(), 64, recipe).save(
        tmp_path / "lost"
    )
    page = ["--out", str(tmp_path / "page.html")]
    image = ["--input", str(folder / "tile.tif")]
    assert main(["explain", "--model", str(tmp_path / "lost"), *image, *page]) == 2
    assert "--no-with-teacher" in capsys.readouterr().err
    argv = ["explain", "--model", str(folder / "student"), *image, *page]
    assert main([*argv, "--window", "0", "0", "16", "500"]) == 2
    assert main([*argv, "--teacher", "x", "--no-with-teacher"]) == 2
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("several", [True, False])
def test_what_has_no_features_is_no_teacher_and_the_page_says_so(folder: Path, tmp_path: Path, several: bool) -> None:
    names = [str(folder / name) for name in ("teacher", "student")[: 1 + several]]
    recipe = {"recipe": {"teacher": {"segmenter": names, "indices": None if several else []}}}
    Segmenter("supervised", ARGUMENTS, SPEC, 64, recipe).save(tmp_path / "taught")
    page = explain(tmp_path / "taught", folder / "tile.tif", tmp_path / "page.html").read_text(encoding="utf-8")
    learned = f"the model learned from {', '.join(names)}: name one with --teacher"
    assert f"No teacher is shown: {learned if several else f'{names[0]} has no features to show'}." in page


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Browser]:
    if browser.CHROMIUM is None:
        pytest.skip("no Chromium here: apt install chromium")
    with Browser(tmp_path / "profile") as opened:
        yield opened


@pytest.mark.slow
def test_a_place_is_chosen_by_pointer_and_keys(folder: Path, tmp_path: Path, chromium: Browser) -> None:
    page = tmp_path / "page.html"
    argv = ["explain", "--model", str(folder / "student"), "--input", str(folder / "tile.tif"), "--out", str(page)]
    assert main(argv) == 0
    chromium.open(page)
    assert chromium.complaints == []
    assert {url for url in chromium.requests if not url.startswith("data:")} == {page.as_uri()}
    note = "document.querySelector('.pairs figcaption .quiet').textContent"
    before = chromium.value(note)
    chromium.value("document.querySelector('.alike').focus()")
    chromium.press("ArrowRight")
    after = chromium.value(note)
    assert before.startswith("place ")
    assert after != before
    names = chromium.value("[...document.querySelectorAll('.legend li')].map((item) => item.textContent)")
    assert names == ["ground", "<b>shed</b>"]


def test_a_folder_called_student_is_a_teacher_where_it_is_named_and_no_recipe_s(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    itself = Segmenter("supervised", ARGUMENTS, SPEC, 64, {"recipe": {"teacher": {"segmenter": "student"}}})
    assert teacher_of(itself, None) == "the recipe names none"
    named = teacher_of(itself, "student")
    assert not isinstance(named, str)
    weights = Segmenter.load(folder / "student").state_dict()
    assert all(torch.equal(weights[name], value) for name, value in named.module.state_dict().items())
