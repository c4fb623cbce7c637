"""Runs that are killed, continued, disturbed and doubled: real processes, and maps compared byte by byte."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from factories import make_raster, noise
from geodistill.inference.checkpoint import remove_work, work_folder
from geodistill.inference.windows import WindowPlan
from slow_predict import TILE, kill, rows_in_journal, run, start, wait_for_rows
from where import SUPPORT

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 300, 90
PLAN = WindowPlan.of(HEIGHT, WIDTH, TILE, 0.25)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = noise((3, HEIGHT, WIDTH))
    pixels[:, 100:140, 20:60] = 0
    return make_raster(tmp_path_factory.mktemp("scene") / "scene.tif", pixels=pixels, nodata=0, tiled=True)


@pytest.fixture(scope="module")
def whole(scene: Path) -> dict[str, bytes]:
    """The maps of a run that nothing disturbed."""
    lines = run(scene, scene.parent / "map.tif", confidence=True, probabilities="float16")
    assert int(lines[-1]) == len(PLAN.tops) * len(PLAN.lefts)
    return {path.name: path.read_bytes() for path in scene.parent.glob("map*")}


def test_killed_at_any_moment_and_continued_is_the_same_to_the_last_byte(
    scene: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    rng, path = random.Random(0), tmp_path / "map.tif"
    wanted: dict[str, Any] = {"confidence": True, "probabilities": "float16", "resume": True}
    for rows in (1, 3, 4, 9):
        process = start(scene, path, 0.03, **wanted)
        wait_for_rows(process, path, rows)
        time.sleep(rng.uniform(0, 0.08))
        kill(process)
        assert not path.exists()
    finished = rows_in_journal(path)
    computed = int(run(scene, path, **wanted)[-1])
    # What was not finished, and of what was, one row of windows: that which overlaps the next.
    assert computed <= (len(PLAN.tops) - finished + 1) * len(PLAN.lefts)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.is_dir()} == whole
    assert not work_folder(path).exists()


@pytest.mark.parametrize("layer", ["probabilities", "classes"])
def test_killed_while_the_maps_are_written(scene: Path, whole: dict[str, bytes], tmp_path: Path, layer: str) -> None:
    path, deadline = tmp_path / "map.tif", time.monotonic() + 300
    wanted: dict[str, Any] = {"confidence": True, "probabilities": "float16"}
    process = start(scene, path, hang=layer, **wanted)
    while not (work_folder(path) / f"{layer}.hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    kill(process)
    # The map of classes comes last, so nothing takes this one for finished.
    assert not path.exists()
    assert (tmp_path / "map_probabilities.tif").exists() == (layer == "classes")
    assert run(scene, path, resume=True, **wanted) == ["0"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == whole


def test_killed_between_the_last_map_and_the_end(scene: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    wanted: dict[str, Any] = {"confidence": True, "probabilities": "float16"}
    process = start(scene, path, 0.03, **wanted)
    wait_for_rows(process, path, 2)
    kill(process)
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    # The work that is left is that of the finished maps, and goes.
    assert run(scene, path, resume=True, **wanted) == ["0"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == whole


def test_a_finished_map_is_left_as_it_is(scene: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data)
    wanted: dict[str, Any] = {"confidence": True, "probabilities": "float16"}
    work_folder(path).mkdir()
    left = work_folder(path) / ".geodistill.lock.json"  # of a run that was killed as its very last file was to go
    left.write_text("{}", encoding="utf-8")
    # The folder of the first map is another, but the scene and all settings are the same.
    assert run(scene, path, resume=True, **wanted) == ["0"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == whole
    assert int(run(scene, path, resume=True, confidence=True)[-1]) > 0


def test_bytes_that_were_lost_are_made_again(scene: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    process = start(scene, path, 0.03)
    wait_for_rows(process, path, 5)
    kill(process)
    (stored,) = work_folder(path).glob("*classes.bin")
    data = bytearray(stored.read_bytes())
    data[3 * 24 * WIDTH + 7] ^= 1  # in the fourth row of windows
    stored.write_bytes(data)
    (journal,) = work_folder(path).glob("*.jsonl")
    journal.write_bytes(journal.read_bytes() + b'{"row": 99, "rows"')
    computed = int(run(scene, path, resume=True)[-1])
    assert computed >= (len(PLAN.tops) - 3) * len(PLAN.lefts) - 12  # some windows have no data
    assert path.read_bytes() != b""
    with rasterio.open(path) as file, rasterio.open(scene.parent / "map.tif") as first:
        np.testing.assert_array_equal(file.read(), first.read())


def test_work_with_other_settings_is_not_continued(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    process = start(scene, path, 0.03)
    wait_for_rows(process, path, 2)
    kill(process)
    assert "holds work with other confidence" in run(scene, path, resume=True, confidence=True)[0]
    # Without --resume it begins anew.
    assert len(run(scene, path, confidence=True)) == 1
    assert path.exists()


def test_a_second_run_on_one_map_is_refused_and_harms_nothing(
    scene: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    path, wanted = tmp_path / "map.tif", {"confidence": True, "probabilities": "float16"}
    process = start(scene, path, told="first", until=tmp_path / "go", **wanted)
    deadline = time.monotonic() + 300
    while not (work_folder(path) / "about.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for more in ({}, {"resume": True}, {"probabilities": "uint8"}):
        assert "is in use by 'geodistill predict'" in run(scene, path, **(wanted | more))[0]
    (tmp_path / "go").touch()
    process.join(120)
    (tmp_path / "go").unlink()
    assert process.exitcode == 0
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == whole


def test_a_lock_dies_with_its_process(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    process = start(scene, path, 5)
    deadline = time.monotonic() + 300
    while not (work_folder(path) / "about.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    kill(process)
    assert len(run(scene, path)) == 1
    assert path.exists()


def test_a_stop_by_ctrl_c_keeps_what_is_finished(scene: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    process = start(scene, path, 0.03, confidence=True, probabilities="float16")
    wait_for_rows(process, path, 3)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert rows_in_journal(path) >= 3
    assert [file.name for file in tmp_path.iterdir()] == [work_folder(path).name]
    run(scene, path, confidence=True, probabilities="float16", resume=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if not file.is_dir()} == whole


def corrupt(path: Path, row: int) -> Path:
    """Overwrite the bytes of the blocks at a row of the file."""
    with rasterio.open(path) as file:
        blocks = [(row // 64, column) for column in range(-(-WIDTH // 64))]
        offsets = [file.get_tag_item(f"BLOCK_OFFSET_{column}_{line}", "TIFF", bidx=1) for line, column in blocks]
        sizes = [file.get_tag_item(f"BLOCK_SIZE_{column}_{line}", "TIFF", bidx=1) for line, column in blocks]
    data = bytearray(path.read_bytes())
    for offset, size in zip(offsets, sizes, strict=True):
        data[int(offset) : int(offset) + int(size)] = bytes(int(size))
    path.write_bytes(data)
    return path


def test_a_corrupt_block_stops_the_run_or_becomes_a_recorded_hole(scene: Path, tmp_path: Path) -> None:
    broken = corrupt(shutil.copy(scene, tmp_path / "broken.tif"), 150)
    told = run(broken, tmp_path / "map.tif")[0]
    assert "broken.tif is truncated or corrupt at row 128, column 0" in told or "corrupt at row" in told
    assert told.endswith("finished rows are kept: the same command with --resume goes on from them")
    run(broken, tmp_path / "map.tif", resume=True, keep_going=True, unlike=True)
    with rasterio.open(tmp_path / "map_unlike.tif") as file:
        assert (file.read(1)[2] == 255).all()  # a row of cells of 64 pixels
    with rasterio.open(tmp_path / "map.tif") as file:
        classes, tags = file.read(1), file.tags()
    holes = json.loads(tags["HOLES"])
    unread = np.zeros(classes.shape, bool)
    for hole in holes:
        unread[hole["row"] : hole["row"] + hole["height"], hole["col"] : hole["col"] + hole["width"]] = True
        assert "corrupt" in hole["reason"]
    assert unread[128:192].all()
    assert not unread[:128].any()
    assert not unread[192:].any()
    assert (classes[unread] == 255).all()
    with rasterio.open(scene) as file:
        assert (classes[~unread] != 255).mean() == pytest.approx((file.dataset_mask() != 0)[~unread].mean())


def test_a_source_that_vanishes_before_it_is_read(scene: Path, tmp_path: Path) -> None:
    lines = run(tmp_path / "gone.tif", tmp_path / "out" / "map.tif")
    assert "no file" in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare to mount a small disk")
@pytest.mark.parametrize(("kilobytes", "full"), [(600, False), (200, True), (70, True)])
def test_a_disk_that_really_fills_up(scene: Path, tmp_path: Path, kilobytes: int, full: bool) -> None:
    script, raster = str(SUPPORT / "slow_predict.py"), str(scene)
    flags = json.dumps({"probabilities": "uint8", "confidence": True})
    mount = f"mount -t tmpfs -o size={kilobytes}k none {tmp_path}"
    command = f"{mount} && {sys.executable} {script} {raster} {tmp_path}/map.tif '{flags}' && ls -A {tmp_path}"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path]), "OMP_NUM_THREADS": "1"},
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system of one's own can be mounted here ({done.stderr.strip()[-200:]})")
    lines = done.stdout.splitlines()
    if full:
        assert lines[0].startswith("the disk is full while writing"), (lines, done.stderr)
        assert not any(line.startswith("map") for line in lines[2:] if line == "map.tif")
        assert done.stderr == ""
    else:
        names = ["map.qml", "map.tif", "map.tif.aux.xml", "map_confidence.tif", "map_probabilities.tif"]
        assert sorted(lines[1:]) == names


def test_the_marker_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed while it empties its folder leaves what the next one knows to be its own."""
    path, gone = tmp_path / "map.tif", list[str]()
    work_folder(path).mkdir()
    for name in ("about.json", ".geodistill.json", "rows-1.bin", "classes.vrt"):
        (work_folder(path) / name).touch()
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda self, **more: gone.append(self.name) or unlink(self, **more))
    remove_work(path)
    assert gone[-1] == ".geodistill.json"
    assert len(gone) == 4
