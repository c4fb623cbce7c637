from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from detection_sets import contents, make_detection_set, settings_of
from dying_labeller import DyingLabeller
from forked import begin
from geodistill.errors import DataError, GeodistillWarning, OutputError
from geodistill.label.build_labels import WorkerOptions, build
from geodistill.label.output_folder import JOURNAL, Journal
from geodistill.label.tile_records import TileRecord
from geodistill.label.tiles import TileId
from geodistill.raster import Window
from killed_label import TILED, build_and_die, build_in_two
from where import SUPPORT

pytestmark = pytest.mark.slow

POINTS = ("journal:0", "journal:3", "mask:0", "mask:5", "account:0", "end:0")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_detection_set(tmp_path_factory.mktemp("source"), 3)


@pytest.fixture(scope="module")
def uninterrupted(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    build(settings_of(source, **TILED), out)
    return contents(out)


@pytest.fixture(scope="module")
def killed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, each killed at its point."""
    results = tmp_path_factory.mktemp("killed")
    for point in POINTS:
        process = begin(build_and_die, source, results / point.replace(":", "-"), point)
        process.join()
        assert process.exitcode == -signal.SIGKILL, point
    return results


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_goes_on_to_the_same_bytes(
    point: str, killed: Path, source: Path, uninterrupted: dict[str, bytes]
) -> None:
    out = killed / point.replace(":", "-")
    held = contents(out)
    assert held != uninterrupted
    if point.startswith("mask"):
        assert [name for name in held if ".part-" in name]
    with pytest.raises(OutputError, match="--resume"):
        build(settings_of(source, **TILED), out)
    masks = {path: path.stat().st_mtime_ns for path in (out / "gray").glob("*.png")}
    build(settings_of(source, **TILED), out, resume=True)
    assert contents(out) == uninterrupted
    if point == "end:0":
        assert {path: path.stat().st_mtime_ns for path in masks} == masks, "done work was done again"


def test_several_processes_killed_from_outside_go_on_to_the_same_bytes(
    source: Path, tmp_path: Path, uninterrupted: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    process = begin(build_in_two, source, out)
    end = time.monotonic() + 120
    while not (out / JOURNAL).is_file() or not (out / JOURNAL).stat().st_size:
        assert process.is_alive()
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    process.join()
    build(settings_of(source, **TILED), out, resume=True)
    assert contents(out) == uninterrupted


def test_a_ray_worker_that_dies_costs_nothing(
    source: Path, tmp_path: Path, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT), prepend=os.pathsep)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("geodistill.label.build_labels.Labeller", DyingLabeller)
    build(settings_of(source, **TILED), tmp_path / "out", work=WorkerOptions(engine="ray"))
    assert (tmp_path / "died").is_file()
    assert contents(tmp_path / "out") == uninterrupted


def test_files_that_are_gone_are_made_again(source: Path, tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geodistill.label.build_labels.finish_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build(settings_of(source, **TILED), out)
    next((out / "gray").glob("*.png")).unlink()
    next((out / "images").glob("*.png")).unlink()
    with pytest.warns(GeodistillWarning, match=r"2 files \(gray/.*missing"):
        build(settings_of(source, **TILED), out, resume=True)
    assert contents(out) == uninterrupted


def record(key: str, row: int, error: str = "") -> TileRecord:
    return TileRecord(key, Window(row, 0, 8, 8), error)


def test_a_journal_keeps_whole_lines_only(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append([record("b", 8), record("a", 0)])
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'00000000 {"key": "c", "win')
    with Journal(tmp_path) as journal:
        assert journal.tiles() == [("a", 0, 0), ("b", 8, 0)]
        assert journal.altered == 0
        journal.append([record("b", 0), record("b", 8, "again")])
        assert journal.read(TileId("b", 8, 0)).error == "again"
        assert len(journal.tiles()) == 3
        assert TileId("b", 0, 0) in journal.tiles()
        journal.keep([TileId("b", 8, 0), TileId("a", 0, 0)], {"label.json": [1, 2]})
    with Journal(tmp_path) as journal:
        assert journal.tiles() == [("a", 0, 0), ("b", 8, 0)]
        assert journal.read(TileId("b", 8, 0)).error == "again"
        assert journal.finished == {"label.json": [1, 2]}
        journal.append([record("c", 0)])
        assert journal.finished is None
    with Journal(tmp_path) as journal:
        assert journal.finished is None


def test_a_batch_of_a_network_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network whose answers depend on what shares the batch: a run in several goes is that in one."""
    from geodistill.label.postprocess import NO_RULES
    from geodistill.label.segmenters import sam
    from promptable import save_promptable

    encode = sam.SamSegmenter._encode

    def shifted(self: sam.SamSegmenter, images: list[Any]) -> list[tuple[Any, ...]]:
        total = sum(int(image.sum()) % 97 for image in images)  # far more than the last bits
        return [tuple(level * (1 + total / 1000) for level in levels) for levels in encode(self, images)]

    monkeypatch.setattr(sam.SamSegmenter, "_encode", shifted)
    monkeypatch.setattr(sam, "batch_size", lambda device: 3)
    monkeypatch.setattr(sam, "choose_chunk", lambda *_: 2)
    source = make_detection_set(tmp_path / "set", 5)
    name = f"sam:{save_promptable('sam', tmp_path / 'weights')}"
    settings = settings_of(source, segmenter=name, tile=48, rules=NO_RULES)
    work = WorkerOptions(device="cpu", batch=3)
    build(settings, tmp_path / "whole", work=work)
    whole = contents(tmp_path / "whole")
    build(settings, tmp_path / "alone", work=WorkerOptions(device="cpu", batch=1))
    assert contents(tmp_path / "alone") != whole, "the batch shows in the masks"

    out = tmp_path / "out"
    build(settings, out, work=work)
    for path in sorted((out / "gray").glob("*.png"))[::3]:
        path.unlink()
    with pytest.warns(GeodistillWarning, match="labelled again"):
        build(settings, out, work=WorkerOptions(device="cpu"), resume=True)  # the batch is the run's own
    assert contents(out) == whole
    with pytest.raises(OutputError, match="batch was 3, is 2"):
        build(settings, out, work=WorkerOptions(device="cpu", batch=2), resume=True)

    image = source / "images/scene_1.png"
    good, times = image.read_bytes(), image.stat()
    image.write_bytes(good[: len(good) // 2])
    with pytest.raises(DataError, match="1 of 5 images failed"):
        build(settings, tmp_path / "mended", work=work)
    image.write_bytes(good)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    build(settings, tmp_path / "mended", work=work, resume=True)
    assert contents(tmp_path / "mended") == whole
