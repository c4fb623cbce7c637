"""The append-only journal: whole lines survive whatever comes, and nothing else does."""

import resource
from pathlib import Path
from typing import Any

import pytest

from geodistill.errors import OutputError
from geodistill.journal import JournalFile, decode, encode

RECORDS: list[dict[str, Any]] = [{"row": 0, "name": "é"}, {"row": 1, "sums": {"classes": 7}}, {"row": 2}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with JournalFile(tmp_path / "work.jsonl") as journal:
        assert list(journal.lines()) == []
        starts = journal.append(RECORDS[:1], to_disk=True) + journal.append(RECORDS[1:])
        assert [decode(journal.line_at(start)) for start in starts] == RECORDS
    return tmp_path / "work.jsonl"


def records(path: Path) -> list[dict[str, Any] | None]:
    with JournalFile(path) as journal:
        return [line.record for line in journal.lines()]


def test_what_was_appended_is_read_again(path: Path) -> None:
    assert records(path) == RECORDS
    with JournalFile(path) as journal:
        lines = list(journal.lines())
        assert [line.start for line in lines[1:]] == [line.end for line in lines[:-1]]
        journal.append([{"row": 3}])
    assert records(path) == [*RECORDS, {"row": 3}]


def test_cut_at_any_byte_it_holds_the_lines_that_are_whole(path: Path) -> None:
    data = path.read_bytes()
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        assert records(path) == RECORDS[: data[:end].count(b"\n")]


def test_any_altered_byte_makes_its_line_no_record(path: Path) -> None:
    data = path.read_bytes()
    first = data.index(b"\n")
    for at in range(first):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        lines = records(path)
        assert RECORDS[0] not in lines
        assert lines[-2:] == RECORDS[1:]


def test_a_line_whose_sum_is_right_and_that_is_no_object(path: Path) -> None:
    assert decode(encode({"a": 1})) == {"a": 1}
    for line in (b"", b"\n", encode({"a": 1})[:-1], encode([1]), b"00000000 \n"):  # type: ignore[arg-type]
        assert decode(line) is None


def test_it_is_cut_off_in_the_middle_of_reading(path: Path) -> None:
    with JournalFile(path) as journal:
        for line in journal.lines():
            if line.record == RECORDS[1]:
                break
        journal.cut(line.start)
        journal.append([{"row": 9}])
    assert records(path) == [RECORDS[0], {"row": 9}]


def test_what_a_full_disk_did_not_take_is_said_once(path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JournalFile(path) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limit[1]))
        try:
            with pytest.raises(OSError, match="too large"):
                journal.append([{"row": 3}])
            journal.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert records(path) == RECORDS


def test_a_link_or_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        JournalFile(tmp_path / "link")
    with pytest.raises(OutputError):
        JournalFile(tmp_path / "no folder" / "journal")
