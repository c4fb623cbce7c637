from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_dataset, make_picture, make_raster, noise
from geodistill.cli import main
from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Manifest, Row
from geodistill.data.reader import Patch, WindowReader, refuse_moved
from geodistill.data.scan import scan
from geodistill.errors import DataError
from geodistill.raster import Raster, Window
from geodistill.spec import Legend

LEGEND, BANDS = Legend(("a", "b", "c")), tuple(f"band{i}" for i in range(1, 14))
windows = st.builds(Window, st.integers(-30, 90), st.integers(-30, 90), st.integers(1, 60), st.integers(1, 60))


def write(folder: Path, name: str = "scene", *, size: int = 80, channels: int = 3, dtype: str = "uint8") -> Row:
    pixels = noise((channels, size, size), dtype, len(name))
    pixels[:, : size // 8] = 0
    labels = np.arange(size * size).reshape(1, size, size) % 3
    image = make_raster(folder / f"{name}.tif", pixels=pixels, nodata=0, tiled=True)
    mask = make_raster(folder / f"{name}_mask.tif", pixels=labels.astype(np.uint8), tiled=True)
    return Row(image, mask, "train", Window(0, 0, size, size))


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> Row:
    return write(tmp_path_factory.mktemp("reader"))


def test_images_that_are_no_plain_files_are_left_to_whoever_opens_them(tmp_path: Path) -> None:
    rows = tuple(
        Row(Path(name), None, "train", Window(0, 0, 8, 8)) for name in ("/vsizip/a.zip/b.tif", "/vsis3/b/c.tif")
    )
    manifest = Manifest(rows, ("red",))
    manifest.save(tmp_path / "m.parquet")
    refuse_moved(Manifest.load(tmp_path / "m.parquet"))


def test_a_manifest_moved_without_its_images_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_dataset(tmp_path / "town", 6)
    scan(folder, None, folder / "m.parquet", legend=LEGEND)
    refuse_moved(Manifest.load(folder / "m.parquet"))
    (tmp_path / "elsewhere").mkdir()
    moved = (folder / "m.parquet").rename(tmp_path / "elsewhere" / "m.parquet")
    with pytest.raises(DataError, match=r"the first image of .*was it moved"):
        DataModule(DataConfig(manifest=str(moved)))
    for words in (["data", "check"], ["data", "stats"], ["evaluate", str(tmp_path)]):
        assert main([*words, str(moved)]) == 2
        assert "was it moved? move the images along, or scan again" in capsys.readouterr().err
    assert Manifest.load(moved).problems == ()


class TestWindows:
    @given(windows, st.sampled_from([Window(0, 0, 80, 80), Window(20, 10, 40, 30)]), st.sampled_from([0, 64]))
    @settings(deadline=None, max_examples=60)
    def test_any_window_of_any_area_equals_the_cut_of_the_padded_area(
        self, row: Row, window: Window, area: Window, cache_mb: int
    ) -> None:
        reader = WindowReader(LEGEND, BANDS[:3], cache_mb=cache_mb)
        patch = reader.read(Row(row.image, row.mask, "train", area), window)
        with Raster(row.image) as image, Raster(row.mask or "") as mask:
            pixels, valid = image.read(area)
            labels = np.where(valid, mask.read(area)[0][0], 255)
        around = ((100, 200), (100, 200))
        cut = Window(window.row + 100, window.col + 100, window.height, window.width).slices
        assert np.array_equal(patch.image, np.pad(pixels, ((0, 0), *around))[(..., *cut)])
        assert np.array_equal(patch.mask, np.pad(labels, around, constant_values=255)[cut])
        assert np.array_equal(patch.valid, np.pad(valid, around)[cut])

    @pytest.mark.parametrize("channels", [1, 3, 4, 13])
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_sensor_units_as_float(self, tmp_path: Path, channels: int, dtype: str) -> None:
        row = write(tmp_path, size=32, channels=channels, dtype=dtype)
        patch = WindowReader(LEGEND, BANDS[:channels]).read(row, Window(0, 0, 32, 32))
        assert (patch.image.dtype, patch.mask.dtype, patch.valid.dtype) == (np.float32, np.uint8, bool)
        assert np.array_equal(patch.image[:, 4:], noise((channels, 32, 32), dtype, 5)[:, 4:].astype(np.float32))
        assert not patch.valid[:4].any()
        assert (patch.image[:, :4] == 0).all()
        assert (patch.mask[:4] == 255).all()

    def test_bands_are_known_by_their_names(self, tmp_path: Path) -> None:
        pixels, mask = noise((4, 32, 32)), np.zeros((1, 32, 32), np.uint8)
        image = make_raster(tmp_path / "a.tif", pixels=pixels, bands=("nir", "red", "green", "blue"))
        row = Row(image, make_raster(tmp_path / "m.tif", pixels=mask), "train", Window(0, 0, 32, 32))
        for cache_mb in (0, 1):
            patch = WindowReader(LEGEND, ("blue", "green", "red"), cache_mb=cache_mb).read(row, Window(8, 8, 8, 8))
            assert np.array_equal(patch.image, pixels[:0:-1, 8:16, 8:16])

    def test_unlabelled_rows_are_ignored_everywhere(self, row: Row) -> None:
        patch = WindowReader(LEGEND, BANDS[:3]).read(
            Row(row.image, None, "unlabelled", row.window), Window(20, 20, 8, 8)
        )
        assert (patch.mask == 255).all()
        assert patch.valid.all()


class TestBounds:
    def test_few_files_stay_open(self, tmp_path: Path) -> None:
        rows = [write(tmp_path, f"s{i}", size=16) for i in range(6)]
        reader = WindowReader(LEGEND, BANDS[:3], handles=4)
        for row in rows * 2:
            reader.read(row, Window(0, 0, 8, 8))
            assert len(reader._open) <= 4

    def test_memory_stays_in_its_budget_and_the_pixels_are_the_same(self, tmp_path: Path) -> None:
        # 700 x 700 RGB with validity and mask is 2.3 MiB: one of three fits into 4 MiB.
        rows = []
        for i in range(3):
            pixels = np.moveaxis(noise((3, 700, 700), seed=i), 0, -1)
            image = make_picture(tmp_path / f"{i}.png", pixels)
            mask = make_picture(tmp_path / f"{i}_m.png", pixels[..., 0] % 3)
            rows.append(Row(image, mask, "train", Window(0, 0, 700, 700)))
        cached, plain = WindowReader(LEGEND, BANDS[:3], cache_mb=4), WindowReader(LEGEND, BANDS[:3])
        for row in rows * 2:
            one, other = (reader.read(row, Window(5, 600, 50, 130)) for reader in (cached, plain))
            assert np.array_equal(one.image, other.image)
            assert np.array_equal(one.mask, other.mask)
            assert 0 < cached._held <= 4 * 2**20
        assert plain._held == 0

    def test_large_tiled_scenes_are_not_decoded_whole(self, tmp_path: Path) -> None:
        image = make_raster(tmp_path / "a.tif", pixels=noise((1, 1100, 1100)), tiled=True)
        reader = WindowReader(None, BANDS[:1], cache_mb=100)
        reader.read(Row(image, None, "train", Window(0, 0, 1100, 1100)), Window(0, 0, 64, 64))
        assert reader._held == 0


class TestProcesses:
    def test_a_copy_sent_to_another_process_starts_empty(self, row: Row) -> None:
        reader = WindowReader(LEGEND, BANDS[:3], cache_mb=10)
        patch = reader.read(row, Window(0, 0, 30, 30))
        copy = pickle.loads(pickle.dumps(reader))
        assert (copy._held, len(copy._open)) == (0, 0)
        assert np.array_equal(copy.read(row, Window(0, 0, 30, 30)).image, patch.image)

    def test_forked_processes_open_their_own_files(self, row: Row) -> None:
        reader = WindowReader(LEGEND, BANDS[:3])
        expected = reader.read(row, Window(3, 4, 40, 40)).image
        context = multiprocessing.get_context("fork")
        queue = context.Queue()

        def work() -> None:
            patches = [reader.read(row, Window(3, 4, 40, 40)).image for _ in range(20)]
            queue.put(all(np.array_equal(patch, expected) for patch in patches))

        processes = [context.Process(target=work) for _ in range(2)]
        for process in processes:
            process.start()
        for _ in range(20):
            assert np.array_equal(reader.read(row, Window(3, 4, 40, 40)).image, expected)
        assert [queue.get(timeout=20) for _ in processes] == [True, True]
        for process in processes:
            process.join(20)
            assert process.exitcode == 0

    def test_closing_frees_everything(self, row: Row) -> None:
        reader = WindowReader(LEGEND, BANDS[:3], cache_mb=10)
        reader.read(row, Window(0, 0, 8, 8))
        reader.close()
        assert (reader._held, len(reader._open)) == (0, 0)


class TestMistakes:
    def read(self, row: Row, channels: int = 3, **options: bool) -> Patch:
        return WindowReader(LEGEND, BANDS[:channels], **options).read(row, Window(0, 0, 8, 8))

    def test_other_number_of_bands(self, row: Row) -> None:
        with pytest.raises(DataError, match="has 3 bands; expected 4 bands"):
            self.read(row, channels=4)

    def test_mask_of_another_size(self, row: Row, tmp_path: Path) -> None:
        mask = make_raster(tmp_path / "m.tif", pixels=np.zeros((1, 90, 80), np.uint8))
        with pytest.raises(DataError, match=r"is 80 x 90 and its image scene\.tif is 80 x 80"):
            self.read(Row(row.image, mask, "train", row.window))

    def test_image_that_shrank_since_the_scan(self, row: Row) -> None:
        with pytest.raises(DataError, match="the size it had when scanned"):
            self.read(Row(row.image, row.mask, "train", Window(0, 0, 80, 81)))

    def test_label_outside_the_legend(self, row: Row, tmp_path: Path) -> None:
        mask = make_raster(tmp_path / "m.tif", pixels=np.full((1, 80, 80), 7, np.uint8))
        bad = Row(row.image, mask, "train", row.window)
        with pytest.raises(DataError, match="label 7"):
            self.read(bad)
        assert (self.read(bad, ignore_unknown=True).mask == 255).all()
