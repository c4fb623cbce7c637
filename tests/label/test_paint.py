from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from factories import make_raster
from geodistill.data.mask_files import read_mask
from geodistill.errors import UnknownNameError
from geodistill.label.masks import Runs
from geodistill.label.pixels import unlabelled_colour, write_mask
from geodistill.label.postprocess import paint
from geodistill.raster import Raster
from geodistill.spec import Legend


def square(top: int, left: int, side: int, frame: int = 10) -> Runs:
    return Runs.of(np.ones((side, side), bool), top, left, frame, frame)


def test_small_objects_lie_on_top() -> None:
    painted = paint([square(2, 2, 3), square(0, 0, 8)], [0, 1], 10, 10)
    assert (painted.indices[2:5, 2:5] == 0).all()
    assert (painted.indices == 1).sum() == 64 - 9
    assert (painted.indices == 255).sum() == 36
    assert (painted.overlapping, painted.between_classes, painted.hidden) == (9, 9, 0)


def test_in_the_papers_order_later_ones_lie_on_top() -> None:
    painted = paint([square(2, 2, 3), square(0, 0, 8)], [0, 1], 10, 10, "annotation")
    assert (painted.indices == 1).sum() == 64
    assert painted.hidden == 1


def test_overlaps_within_a_class_are_counted_apart() -> None:
    painted = paint([square(0, 0, 4), square(0, 2, 4), square(0, 3, 4)], [5, 5, 6], 10, 10)
    assert painted.overlapping == 4 * 4
    assert painted.between_classes == 3 * 4
    assert painted.hidden == 0


def test_equal_sizes_keep_the_order_of_the_annotation() -> None:
    assert (paint([square(0, 0, 2), square(0, 0, 2)], [3, 4], 10, 10).indices[:2, :2] == 4).all()


def test_nothing_to_paint() -> None:
    painted = paint([], [], 4, 6)
    assert painted.indices.shape == (4, 6)
    assert (painted.indices == 255).all()
    assert painted.hidden == 0


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="painting order"):
        paint([], [], 4, 6, "random")  # type: ignore[arg-type]


INDICES: NDArray[np.uint8] = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
LEGEND = Legend(("ship", "dock"), ((0, 0, 63), (255, 255, 255)))


def test_pictures_hold_indices_and_colours(tmp_path: Path) -> None:
    write_mask(tmp_path / "gray.png", INDICES, None, LEGEND, colour=False)
    write_mask(tmp_path / "color.png", INDICES, None, LEGEND, colour=True)
    assert (np.asarray(Image.open(tmp_path / "gray.png")) == INDICES).all()
    colours = np.asarray(Image.open(tmp_path / "color.png"))
    assert colours[0].tolist() == [[0, 0, 63], [255, 255, 255], [0, 0, 0]]
    assert (read_mask(tmp_path / "gray.png", LEGEND) == INDICES).all()


def test_masks_of_georeferenced_images_lie_where_they_do(tmp_path: Path) -> None:
    with Raster(make_raster(tmp_path / "image.tif", height=2, width=3)) as raster:
        grid = raster.grid
    for name, colour in (("gray.tif", False), ("color.tif", True)):
        write_mask(tmp_path / name, INDICES, grid, LEGEND, colour=colour)
        with rasterio.open(tmp_path / name) as file:
            assert (file.crs.to_epsg(), file.transform) == (32636, grid.transform)
            assert file.count == (3 if colour else 1)
    assert (read_mask(tmp_path / "gray.tif", LEGEND) == INDICES).all()
    with rasterio.open(tmp_path / "gray.tif") as file:
        assert file.nodata == 255
        assert file.colormap(1)[1] == (255, 255, 255, 255)


@pytest.mark.parametrize(
    ("colours", "expected"),
    [
        (((1, 2, 3), (4, 5, 6)), (255, 255, 255)),
        (((255, 255, 255), (4, 5, 6)), (0, 0, 0)),
        (((255, 255, 255), (0, 0, 0)), (128, 128, 128)),
    ],
)
def test_no_class_has_the_colour_of_unlabelled_pixels(
    colours: tuple[tuple[int, int, int], ...], expected: tuple[int, int, int]
) -> None:
    assert unlabelled_colour(Legend(("a", "b"), colours)) == expected
