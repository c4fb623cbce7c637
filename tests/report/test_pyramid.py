"""Tiles: put together they are the picture at every level, whatever its size; what is empty is not written."""

import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geodistill.report import pyramid
from geodistill.report.pyramid import Picture, finest_level, halved_classes, halved_colours, write_tiles


def as_png(picture: Picture) -> bytes | None:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def strips(picture: Picture, side: int) -> Iterator[Picture]:
    yield from (picture[top : top + side] for top in range(0, len(picture), side))


def put_together(folder: Path, level: int) -> Picture:
    columns = []
    for column in sorted((folder / str(level)).iterdir(), key=lambda path: int(path.name)):
        files = sorted(column.iterdir(), key=lambda path: int(path.stem))
        columns.append(np.concatenate([np.asarray(Image.open(file)) for file in files]))
    return np.concatenate(columns, 1)


@pytest.mark.parametrize(("height", "width"), [(40, 57), (16, 16), (7, 3), (33, 100), (64, 65), (1, 200)])
def test_every_level_is_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    monkeypatch.setattr(pyramid, "TILE", 16)
    picture = np.random.default_rng(0).integers(0, 9, (height, width), dtype=np.uint8)
    level = finest_level(height, width)
    assert level == max(math.ceil(math.log2(max(height, width) / 16)), 0)
    write_tiles(strips(picture, 16), level, tmp_path, as_png, halved_classes, ".png")
    for at in range(level, -1, -1):
        step = 2 ** (level - at)
        np.testing.assert_array_equal(put_together(tmp_path, at), picture[::step, ::step])
    assert len(list((tmp_path / "0").rglob("*.png"))) == 1


def test_empty_tiles_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "TILE", 16)
    picture = np.zeros((16, 32), np.uint8)
    picture[:, :16] = 1
    write_tiles(iter([picture]), 1, tmp_path, lambda tile: as_png(tile) if tile.any() else None, halved_classes, ".png")
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.png")) == [
        "0/0/0.png",
        "1/0/0.png",
    ]


def test_colours_are_halved_to_means_of_what_has_data() -> None:
    picture = np.zeros((2, 3, 4), np.uint8)
    picture[0, 0] = (100, 0, 0, 255)
    picture[1, 1] = (200, 50, 0, 255)
    picture[:, 2] = (7, 8, 9, 255)
    np.testing.assert_array_equal(halved_colours(picture), [[[150, 25, 0, 128], [7, 8, 9, 255]]])
