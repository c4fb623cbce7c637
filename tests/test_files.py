from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from glob import escape
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from geodistill.errors import BusyError, OutputError, output_error
from geodistill.files import atomic_path, json_text
from geodistill.folders import (
    HOLDER,
    LOCK,
    MARKER,
    claim_files,
    empty_folder,
    foreign_files,
    hold_folder,
    is_running,
    mark_folder,
    read_marker,
    sweep,
)


class TestAtomicWrites:
    def test_the_name_appears_only_when_all_is_written(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "a.txt"
        with atomic_path(target) as part:
            part.write_text("new")
            assert not target.exists()
            assert part.parent == target.parent
        assert target.read_text() == "new"
        assert [p.name for p in target.parent.iterdir()] == ["a.txt"]

    @pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
    def test_a_failure_leaves_the_old_file_and_nothing_else(self, tmp_path: Path, failure: type[BaseException]) -> None:
        target = tmp_path / "a.txt"
        target.write_text("old")

        def write_half() -> None:
            with atomic_path(target) as part:
                part.write_text("half")
                raise failure

        with pytest.raises(failure):
            write_half()
        assert target.read_text() == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]

    def test_a_folder_of_ours_is_replaced_whole(self, tmp_path: Path) -> None:
        for text in ("one", "two[1]"):
            with atomic_path(tmp_path / "model") as part:
                part.mkdir()
                (part / text).write_text(text)
        assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [MARKER, "two[1]"]
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("earlier", [True, False], ids=["in a folder of ours", "in a person's folder"])
    def test_a_folder_with_a_persons_file_is_never_replaced(self, tmp_path: Path, earlier: bool) -> None:
        folder = tmp_path / "model"
        if earlier:
            with atomic_path(folder) as part:
                part.mkdir()
                (part / "ours").write_text("")
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "thesis.txt").write_text("years of work")
        begun = False

        def write() -> None:
            nonlocal begun
            with atomic_path(folder) as part:
                begun = True
                part.mkdir()

        with pytest.raises(OutputError, match=r"thesis\.txt"):
            write()
        assert not begun
        assert (folder / "deep" / "thesis.txt").read_text() == "years of work"
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_what_appears_while_a_folder_is_written_stays(self, tmp_path: Path) -> None:
        folder = tmp_path / "model"
        folder.mkdir()

        def write() -> None:
            with atomic_path(folder) as part:
                part.mkdir()
                (folder / "thesis.txt").write_text("years of work")

        with pytest.raises(OutputError, match=r"thesis\.txt"):
            write()
        assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    @pytest.mark.parametrize("name", ["ü" * 123 + ".tif", "a" * 251 + ".tif", "b" * 255])
    def test_a_name_may_be_as_long_as_the_system_allows(self, tmp_path: Path, name: str) -> None:
        with atomic_path(tmp_path / name) as part:
            part.write_text("x")
        assert [p.name for p in tmp_path.iterdir()] == [name]

    def test_the_file_systems_root_is_no_place(self) -> None:
        with pytest.raises(OutputError, match="no place for a result"), atomic_path("/"):
            pass

    def test_leftovers_of_a_killed_process_go_and_others_stay(self, tmp_path: Path) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        for name in (f".a.part-{dead.pid}", f".b.part-{dead.pid}", f".a.part-{os.getppid()}"):
            (tmp_path / name).mkdir()
        with atomic_path(tmp_path / "a") as part:
            part.mkdir()
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
            ["a", f".b.part-{dead.pid}", f".a.part-{os.getppid()}"]
        )
        sweep(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == [f".a.part-{os.getppid()}", "a"]

    def test_what_a_killed_database_wrote_beside_it_goes_too(self, tmp_path: Path) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        part, others = f".a.part-{dead.pid}.gpkg", f".b.part-{dead.pid}.gpkg-journal"
        for file in (part, f"{part}-journal", f"{part}-wal", f"{part}-shm", others):
            (tmp_path / file).touch()
        with atomic_path(tmp_path / "a.gpkg") as written:
            written.touch()
        assert sorted(p.name for p in tmp_path.iterdir()) == [others, "a.gpkg"]

    def test_a_folder_that_a_killed_process_had_moved_aside_comes_back(self, tmp_path: Path) -> None:
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        with atomic_path(tmp_path / "model") as part:
            part.mkdir()
            (part / "old").write_text("")
        (tmp_path / "model").rename(tmp_path / f".model.old-{dead.pid}")

        def fail() -> None:
            with atomic_path(tmp_path / "model"):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
        assert (tmp_path / "model" / "old").is_file()

    def test_a_place_below_a_file_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "file" / "a.txt"):
            pass

    def test_a_full_disk_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="the disk is full"), atomic_path(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert "not here" in str(output_error(tmp_path, OSError(errno.EIO, "not here")))

    @pytest.mark.parametrize(("free", "says"), [(4096, "the disk is full"), (2**30, r"cannot be written \(GeoJSON")])
    def test_a_library_that_does_not_say_why_met_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, says: str
    ) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        with pytest.raises(OutputError, match=says), atomic_path(tmp_path / "a.geojson"):
            raise OSError("GeoJSON: Cannot write feature")


