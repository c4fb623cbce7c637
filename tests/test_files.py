from __future__ import annotations

import errno
from pathlib import Path

import pytest

from geodistill.errors import OutputError
from geodistill.files import atomic_path, output_error


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

    def test_a_directory_is_replaced_whole(self, tmp_path: Path) -> None:
        for text in ("one", "two"):
            with atomic_path(tmp_path / "model") as part:
                part.mkdir()
                (part / text).write_text(text)
        assert [p.name for p in (tmp_path / "model").iterdir()] == ["two"]
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_a_place_below_a_file_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "file" / "a.txt"):
            pass

    def test_a_full_disk_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="the disk is full"), atomic_path(tmp_path / "a.txt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert "not here" in str(output_error(tmp_path, OSError(errno.EIO, "not here")))
