"""Pictures: every kind of image can be shown, and no name breaks a page."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from geodistill.errors import OutputError
from geodistill.evaluation.pictures import confusion_picture, error_map, legend_strip, prediction_grid, to_rgb
from geodistill.metrics import ConfusionMatrix
from geodistill.spec import IGNORE_INDEX, Legend

HARD = (
    *("<script>alert(1)</script>", "a $x^{2$ b", "вода", "水", "é" * 60, "x", "a\x1b]0;t\x07"),
    *("\u202egnp.exe", "two\nlines", "\ud800"),
)
"""Names of classes that no picture may stumble over."""


def read_png(path: Path) -> NDArray[np.uint8]:
    """``(H, W, 3)`` RGB."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)  # type: ignore[return-value]


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
@pytest.mark.parametrize("scale", [1.0, 4000.0, 1e-3])
def test_images_of_any_bands_and_range_are_stretched(channels: int, scale: float) -> None:
    image = (scale * np.random.default_rng(0).random((channels, 50, 40))).astype(np.float32)
    picture = to_rgb(image)
    assert picture.shape == (50, 40, 3)
    assert picture.dtype == np.uint8
    assert picture.min() == 0
    assert picture.max() == 255
    assert 100 < picture.mean() < 155


def test_red_green_and_blue_are_found_by_name() -> None:
    image = np.zeros((5, 4, 4), np.float32)
    image[3] = 1
    assert to_rgb(image, ["nir", "Blue", "green", "RED", "swir"])[0, 0].tolist() == [255, 0, 0]


def test_pixels_without_data_do_not_darken_the_rest() -> None:
    image = np.zeros((3, 100, 100), np.float32)
    image[:, 90:] = np.linspace(1000, 1100, 100)
    assert np.ptp(to_rgb(image)[95]) == 255
    assert not to_rgb(np.zeros((3, 8, 8), np.float32)).any()
    assert to_rgb(np.full((3, 8, 8), 5, np.float32)).shape == (8, 8, 3)


def test_errors_are_red_and_ignored_pixels_black() -> None:
    picture = error_map(np.array([[0, 1, IGNORE_INDEX]]), np.array([[0, 0, 0]]))
    assert picture[0].tolist() == [[225, 225, 225], [205, 40, 40], [0, 0, 0]]


def test_a_grid_has_a_row_a_sample_and_four_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    legend = Legend(HARD)
    sizes = ((64, 64), (100, 30), (10, 333))
    images = [rng.random((4, *size)).astype(np.float32) for size in sizes]
    truths = [rng.integers(0, len(HARD), size).astype(np.uint8) for size in sizes]
    prediction_grid(images, truths, truths, legend, tmp_path / "new" / "grid.png", side=128)
    picture = read_png(tmp_path / "new" / "grid.png")
    assert picture.shape[1] == 4 * 128 + 3 * 6
    assert picture.shape[0] > 3 * 128
    # The colours of the classes stand in the second column, unmixed.
    shown = {tuple(pixel) for pixel in picture[22:150, 134:262].reshape(-1, 3).tolist()}
    assert set(legend.colours) <= shown
    assert not (picture == np.array([205, 40, 40])).all(-1)[22:150, 402:].any()


@pytest.mark.slow
@pytest.mark.parametrize("width", [40, 300, 2000])
def test_a_legend_of_any_width(width: int) -> None:
    strip = legend_strip(Legend(HARD), width)
    assert strip.shape[1] == width
    colours = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
    assert set(Legend(HARD).colours) <= colours


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, len(HARD), 45])
def test_a_confusion_picture_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    names = (*HARD, *(f"class {i}" for i in range(classes)))[:classes]
    matrix = ConfusionMatrix(classes)
    values = np.random.default_rng(0).integers(0, classes, 500, dtype=np.uint8)
    matrix.update(values, values[::-1])
    confusion_picture(matrix.scores(Legend(names)), tmp_path / "confusion.png")
    assert min(read_png(tmp_path / "confusion.png").shape[:2]) > 300


def test_a_picture_in_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    image, classes = np.zeros((3, 8, 8), np.float32), np.zeros((8, 8), np.uint8)
    with pytest.raises(OutputError, match="cannot be written"):
        prediction_grid([image], [classes], [classes], Legend(("a",)), tmp_path / "file" / "grid.png")