class TestFoldersOfOurs:
    def test_only_what_the_marker_lists_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "logs" / "deep").mkdir(parents=True)
        (tmp_path / "logs" / "deep" / "a.csv").write_text("")
        (tmp_path / "recipe.yaml").write_text("")
        mark_folder(tmp_path, "run", ["recipe.yaml", "logs/*"])
        assert foreign_files(tmp_path) == []
        empty_folder(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_without_marker_is_not_emptied(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.yaml").write_text("mine")
        with pytest.raises(OutputError, match=r"recipe\.yaml"):
            empty_folder(tmp_path)
        assert (tmp_path / "recipe.yaml").read_text() == "mine"

    def test_results_of_another_command_stay(self, tmp_path: Path) -> None:
        for name in ("logs/a.csv", "eval/test/metrics.json", "eval/val/metrics.json", "eval/val/mine.txt"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        mark_folder(tmp_path, "run", ["logs/*"])
        for split in ("test", "val"):
            mark_folder(tmp_path / "eval" / split, "evaluation", ["metrics.json"])
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(OutputError, match=r"eval/val/"):
            empty_folder(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before
        (tmp_path / "eval/val/mine.txt").unlink()
        empty_folder(tmp_path)
        kept = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert kept == {f"eval/{split}/{name}" for split in ("test", "val") for name in ("metrics.json", MARKER)}

    def test_files_of_one_kind_are_not_listed_among_another(self, tmp_path: Path) -> None:
        mark_folder(tmp_path, "Segmenter", ["model.safetensors"])
        before = (tmp_path / MARKER).read_bytes()
        with pytest.raises(OutputError, match="holds a Segmenter"):
            claim_files(tmp_path, "evaluation", ["metrics.json"])
        assert (tmp_path / MARKER).read_bytes() == before

    def test_links_are_not_ours_and_not_followed(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "thesis.txt").write_text("years of work")
        folder = tmp_path / "run"
        folder.mkdir()
        mark_folder(folder, "run", ["logs/*"])
        (folder / "logs").symlink_to(outside)
        with pytest.raises(OutputError, match="logs"):
            empty_folder(folder)
        assert (outside / "thesis.txt").is_file()

    @pytest.mark.parametrize("text", ["", "[]", "{", '{"ours": 5}', "[" * 100000], ids=range(5))
    def test_a_broken_marker_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / MARKER).write_text(text)
        (tmp_path / "a").write_text("")
        with pytest.raises(OutputError, match="did not write"):
            empty_folder(tmp_path)


class TestHolding:
    def second(self, folder: Path) -> subprocess.CompletedProcess[str]:
        code = (
            "import sys; from pathlib import Path; from geodistill.errors import BusyError\n"
            "from geodistill.folders import hold_folder\n"
            "try:\n"
            "    with hold_folder(Path(sys.argv[1]), 'label build'): print('held')\n"
            "except BusyError as error: print(error)\n"
        )
        return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)

    def test_the_second_says_who_holds_it(self, tmp_path: Path) -> None:
        with hold_folder(tmp_path, "fit"):
            said = self.second(tmp_path).stdout
        assert "in use by 'geodistill fit'" in said
        assert f"process {os.getpid()}" in said
        assert self.second(tmp_path).stdout == "held\n"
        assert list(tmp_path.iterdir()) == []

    def test_a_crash_frees_it(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from pathlib import Path; from geodistill.folders import hold_folder\n"
            "with hold_folder(Path(sys.argv[1]), 'fit'): os.kill(os.getpid(), 9)\n"
        )
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
        with hold_folder(tmp_path, "fit"):
            pass
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
    def test_a_dead_process_that_nobody_has_waited_for_does_not_run(self) -> None:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        assert is_running(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_running(process.pid)
        process.wait()

    def test_one_process_does_not_hold_twice(self, tmp_path: Path) -> None:
        with hold_folder(tmp_path, "fit"), pytest.raises(BusyError), hold_folder(tmp_path, "fit"):
            pass


def test_json_is_readable_where_it_can_be() -> None:
    assert json_text({"ü": 1}) == '{"ü": 1}'
    assert json.loads(json_text(["\udcff"], 1).encode("utf-8")) == ["\udcff"]


def test_a_folder_of_many_listed_names_is_looked_through_once(tmp_path: Path) -> None:
    names = [f"tile [{n}].png" for n in range(3000)]
    for name in names:
        (tmp_path / name).touch()
    mark_folder(tmp_path, "patches", map(escape, names))
    begin = time.process_time()
    assert foreign_files(tmp_path) == []
    assert time.process_time() - begin < 2  # 9 million comparisons, before
    (tmp_path / "tile 1.png").touch()
    assert foreign_files(tmp_path) == ["tile 1.png"]


def test_a_marker_or_holder_of_any_kind_is_no_traceback(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / MARKER)
    assert read_marker(tmp_path) is None  # and is not waited for
    (tmp_path / HOLDER).write_text("[" * 100_000)
    with FileLock(tmp_path / LOCK), pytest.raises(BusyError, match="another command"), hold_folder(tmp_path, "fit"):
        pass


def test_no_json_of_ours_commands_a_terminal() -> None:
    value = {"\x1b[31m\x9b1m\x7f": "Zürich \u202egpj \u2028\u200f"}
    text = json_text(value, indent=2)
    assert text == '{\n  "\\u001b[31m\\u009b1m\\u007f": "Zürich \\u202egpj \\u2028\\u200f"\n}'
    assert json.loads(text) == value
