from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from factories import make_picture, make_raster
from geodistill.data.inferred_legend import infer_legend
from geodistill.data.mask_files import decode_mask, ignored_labels, label_counts, read_labels, read_mask, strips
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.spec import Legend

TOWN = Legend(("ground", "roof", "tree"), ((10, 10, 10), (200, 0, 0), (0, 200, 0)), ignore_colours=((0, 0, 0),))
INDICES = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)


class TestReadMask:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_indices(self, tmp_path: Path, suffix: str) -> None:
        path = make_picture(tmp_path / f"m{suffix}", INDICES)
        assert np.array_equal(read_mask(path, TOWN), INDICES)

    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_colours(self, tmp_path: Path, suffix: str) -> None:
        path = make_picture(tmp_path / f"m{suffix}", TOWN.paint(INDICES))
        assert np.array_equal(read_mask(path, TOWN), INDICES)

    def test_transparent_pixels_of_a_colour_mask_are_ignored_unless_a_class_has_their_colour(
        self, tmp_path: Path
    ) -> None:
        pixels = np.concatenate([TOWN.paint(INDICES), np.full((2, 4, 1), 255, np.uint8)], axis=-1)
        pixels[0, 0] = (1, 2, 3, 0)
        pixels[1, 0, 3] = 0  # a tree all the same
        path = make_picture(tmp_path / "m.png", pixels)
        assert read_mask(path, TOWN).tolist() == [[255, 1, 2, 255], [2, 2, 1, 0]]
        nearest = Legend(TOWN.names, TOWN.colours, nearest=True)
        assert read_mask(path, nearest, ignore_unknown=True).tolist()[0][0] == 255

    def test_a_background_that_is_nodata_or_transparent_stays_a_class(self, tmp_path: Path) -> None:
        legend = Legend(("ground", "roof"), ((0, 0, 0), (200, 0, 0)))
        labels = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
        colours = legend.paint(labels)
        rgba = np.concatenate([colours, 255 * labels[..., None]], -1)
        planes = np.moveaxis(colours, -1, 0)
        palette = Image.fromarray(labels, "P")
        palette.putpalette([0, 0, 0, 200, 0, 0])
        palette.save(tmp_path / "palette.png", transparency=0)
        paths = [
            make_picture(tmp_path / "rgba.png", rgba),
            make_raster(tmp_path / "rgb.tif", pixels=planes, nodata=0),
            make_raster(tmp_path / "rgba.tif", pixels=planes, alpha=labels > 0),
            make_raster(tmp_path / "values.tif", pixels=labels[None], nodata=0),
            tmp_path / "palette.png",
        ]
        for path in paths:
            assert np.array_equal(read_mask(path, legend), labels), path.name
            beyond = read_mask(path, legend, Window(0, -1, 1, 3))
            assert beyond.tolist() == [[255, 0, 1]], path.name

    def test_what_a_mask_band_hides_is_ignored(self, tmp_path: Path) -> None:
        shown = np.array([[True, False, True]])
        path = make_raster(tmp_path / "m.tif", pixels=np.array([[[0, 1, 2]]], np.uint8), mask_band=shown)
        assert read_mask(path, TOWN).tolist() == [[0, 255, 2]]

    def test_palette_of_other_colours_is_read_by_index(self, tmp_path: Path) -> None:
        palette = [(i, 50, 50) for i in range(256)]
        path = make_picture(tmp_path / "m.png", INDICES, palette)
        assert np.array_equal(read_mask(path, TOWN), INDICES)

    @pytest.mark.parametrize("name", ["m.png", "m.tif"])
    def test_palette_in_another_order_is_read_by_the_legends_colours(self, tmp_path: Path, name: str) -> None:
        palette = [(0, 0, 0), *TOWN.colours[::-1]]
        stored = np.where(INDICES == 255, 0, 3 - INDICES).astype(np.uint8)
        path = tmp_path / name
        if name.endswith("png"):
            make_picture(path, stored, palette)
        else:
            make_raster(path, pixels=stored[None], palette=palette)
        assert np.array_equal(read_mask(path, TOWN), INDICES)

    @pytest.mark.parametrize("name", ["m.png", "m.tif"])
    @pytest.mark.parametrize("order", [(2, 0), (1,), (2, 1)])
    def test_palette_of_the_colours_that_occur_is_read_by_colour(
        self, tmp_path: Path, name: str, order: tuple[int, ...]
    ) -> None:
        stored, palette = np.array([[*range(len(order))]], np.uint8), [TOWN.colours[index] for index in order]
        path = tmp_path / name
        if name.endswith("png"):
            make_picture(path, stored, palette)
        else:
            make_raster(path, pixels=stored[None], palette=palette)
        assert read_mask(path, TOWN).tolist() == [list(order)]

    def test_a_class_at_the_value_of_another_is_read_by_colour_beside_unknown_ones(self, tmp_path: Path) -> None:
        path = make_picture(tmp_path / "m.png", np.array([[0, 1, 2]]), [(9, 9, 99), TOWN.colours[2], TOWN.colours[1]])
        assert read_mask(path, TOWN, ignore_unknown=True).tolist() == [[255, 2, 1]]
        with pytest.raises(DataError, match="colour #090963"):
            read_mask(path, TOWN)

    @pytest.mark.parametrize(
        ("suffix", "palette"),
        [
            (".tif", [(0, 0, 0), (0, 0, 200), (200, 0, 0), (0, 200, 200)]),  # filled up with black
            (".png", [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]),
            (".png", [(grey,) * 3 for grey in range(256)]),
            (".tif", [(230, 230, 230), (0, 0, 230), (230, 0, 0), (10, 10, 10), (0, 230, 0)]),
            (".tif", [(255, 255, 255), (0, 0, 255), (255, 0, 0), (230, 230, 0), *[(0, 0, 0)] * 251, (9, 9, 9)]),
        ],
    )
    def test_a_single_colour_of_another_class_leaves_a_palette_for_display(
        self, tmp_path: Path, suffix: str, palette: list[tuple[int, int, int]]
    ) -> None:
        colours = ((255, 255, 255), (0, 0, 255), (255, 0, 0), (255, 255, 0), (0, 0, 0))
        legend = Legend(("impervious", "building", "clutter", "car", "boundary"), colours)
        stored, path = np.array([[0, 1, 2, 3]], np.uint8), tmp_path / f"m{suffix}"
        if suffix == ".png":
            make_picture(path, stored, palette)
        else:
            make_raster(path, pixels=stored[None], palette=palette)
        assert read_mask(path, legend).tolist() == [[0, 1, 2, 3]]

    def test_a_partial_palette_filled_up_with_black_is_read_by_value(self, tmp_path: Path) -> None:
        legend = Legend(("ground", "building", "road"), ((0, 0, 0), (255, 0, 0), (0, 255, 0)))
        palette = [(0, 0, 0), (200, 0, 0)]
        path = make_raster(tmp_path / "m.tif", pixels=np.array([[[0, 1, 2]]], np.uint8), palette=palette)
        assert read_mask(path, legend).tolist() == [[0, 1, 2]]

    def test_an_ignored_colour_at_the_value_of_a_class_is_ignored(self, tmp_path: Path) -> None:
        path = make_picture(tmp_path / "m.png", np.array([[0, 1, 2]]), [*TOWN.colours[:2], (0, 0, 0)])
        assert read_mask(path, TOWN).tolist() == [[0, 1, 255]]

    @pytest.mark.parametrize("name", ["m.png", "m.tif"])  # GeoTIFF fills up with black
    @pytest.mark.parametrize("road", [(200, 0, 0), (250, 9, 9)])
    def test_an_ignored_colour_at_a_value_of_its_own_is_ignored(
        self, tmp_path: Path, name: str, road: tuple[int, int, int]
    ) -> None:
        colours = ((200, 0, 0), (0, 200, 0), (0, 0, 200))
        legend = Legend(("road", "tree", "lake"), colours, values=(1, 2, 3), ignore_colours=((0, 0, 0),))
        stored, palette, path = np.array([[0, 1, 2]], np.uint8), [(0, 0, 0), road, (0, 200, 0)], tmp_path / name
        if name.endswith("png"):
            make_picture(path, stored, palette)
        else:
            make_raster(path, pixels=stored[None], palette=palette)
        assert read_mask(path, legend).tolist() == [[255, 0, 1]]
        with Raster(path) as raster:
            assert ignored_labels(raster, legend, read_labels(raster)) == {0: 1}

    def test_palette_for_display_is_read_by_index(self, tmp_path: Path) -> None:
        legend = Legend(("ground", "building"), ((0, 0, 0), (200, 0, 0)))
        path = make_picture(tmp_path / "m.png", np.array([[0, 1]]), [(0, 0, 0), (255, 255, 255)])
        assert read_mask(path, legend).tolist() == [[0, 1]]
        unnamed = Legend(("ground", "building"))  # of colours that nobody chose
        path = make_picture(tmp_path / "n.png", np.array([[0, 1]]), [unnamed.colours[1], (1, 2, 3)])
        assert read_mask(path, unnamed).tolist() == [[0, 1]]

    def test_small_palettes_of_real_masks_mean_what_they_show(self, shared: Path) -> None:
        colours = ((132, 41, 246), (226, 169, 41), (60, 16, 152), (254, 221, 58), (110, 193, 228))
        legend = Legend(("land", "water", "building", "vegetation", "road"), colours)
        for path in sorted((shared / "data" / "dubai72" / "Tile_2" / "masks").iterdir()):
            image = Image.open(path)
            shown = np.asarray(image.convert("RGB"))
            expected = np.full(shown.shape[:2], 255)
            for index, colour in enumerate(colours):
                expected[(shown == colour).all(-1)] = index
            assert image.mode == "P"
            assert np.array_equal(read_mask(path, legend, ignore_unknown=True), expected), path.name

    def test_other_values_as_classes(self, tmp_path: Path) -> None:
        path = make_raster(tmp_path / "m.tif", pixels=np.array([[[0, 255, 1000]]], np.uint16))
        assert read_mask(path, Legend(("a", "b"), values=(255, 1000), ignore_values=(0,))).tolist() == [[255, 0, 1]]

    def test_nodata_is_ignored_unless_it_is_a_class(self, tmp_path: Path) -> None:
        path = make_raster(tmp_path / "m.tif", pixels=np.array([[[0, 1, 9]]], np.uint8), nodata=9)
        assert read_mask(path, TOWN).tolist() == [[0, 1, 255]]
        path = make_raster(tmp_path / "n.tif", pixels=np.array([[[0, 1, 2]]], np.uint8), nodata=0)
        assert read_mask(path, TOWN).tolist() == [[0, 1, 2]]

    def test_window_beyond_the_file_is_ignored_there(self, tmp_path: Path) -> None:
        path = make_picture(tmp_path / "m.png", INDICES)
        assert read_mask(path, TOWN, Window(-1, 2, 3, 3)).tolist() == [[255] * 3, [2, 255, 255], [1, 0, 255]]

    def test_label_outside_the_legend_is_an_error_of_one_line(self, tmp_path: Path) -> None:
        path = make_picture(tmp_path / "m.png", np.array([[0, 7, 7, 5]]))
        with pytest.raises(DataError, match=r"m\.png has label 7 \(2 pixels\), 5 \(1 pixels\) outside.*among 0, 1, 2"):
            read_mask(path, TOWN)
        assert read_mask(path, TOWN, ignore_unknown=True).tolist() == [[0, 255, 255, 255]]

    @pytest.mark.parametrize("painted", [False, True])
    def test_a_jpeg_has_other_labels(self, tmp_path: Path, painted: bool) -> None:
        labels = np.random.default_rng(0).integers(0, 3, (32, 32)).astype(np.uint8)
        path = make_picture(tmp_path / "m.jpg", TOWN.paint(labels) if painted else labels * np.uint8(100))
        for read in (lambda: read_mask(path, TOWN), lambda: infer_legend([path])):
            with pytest.raises(DataError, match="; JPEG changes label values: export masks as PNG or GeoTIFF"):
                read()

    def test_colour_outside_the_legend_is_named(self, tmp_path: Path) -> None:
        path = make_picture(tmp_path / "m.png", np.full((2, 2, 3), (1, 2, 255), np.uint8))
        with pytest.raises(DataError, match=r"#0102ff \(4 pixels\)"):
            read_mask(path, TOWN)
        with Raster(path) as raster:
            assert decode_mask(raster, TOWN)[1] == {(1, 2, 255): 4}

    @pytest.mark.parametrize(("channels", "dtype"), [(2, "uint8"), (3, "uint16")])
    def test_refuses_what_is_no_mask(self, tmp_path: Path, channels: int, dtype: str) -> None:
        path = make_raster(tmp_path / "m.tif", channels=channels, dtype=dtype)
        with pytest.raises(DataError, match=f"{channels} bands of {dtype}"):
            read_mask(path, TOWN)


@given(st.integers(0, 3000), st.integers(1, 50_000), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_strips_cover_a_window_once(height: int, width: int, row: int) -> None:
    parts = list(strips(Window(row, 7, height, width)))
    assert [p.row for p in parts] == [row + sum(q.height for q in parts[:i]) for i in range(len(parts))]
    assert sum(p.height for p in parts) == height
    assert all(p.col == 7 and p.width == width for p in parts)
    assert all(p.height * p.width <= 512 * 32_768 for p in parts)


def test_label_counts() -> None:
    counts, ignored = label_counts(INDICES, 3)
    assert (counts.tolist(), ignored) == ([2, 2, 3], 1)
