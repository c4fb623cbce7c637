"""The teacher's cache: what is kept, for whom, and what a kill, a full disk or a second process does to it."""

import errno
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cached import SHAPES, cache, fill_under_a_limit, hold_lock, parts, write_all_slots
from forked import begin, run_function
from geodistill.errors import ArtifactError, GeodistillError, GeodistillWarning, RecipeError
from geodistill.methods.teacher import Storage
from geodistill.nn.weights import weights_hash


@settings(max_examples=15)
@given(
    seed=st.integers(0, 999), scale=st.sampled_from([1e-3, 1.0, 300.0]), storage=st.sampled_from(["float16", "uint8"])
)
def test_what_is_written_is_read_to_the_storages_precision(
    tmp_path_factory: pytest.TempPathFactory, seed: int, scale: float, storage: Storage
) -> None:
    root = tmp_path_factory.mktemp("cache")
    first, given_parts = cache(root, storage=storage), parts(seed, scale)
    assert first.read(3) is None
    rounded = first.write(3, given_parts)
    for reader in (first, cache(root, storage=storage)):
        held = reader.read(3)
        assert held is not None
        for own, expected, same in zip(held, given_parts, rounded, strict=True):
            assert torch.equal(own, same)
            if storage == "float16":
                torch.testing.assert_close(own.float(), expected, rtol=1e-3, atol=1e-7)
            else:
                step = (expected.flatten(1).amax(1) - expected.flatten(1).amin(1)) / 255
                assert ((own - expected).abs().flatten(1).amax(1) <= 0.51 * step).all()
    assert first.read(2) is None
    assert len(cache(root, storage=storage)) == 1


def test_records_lie_in_shards_and_do_not_touch_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.methods.cache.SHARD_BYTES", 2 * 4096)
    first = cache(tmp_path)
    for slot in (5, 0, 3):
        first.write(slot, parts(slot))
    assert sorted(path.name for path in first.folder.glob("shard_*")) == [f"shard_000{i}.bin" for i in (0, 1, 2)]
    for slot in (0, 3, 5):
        held = cache(tmp_path).read(slot)
        assert held is not None
        assert torch.equal(held[0], parts(slot)[0].half())
    assert [cache(tmp_path).read(slot) for slot in (1, 2, 4)] == [None] * 3


def test_a_record_takes_whole_pages_and_the_cap_leaves_the_rest_out(tmp_path: Path) -> None:
    capped = cache(tmp_path, cap=2.5 * 4096)
    assert (capped.size.record, capped.size.views, capped.size.room) == (4096, 6, 2)
    assert "room for 2" in str(capped.size)
    capped.write(1, parts(1))
    kept = capped.write(2, parts(2))
    assert capped.read(1) is not None
    assert capped.read(2) is None
    assert torch.equal(kept[0], parts(2)[0].half())
    with pytest.raises(RecipeError, match=r"teacher\.cache_gb"):
        cache(tmp_path, cap=100)


def test_another_teacher_data_or_view_has_a_folder_of_its_own(tmp_path: Path) -> None:
    cache(tmp_path).write(0, parts(0))
    for about in ({"weights": "other"}, {"views": {"seed": 1}}):
        assert cache(tmp_path, **about).read(0) is None
    assert cache(tmp_path, slots=7).read(0) is None
    assert cache(tmp_path, storage="uint8").read(0) is None
    assert cache(tmp_path).read(0) is not None


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    folder = cache(tmp_path).folder
    (folder / "meta.json").write_text('{"weights": "of another teacher"}')
    with pytest.raises(ArtifactError, match=r"written by another teacher.*remove that folder"):
        cache(tmp_path)
    (folder / "meta.json").write_text("half a fi")
    with pytest.raises(ArtifactError, match="another teacher"):
        cache(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(GeodistillError, match=r"file.*cannot be written"):
        cache(tmp_path / "file")


def test_one_changed_weight_changes_the_hash() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = weights_hash(network)
    assert weights_hash(network) == before
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] += 1e-6
    changed = weights_hash(network)
    network[1].running_mean[0] += 1
    assert len({before, changed, weights_hash(network)}) == 3


