"""What changed, or was altered, between a run that was killed and the one that is to continue it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from torch import Tensor

from factories import make_raster, noise
from geodistill.errors import GeodistillError
from geodistill.inference.checkpoint import work_folder
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from served import serve
from slow_predict import rows_in_journal
from tiny import ContextNetwork, tiny_networks, tiny_segmenter

HEIGHT, WIDTH = 300, 90


def scene_of(path: Path, seed: int = 0) -> Path:
    return make_raster(path, pixels=noise((3, HEIGHT, WIDTH), seed=seed), tiled=True)


def mosaic(folder: Path) -> Path:
    rasterio.shutil.copy(scene_of(folder / "tile.tif"), folder / "scene.vrt", driver="VRT")
    return folder / "scene.vrt"


def nested(folder: Path) -> Path:
    rasterio.shutil.copy(mosaic(folder), folder / "outer.vrt", driver="VRT")
    return folder / "outer.vrt"


class Stopped(BaseException):
    """Ends a run as nothing does that it knows: what it leaves is what a killed one leaves."""


def run(source: Path | str, path: Path, windows: int | None = None, **flags: Any) -> list[str]:
    """Map a raster; return the error, if there is one, and how many windows the network has seen.

    Where ``windows`` are given, the run dies after so many.
    """
    plain, seen = ContextNetwork.forward, 0

    def counted(self: ContextNetwork, image: Tensor) -> Any:
        nonlocal seen
        seen += image.shape[0]
        if windows is not None and seen > windows:
            raise Stopped
        return plain(self, image)

    lines = []
    with pytest.MonkeyPatch.context() as patch, tiny_networks():
        patch.setattr(ContextNetwork, "forward", counted)
        try:
            predict(
                tiny_segmenter("context", tile=32),
                [source],
                path,
                PredictOptions(device="cpu", backend="torch", batch=2, **flags),
            )
        except GeodistillError as error:
            lines.append(str(error))
    return [*lines, str(seen)]


def begun(source: Path, path: Path, windows: int = 25, **flags: Any) -> None:
    """Leave the work of a run that died."""
    with pytest.raises(Stopped):
        run(source, path, windows, **flags)
    assert rows_in_journal(path) >= 2


def other_pixels(folder: Path) -> None:
    scene_of(folder / "tile.tif", seed=1)


def mask_beside(folder: Path) -> None:
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(folder / "tile.tif", "r+") as file:
        file.write_mask(np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 2 == 0)


def nodata_beside(folder: Path) -> None:
    (folder / "scene.vrt.aux.xml").write_text("<PAMDataset></PAMDataset>")


CHANGES: list[tuple[Callable[[Path], Path], Callable[[Path], None]]] = [
    (mosaic, other_pixels),
    (nested, other_pixels),
    (mosaic, mask_beside),
    (mosaic, nodata_beside),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_a_source_that_changed_is_not_continued(
    tmp_path: Path, make: Callable[[Path], Path], change: Callable[[Path], None]
) -> None:
    source, path = make(tmp_path), tmp_path / "out" / "map.tif"
    begun(source, path)
    rows = rows_in_journal(path)
    change(tmp_path)
    (told, _) = run(source, path, resume=True)
    assert "holds work with other stamp" in told
    assert "finished rows are kept" not in told
    assert rows_in_journal(path) == rows
    # Begun anew, it is the map of a run that knew no other source.
    run(source, path)
    run(source, tmp_path / "fresh" / "map.tif")
    assert path.read_bytes() == (tmp_path / "fresh" / "map.tif").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_a_finished_map_of_another_source_is_made_again(
    tmp_path: Path, make: Callable[[Path], Path], change: Callable[[Path], None]
) -> None:
    source, path = make(tmp_path), tmp_path / "out" / "map.tif"
    run(source, path)
    assert run(source, path, resume=True) == ["0"]
    change(tmp_path)
    assert int(run(source, path, resume=True)[-1]) > 0
    run(source, tmp_path / "fresh" / "map.tif")
    assert path.read_bytes() == (tmp_path / "fresh" / "map.tif").read_bytes()


def test_a_source_on_the_network_that_changed(tmp_path: Path) -> None:
    path = tmp_path / "out" / "map.tif"
    with serve(tmp_path / "served") as server:
        scene_of(server.folder / "scene.tif")
        address = f"{server.address}/scene.tif"
        run(address, path)
        assert run(address, path, resume=True) == ["0"]
        make_raster(server.folder / "scene.tif", pixels=noise((3, HEIGHT + 1, WIDTH)), tiled=True)
        os.utime(server.folder / "scene.tif", (1, 1))
        assert int(run(address, path, resume=True)[-1]) > 0


# What is altered in the work, and whether the rows that are finished can still be used.
def cut_about(folder: Path) -> None:
    about = folder / "about.json"
    about.write_bytes(about.read_bytes()[:-20])


def no_object(folder: Path) -> None:
    (folder / "about.json").write_text("[1, 2]")


def not_utf8(folder: Path) -> None:
    (folder / "about.json").write_bytes(b"\xff\xfe{}")


def nested_deep(folder: Path) -> None:
    (folder / "about.json").write_text('{"a": ' * 5000 + "1" + "}" * 5000)


def first_journal_line(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    (journal,) = folder.glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    check_sum, _, record = lines[0].partition(b" ")
    lines[0] = check_sum + b" " + json.dumps(change(json.loads(record))).encode() + b"\n"
    journal.write_bytes(b"".join(lines))


def without_row(folder: Path) -> None:
    first_journal_line(folder, lambda line: {key: value for key, value in line.items() if key != "row"})


def more_windows(folder: Path) -> None:
    first_journal_line(folder, lambda line: line | {"windows": 10**6})


def invented_hole(folder: Path) -> None:
    hole = {"row": 0, "col": 0, "height": 5, "width": 5, "reason": "none"}
    first_journal_line(folder, lambda line: line | {"holes": [hole]})


def a_number(folder: Path) -> None:
    first_journal_line(folder, lambda line: 7)


def deep_line(folder: Path) -> None:
    (journal,) = folder.glob("*.jsonl")
    journal.write_bytes(b"[" * 100_000 + b"\n" + journal.read_bytes())


def lines_swapped(folder: Path) -> None:
    (journal,) = folder.glob("*.jsonl")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


ALTERED = [cut_about, no_object, not_utf8, nested_deep, without_row, more_windows, invented_hole, a_number, deep_line]
ALTERED += [lines_swapped]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = tmp_path_factory.mktemp("fresh")
    scene = scene_of(folder / "scene.tif")
    run(scene, folder / "map.tif")
    return scene, (folder / "map.tif").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("alter", ALTERED)
def test_altered_work_is_done_again_and_never_wrong(
    tmp_path: Path, fresh: tuple[Path, bytes], alter: Callable[[Path], None]
) -> None:
    scene, expected = fresh
    path = tmp_path / "map.tif"
    begun(scene, path)
    alter(work_folder(path))
    assert len(run(scene, path, resume=True)) == 1
    assert path.read_bytes() == expected
    assert not work_folder(path).exists()


@pytest.mark.parametrize(("key", "value"), [("batch", "x"), ("batch", None), ("backend", "gpu"), ("device", 5)])
def test_work_with_altered_choices_begins_anew(
    tmp_path: Path, fresh: tuple[Path, bytes], key: str, value: object
) -> None:
    scene, expected = fresh
    path = tmp_path / "map.tif"
    begun(scene, path)
    about = work_folder(path) / "about.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {key: value}))
    assert int(run(scene, path, resume=True)[-1]) > 0
    assert path.read_bytes() == expected
    assert not work_folder(path).exists()


@pytest.mark.parametrize("alter", [cut_about, not_utf8])
def test_altered_work_beside_a_finished_map_goes(
    tmp_path: Path, fresh: tuple[Path, bytes], alter: Callable[[Path], None]
) -> None:
    scene, expected = fresh
    path = tmp_path / "map.tif"
    begun(scene, path)
    alter(work_folder(path))
    path.write_bytes(expected)
    assert run(scene, path, resume=True) == ["0"]
    assert path.read_bytes() == expected
    assert not work_folder(path).exists()


@pytest.mark.parametrize(("tag", "text"), [("HOLES", "{"), ("HOLES", "[5]"), ("WINDOWS", "many"), ("CHOSEN", "[]")])
def test_altered_tags_of_a_finished_map(tmp_path: Path, fresh: tuple[Path, bytes], tag: str, text: str) -> None:
    scene, expected = fresh
    path = tmp_path / "map.tif"
    path.write_bytes(expected)
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as file:
        file.update_tags(**{tag: text})
    assert len(run(scene, path, resume=True)) == 1
    with rasterio.open(path) as file, rasterio.open(scene.parent / "map.tif") as first:
        np.testing.assert_array_equal(file.read(), first.read())


def test_a_finished_map_that_was_cut_short_is_made_again(tmp_path: Path, fresh: tuple[Path, bytes]) -> None:
    scene, expected = fresh
    path = tmp_path / "map.tif"
    path.write_bytes(expected[: len(expected) - 2000])
    assert int(run(scene, path, resume=True)[-1]) > 0
    assert path.read_bytes() == expected


def test_work_is_never_followed_through_a_link(tmp_path: Path, fresh: tuple[Path, bytes]) -> None:
    scene, _ = fresh
    path, other = tmp_path / "map.tif", tmp_path / "other"
    other.mkdir()
    (other / "keep.txt").write_text("mine")
    work_folder(path).symlink_to(other)
    for resume in (False, True):
        assert "is a link" in run(scene, path, resume=resume)[0]
    assert [file.name for file in other.iterdir()] == ["keep.txt"]


def test_a_link_within_the_work_is_not_written_through(tmp_path: Path, fresh: tuple[Path, bytes]) -> None:
    scene, expected = fresh
    path, mine = tmp_path / "map.tif", tmp_path / "mine.txt"
    begun(scene, path)
    mine.write_text("mine")
    (stored,) = work_folder(path).glob("*classes.bin")
    stored.unlink()
    for name in (stored.name, "classes.tif", "classes.vrt", "overview-0.bin"):
        (work_folder(path) / name).symlink_to(mine)
    run(scene, path, resume=True)
    assert path.read_bytes() == expected
    assert mine.read_text() == "mine"


def test_what_is_not_ours_in_the_work_is_never_removed(tmp_path: Path, fresh: tuple[Path, bytes]) -> None:
    scene, _ = fresh
    path = tmp_path / "map.tif"
    folder = work_folder(path)
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert "thesis.txt" in run(scene, path)[0]
    (folder / "thesis.txt").unlink()
    begun(scene, path)
    (folder / "thesis.txt").write_text("mine")
    assert "thesis.txt" in run(scene, path)[0]
    assert (folder / "thesis.txt").read_text() == "mine"
    # Finished rows are still there, and a run that goes on leaves nothing but what is not ours.
    assert len(run(scene, path, resume=True)) == 1
    assert [file.name for file in folder.iterdir()] == ["thesis.txt"]


def test_sums_between_columns_that_were_altered_are_told(tmp_path: Path, fresh: tuple[Path, bytes]) -> None:
    scene = make_raster(tmp_path / "wide.tif", pixels=noise((3, 120, 1200)), tiled=True)
    path = tmp_path / "map.tif"
    limit: dict[str, Any] = {"max_memory": 5_000_000}
    begun(scene, path, 160, **limit)
    edges = list(work_folder(path).glob("edge-*.bin"))
    assert edges
    for edge in edges:
        data = bytearray(edge.read_bytes())
        data[len(data) // 2] ^= 1
        edge.write_bytes(data)
    told = run(scene, path, resume=True, **limit)
    assert len(told) == 1 or "was altered; expected the file as it was written; run without --resume" in told[0]
    run(scene, path, **limit)
    run(scene, tmp_path / "fresh.tif", **limit)
    assert path.read_bytes() == (tmp_path / "fresh.tif").read_bytes()
