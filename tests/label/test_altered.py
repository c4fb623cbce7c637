"""What stands in the folder of a run is not what was written there: nothing is taken for done that is not."""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection_sets import contents, make_detection_set, read_coco, settings_of, write_boxes
from geodistill.data.manifest import Manifest
from geodistill.errors import GeodistillError, GeodistillWarning, OutputError
from geodistill.label.accounts import format_account, read_account
from geodistill.label.build_labels import WorkerOptions, build
from geodistill.label.output_folder import JOURNAL, Journal
from geodistill.label.postprocess import NO_RULES
from killed_label import TILED


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_detection_set(tmp_path_factory.mktemp("source"), 3)


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    build(settings_of(source, **TILED), out)
    return contents(out)


def stopped(source: Path, out: Path, *, resume: bool = False) -> None:
    """A run that was killed when all tiles were done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geodistill.label.build_labels.finish_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            build(settings_of(source, **TILED), out, resume=resume)


def cut(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
@pytest.mark.parametrize("folder", ["gray", "color", "images"])
def test_a_damaged_file_is_made_again(
    folder: str,
    damage: Callable[[Path], None],
    finished: bool,
    source: Path,
    tmp_path: Path,
    whole: dict[str, bytes],
) -> None:
    out = tmp_path / "out"
    (build if finished else stopped)(settings_of(source, **TILED) if finished else source, out)  # type: ignore[operator]
    path = sorted((out / folder).glob("*.png"))[2]
    damage(path)
    with pytest.warns(GeodistillWarning, match=f"1 files .{folder}/{path.name}.*labelled again"):
        build(settings_of(source, **TILED), out, resume=True)
    assert contents(out) == whole


def mutations(line: bytes) -> list[bytes]:
    """A line of the journal, altered in one place, and made-up ones."""
    places = range(0, len(line) - 1, max(len(line) // 12, 1))
    return [line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :] for at in places] + [
        line.replace(b'"error":""', b'"error": ""'),
        line[9:],  # as it was before lines had check sums
        b"\xff\xfe\n",
        b"null\n",
        b"%08x null\n" % zlib.crc32(b"null"),
        b'%08x {"key":"scene_0","window":5,"error":""}\n' % zlib.crc32(b'{"key":"scene_0","window":5,"error":""}'),
        b"[" * 100_000 + b"\n",
    ]


def test_an_altered_journal_line_is_no_record(source: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    stopped(source, tmp_path / "out")
    lines = (tmp_path / "out" / JOURNAL).read_bytes().splitlines(keepends=True)
    for line in mutations(lines[3]):
        (tmp_path / "j").mkdir(exist_ok=True)
        (tmp_path / "j" / JOURNAL).write_bytes(b"".join([*lines[:3], line, *lines[4:]]))
        with Journal(tmp_path / "j") as journal:
            assert len(journal.tiles()) == len(lines) - 1 - line.count(b"\n", 0, -1)
            assert journal.altered == 1
    (tmp_path / "out" / JOURNAL).write_bytes(b"".join([*lines[:3], mutations(lines[3])[5], *lines[4:]]))
    with pytest.warns(GeodistillWarning, match="1 lines are not as they were written"):
        build(settings_of(source, **TILED), tmp_path / "out", resume=True)
    assert contents(tmp_path / "out") == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["label.json", "instances.json", "legend.yaml", "manifest.parquet"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink])
def test_files_about_the_set_are_made_again(
    name: str, damage: Callable[[Path], None], source: Path, tmp_path: Path, whole: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    build(settings_of(source, **TILED), out)
    damage(out / name)
    damaged = contents(out)
    stays = name == "manifest.parquet" and damage is not Path.unlink  # it may be a person's own splits
    before = {path: path.stat().st_mtime_ns for path in (out / "gray").glob("*.png")}
    with pytest.warns(
        GeodistillWarning, match=f"{name} is not as it was written and {'stays' if stays else 'is made'}"
    ):
        build(settings_of(source, **TILED), out, resume=True)
    assert contents(out) == (damaged if stays else whole)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "no tile was labelled again"


def divided_by_hand(out: Path) -> bytes:
    """Put all images of a run into the test split, as a person may, and give the bytes of that manifest."""
    path = out / "manifest.parquet"
    manifest = Manifest.load(path)
    replace(manifest, entries=tuple(replace(entry, split="test") for entry in manifest.entries)).save(path)
    return path.read_bytes()


def resumed(source: Path, out: Path) -> list[str]:
    """Continue a run and give its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        build(settings_of(source, **TILED), out, resume=True, keep_going=True)
    return [str(one.message) for one in caught]


def repaint(path: Path) -> None:
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)


@pytest.mark.parametrize("damage", ["mask", "instances", "image", "no image", "killed"])
def test_a_persons_manifest_stays_whatever_else_is_made_again(damage: str, tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 3), tmp_path / "out"
    build(settings_of(source, **TILED), out)
    mine = divided_by_hand(out)
    image = source / "images/scene_1.png"
    if damage in ("mask", "killed"):
        cut(sorted((out / "gray").glob("*.png"))[0])
    elif damage == "instances":
        cut(out / "instances.json")
    else:
        repaint(image) if damage == "image" else cut(image)
    if damage == "killed":
        with warnings.catch_warnings(action="ignore"):
            stopped(source, out, resume=True)
        assert (out / "manifest.parquet").read_bytes() == mine
    assert sum("manifest.parquet is not as it was written and stays" in text for text in resumed(source, out)) == 1
    assert (out / "manifest.parquet").read_bytes() == mine
    cut(sorted((out / "color").glob("*.png"))[0])
    assert sum("manifest.parquet is not as it was written and stays" in text for text in resumed(source, out)) == 1
    assert (out / "manifest.parquet").read_bytes() == mine, "the manifest that was kept is not taken for ours"
    counts = read_account(out)["manifest"]
    assert counts["splits"] == {"test": len(Manifest.load(out / "manifest.parquet").entries)}, "those of the kept one"
    (out / "manifest.parquet").unlink()
    resumed(source, out)
    assert "train" in {entry.split for entry in Manifest.load(out / "manifest.parquet").entries}


