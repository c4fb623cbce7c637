from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factories import make_picture, make_raster
from geodistill.data.inferred_legend import infer_legend
from geodistill.data.mask_files import read_mask
from geodistill.errors import DataError, GeodistillWarning
from geodistill.spec import Legend


class TestInferLegend:
    def infer(self, tmp_path: Path, *values: list[int], palette: list[tuple[int, int, int]] | None = None) -> Legend:
        paths = [make_picture(tmp_path / f"{i}.png", np.array([v]), palette) for i, v in enumerate(values)]
        return infer_legend(paths)

    def test_values_over_all_files(self, tmp_path: Path) -> None:
        legend = self.infer(tmp_path, [0, 3], [3, 1])
        assert legend.values == (0, 1, 3)
        assert legend.names == ("class0", "class1", "class3")

    def test_black_and_white(self, tmp_path: Path) -> None:
        legend = self.infer(tmp_path, [0, 255])
        assert (legend.names, legend.values) == (("background", "foreground"), (0, 255))

    def test_255_beside_classes_is_ignored(self, tmp_path: Path) -> None:
        legend = self.infer(tmp_path, [0, 1, 255])
        assert (legend.values, legend.ignore_values) == ((0, 1), (255,))

    @pytest.mark.parametrize(
        ("values", "nodata", "names", "classes"),
        [
            ([0, 1], 0, ("background", "class1"), (0, 1)),
            ([0, 1, 4], 0, ("background", "class1", "class4"), (0, 1, 4)),
            ([0, 255], 0, ("background", "foreground"), (0, 255)),
            ([0, 1, 9], 9, ("class0", "class1"), (0, 1)),
        ],
    )
    def test_a_background_that_is_nodata(
        self, tmp_path: Path, values: list[int], nodata: int, names: tuple[str, ...], classes: tuple[int, ...]
    ) -> None:
        path = make_raster(tmp_path / "m.tif", pixels=np.array([[values]], np.uint8), nodata=nodata)
        legend = infer_legend([path])
        assert (legend.names, legend.values) == (names, classes)
        assert read_mask(path, legend).tolist() == [
            [classes.index(value) if value in classes else 255 for value in values]
        ]

    def test_palette_gives_names_and_colours(self, tmp_path: Path) -> None:
        legend = self.infer(tmp_path, [0, 2], [0, 2], palette=[(60, 16, 152), (0, 0, 0), (132, 41, 246)])
        assert legend.values == (0, 2)
        assert legend.names == ("#3c1098", "#8429f6")
        assert legend.colours == ((60, 16, 152), (132, 41, 246))

    def test_palettes_that_differ_name_colours_and_not_values(self, tmp_path: Path) -> None:
        one = make_picture(tmp_path / "a.png", np.array([[0, 1]]), [(1, 2, 255), (7, 8, 9)])
        two = make_picture(tmp_path / "b.png", np.array([[0, 1]]), [(7, 8, 9), (3, 3, 3)])
        legend = infer_legend([one, two])
        assert legend.colours == ((1, 2, 255), (3, 3, 3), (7, 8, 9))
        assert [read_mask(path, legend).tolist() for path in (one, two)] == [[[0, 2]], [[2, 1]]]
        plain = make_picture(tmp_path / "c.png", np.zeros((2, 2), np.uint8))
        with pytest.raises(DataError, match="scan them apart"):
            infer_legend([one, two, plain])

    @pytest.mark.parametrize(
        "palettes",
        [
            [
                [tuple(colour) for colour in np.random.default_rng(i).integers(0, 255, (3, 3)).tolist()]
                for i in range(5)
            ],
            [[(0, 0, 0), (255, 0, 0), (0, 255, 0)], [(0, 0, 0), (254, 0, 0), (0, 255, 0)]],
            [[(0, 0, 0), *map(tuple, np.random.default_rng(i).integers(0, 255, (2, 3)).tolist())] for i in range(5)],
            [[(0, 0, 0), colour, (0, 255, 0)] for colour in ((255, 0, 0), (255, 255, 255), (255, 0, 0))],
            [[(0, 0, 0), (i, 2 * i, 255 - i), (0, 255, 0)] for i in [*range(70)] * 2],
        ],
    )
    def test_a_colour_table_per_file_leaves_the_values_the_classes(
        self, tmp_path: Path, palettes: list[list[tuple[int, int, int]]]
    ) -> None:
        labels = np.array([[0, 1, 2]])
        paths = [make_picture(tmp_path / f"{i}.png", labels, palette) for i, palette in enumerate(palettes)]
        with pytest.warns(GeodistillWarning, match=r"0\.png has #\w{6} at value [01], .*[12]\.png has #\w{6}: the v"):
            legend = infer_legend(paths)
        assert legend.names == ("class0", "class1", "class2")
        assert all(read_mask(path, legend).tolist() == labels.tolist() for path in paths)

    def test_masks_of_a_background_and_one_object_each_are_masks_of_colours(self, tmp_path: Path) -> None:
        colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
        paths = [
            make_picture(tmp_path / f"{i}.png", np.array([[0, 1]]), [(0, 0, 0), colour])
            for i, colour in enumerate(colours * 2)
        ]
        with pytest.warns(GeodistillWarning, match="the colours are taken as the classes; if the values are meant"):
            legend = infer_legend(paths)
        assert legend.colours == ((0, 0, 0), *sorted(colours))
        assert [read_mask(path, legend).tolist() for path in paths] == [[[0, 3]], [[0, 2]], [[0, 1]]] * 2

    def test_colours_name_themselves(self, tmp_path: Path) -> None:
        path = make_picture(tmp_path / "m.png", np.full((2, 2, 3), (1, 2, 255), np.uint8))
        assert infer_legend([path]).names == ("#0102ff",)

    def test_a_palette_beside_masks_of_colours_is_read_as_its_colours(self, tmp_path: Path) -> None:
        colours = make_picture(tmp_path / "a.png", np.full((2, 2, 3), (1, 2, 255), np.uint8))
        palette = Image.new("P", (2, 1))
        palette.putpalette((1, 2, 255, 7, 8, 9, 0, 0, 0))
        palette.putdata([0, 1])
        palette.save(tmp_path / "b.png")
        legend = infer_legend([colours, tmp_path / "b.png"])
        assert legend.colours == ((1, 2, 255), (7, 8, 9))
        assert read_mask(tmp_path / "b.png", legend).tolist() == [[0, 1]]
        plain = make_picture(tmp_path / "c.png", np.zeros((2, 2), np.uint8))
        with pytest.raises(DataError, match="scan them apart"):
            infer_legend([colours, plain])

    def test_a_picture_needs_a_legend(self, tmp_path: Path) -> None:
        pixels = np.stack([np.arange(100).reshape(10, 10)] * 3, -1).astype(np.uint8)
        with pytest.raises(DataError, match="no legend is given"):
            infer_legend([make_picture(tmp_path / "m.png", pixels)])

    @pytest.mark.parametrize("pixels", [np.arange(100.0), np.array([0.5, 1]), np.array([-1.0, 1])])
    def test_pictures_are_no_labels(self, tmp_path: Path, pixels: np.ndarray) -> None:
        path = make_raster(tmp_path / "m.tif", pixels=pixels.reshape(1, 1, -1).astype(np.float32))
        with pytest.raises(DataError, match="give a legend"):
            infer_legend([path])

    def test_a_broken_mask_does_not_hide_the_others(self, tmp_path: Path) -> None:
        (tmp_path / "bad.png").write_bytes(b"no")
        good = make_picture(tmp_path / "good.png", np.array([[0, 1]]))
        assert infer_legend([tmp_path / "bad.png", good]).values == (0, 1)
        with pytest.raises(DataError, match="without a single label"):
            infer_legend([tmp_path / "bad.png"])