@pytest.mark.parametrize("damage", ["zeros", "flipped", "short", "gone"])
def test_a_record_that_is_not_whole_is_never_used_and_is_written_again(tmp_path: Path, damage: str) -> None:
    first = cache(tmp_path)
    first.write(2, parts(2))
    shard = first.folder / "shard_0000.bin"
    data = bytearray(shard.read_bytes())
    start = 2 * first.size.record
    if damage == "zeros":
        data[start + 50 :] = bytes(len(data) - start - 50)
    elif damage == "flipped":
        data[start + 7] ^= 1
    shard.write_bytes(bytes(data[: start + 10] if damage == "short" else data))
    if damage == "gone":
        shard.unlink()
    again = cache(tmp_path)
    assert again.read(2) is None
    again.write(2, parts(2))
    held = cache(tmp_path).read(2)
    assert held is not None
    assert torch.equal(held[0], parts(2)[0].half())


def test_a_full_disk_is_told_once_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = cache(tmp_path)
    full.write(0, parts(0))

    def no_room(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("geodistill.methods.cache.write_all", no_room)
    with pytest.warns(GeodistillWarning, match=r"No space left.*training goes on"):
        rounded = full.write(1, parts(1))
    assert torch.equal(rounded[0], parts(1)[0].half())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        full.write(2, parts(2))
    assert full.read(0) is not None
    assert full.read(1) is None
    monkeypatch.undo()
    assert cache(tmp_path).read(1) is None


@pytest.mark.slow
def test_a_real_limit_on_the_files_size_does_not_end_the_process(tmp_path: Path) -> None:
    run_function(fill_under_a_limit, tmp_path)
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["warnings"] == 1
    assert set(told["kept"]) <= {0, 1, 2}  # none where the file cannot be made as large as it is to become


@pytest.mark.slow
def test_processes_that_write_at_once_and_are_killed_leave_only_whole_records(tmp_path: Path) -> None:
    writers = [begin(write_all_slots, tmp_path, seed, 400) for seed in (0, 1)]
    own = cache(tmp_path, slots=400)
    deadline = time.monotonic() + 120
    while len(own) < 25 and time.monotonic() < deadline:
        time.sleep(0.002)
    for writer in writers:
        writer.kill()
        writer.join()
    held = [slot for slot in range(400) if own.read(slot) is not None]
    assert len(held) >= 25
    for slot in held:
        record = own.read(slot)
        assert record is not None
        assert all(torch.equal(a, b.half()) for a, b in zip(record, parts(slot), strict=True))


@pytest.mark.slow
def test_while_another_process_writes_for_long_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.methods.cache.LOCK_SECONDS", 0.1)
    own = cache(tmp_path)
    other = begin(hold_lock, own.folder / "write.lock")
    while not (own.folder / "write.lock.held").exists() and other.is_alive():
        time.sleep(0.005)
    assert other.is_alive()
    own.write(1, parts(1))
    assert own.read(1) is None
    other.kill()
    other.join()
    own.write(1, parts(1))
    assert own.read(1) is not None


def test_numbers_beyond_half_precision_are_refused_for_it_and_kept_in_bytes(tmp_path: Path) -> None:
    loud = [1e5 * torch.ones(shape) for shape in SHAPES]
    with pytest.raises(RecipeError, match=r"cache_storage: uint8"):
        cache(tmp_path).write(0, loud)
    own = cache(tmp_path, storage="uint8")
    own.write(0, loud)
    held = own.read(0)
    assert held is not None
    torch.testing.assert_close(held[0], loud[0])


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"\(5, 3, 6\)"):
        cache(tmp_path).write(0, [parts(0)[0][..., :6], parts(0)[1]])


def test_files_are_plain_numbers(tmp_path: Path) -> None:
    own = cache(tmp_path)
    own.write(4, parts(4))
    data = np.fromfile(own.folder / "shard_0000.bin", np.float16)
    place = 4 * own.size.record // 2
    assert np.array_equal(data[place : place + 105], parts(4)[0].half().numpy().reshape(-1))
    assert np.flatnonzero(np.fromfile(own.folder / "index.bin", "<u4")).tolist() == [4]