def test_the_account_of_another_division_tells_of_a_persons_manifest(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 3), tmp_path / "out"
    build(settings_of(source), out)
    divided_by_hand(out)
    for fractions, splits in (((0.5, 0.5, 0.0), {"test": 2}), ((0.4, 0.6, 0.0), None)):
        if splits is None:
            cut(out / "manifest.parquet")
        with pytest.warns(GeodistillWarning, match=r"manifest\.parquet is not as it was written and stays"):
            account = build(settings_of(source, fractions=fractions), out, resume=True)
        assert account["manifest"].get("splits") == splits
        assert ("manifest.parquet" in format_account(account, out)) == (splits is not None)


@pytest.mark.slow
def test_the_manifest_of_a_run_that_was_killed_when_made_again_is_ours(tmp_path: Path) -> None:
    source, out = make_detection_set(tmp_path / "set", 3), tmp_path / "out"
    build(settings_of(source, **TILED), out)
    before = (out / "manifest.parquet").read_bytes()
    for n in range(3):
        repaint(source / f"images/scene_{n}.png")
    with pytest.warns(GeodistillWarning, match="changed since"):
        stopped(source, out, resume=True)
    assert (out / "manifest.parquet").read_bytes() != before, "it was written anew, and its sums were not"
    assert not [text for text in resumed(source, out) if "stays" in text]
    build(settings_of(source, **TILED), tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.slow
@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"{", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_settings_that_are_none_are_one_line(text: bytes, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stopped(source, out)
    (out / "settings.json").write_bytes(text)
    with pytest.raises(OutputError, match=r"settings\.json"):
        build(settings_of(source, **TILED), out, resume=True)


def test_a_changed_image_is_labelled_again(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 3)
    out = tmp_path / "out"
    stopped(source, out)
    repaint(source / "images/scene_1.png")
    with pytest.warns(GeodistillWarning, match=r"1 files \(.*scene_1\.png\) changed since"):
        build(settings_of(source, **TILED), out, resume=True)
    build(settings_of(source, **TILED), tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_an_image_that_shrank_leaves_no_tile_behind(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 3)
    data = read_coco(source)
    data["annotations"] = [one for one in data["annotations"] if one["bbox"][0] + one["bbox"][2] < 48]
    for n, one in enumerate(data["annotations"]):  # both classes, of whatever is left
        one["category_id"] = data["categories"][n % 2]["id"]
    for image in data["images"]:  # what the file says of sizes may be left out
        del image["height"], image["width"]
    write_boxes(source, data)
    out = tmp_path / "out"
    stopped(source, out)
    path = source / "images/scene_1.png"
    Image.open(path).crop((0, 0, 48, 48)).save(path)
    with pytest.warns(GeodistillWarning, match="changed since"):
        build(settings_of(source, **TILED), out, resume=True)
    build(settings_of(source, **TILED), tmp_path / "fresh")
    assert contents(out) == contents(tmp_path / "fresh")


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from geodistill.label.segmenters.promptable import weights_stamp
    from promptable import save_promptable

    name = f"sam:{save_promptable('sam', tmp_path / 'weights')}"
    before = weights_stamp(name)
    assert weights_stamp(name) == before
    os.utime(next((tmp_path / "weights").glob("*.safetensors")), (1, 1))
    assert weights_stamp(name) != before
    assert weights_stamp("sam:facebook/sam-vit-huge") == weights_stamp("grabcut") == ""
    monkeypatch.setenv("HOME", str(tmp_path))
    source, out = make_detection_set(tmp_path / "set", 2), tmp_path / "out"
    settings = settings_of(source, segmenter="sam:~/weights", rules=NO_RULES)
    work = WorkerOptions(device="cpu")
    build(settings, out, work=work)
    about = json.loads((out / "settings.json").read_text())
    assert about["weights"] == weights_stamp(name) != ""
    (out / "settings.json").write_text(json.dumps(about | {"weights": ""}))  # as it was written before
    build(settings, out, work=work, resume=True)
    os.utime(next((tmp_path / "weights").glob("*.safetensors")), (2, 2))
    with pytest.raises(OutputError, match="weights have changed"):
        build(settings, out, work=work, resume=True)


def test_a_chunk_that_is_altered_is_one_line(tmp_path: Path) -> None:
    from geodistill.label.segmenters.sam import settled_chunk

    file = tmp_path / ".chunk"
    assert settled_chunk(file, lambda: 4) == 4
    for text in (b"", b"8\n", b"\xff", b"0 00000000\n", file.read_bytes().replace(b"4", b"5", 1)):
        file.write_bytes(text)
        with pytest.raises(GeodistillError, match=r"\.chunk"):
            settled_chunk(file, lambda: 4)


def test_the_account_of_a_finished_run_is_given_again(source: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    account = build(settings_of(source, **TILED), tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*.*") if path.name not in ("settings.json", ".geodistill.json")]
    before = {path: path.stat().st_mtime_ns for path in files}
    assert (
        build(settings_of(source, **TILED), tmp_path / "out", resume=True) == account == json.loads(whole["label.json"])
    )
    assert {path: path.stat().st_mtime_ns for path in files} == before
