from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from geodistill import reading
from geodistill.errors import ArtifactError, DataError, RecipeError
from geodistill.reading import (
    TABLE_ROWS,
    bounded,
    parse_json,
    parse_object,
    parse_yaml,
    read_answer,
    read_bytes,
    read_json,
    read_text,
    read_yaml,
    within,
)

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
ALIASES = "a: &a [1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


class TestJson:
    @given(PLAIN)
    def test_what_is_right_comes_back(self, value: object) -> None:
        assert parse_json(json.dumps(value), "a.json") == value
        assert parse_json(json.dumps(value, ensure_ascii=False).encode("utf-8-sig"), "a.json") == value

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "Expecting value"),
            ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' stands twice"),
            ("[" * 100_000, "nested too deep"),
            ("[" * 150 + "]" * 150, "nested deeper than 100"),
            ("1" * 5000, "5000 digits"),
            ("{'a': 1}", "Expecting property name"),
            (b"\xff\xfe{}", "not UTF-8"),
        ],
        ids=str,
    )
    def test_anything_else_is_one_line(self, text: str | bytes, says: str) -> None:
        with pytest.raises(DataError, match=r"a\.json") as caught:
            parse_json(text, "a.json")
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)

    @settings(max_examples=200)
    @given(st.binary(max_size=60))
    def test_no_bytes_are_a_traceback(self, data: bytes) -> None:
        for parse in (parse_json, lambda d, s: parse_yaml(d.decode("latin-1"), s)):
            with suppress(DataError):
                parse(data, "a")

    def test_an_object_is_asked_for(self) -> None:
        assert parse_object('{"a": 1}', "a.json") == {"a": 1}
        with pytest.raises(RecipeError, match="holds a list"):
            parse_object("[1]", "a.json", RecipeError)


class TestYaml:
    @given(PLAIN)
    def test_what_is_right_comes_back(self, value: object) -> None:
        assert parse_yaml(yaml.safe_dump(value), "a.yaml") == value

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[" * 3000, "nested too deep"),
            ("a: 1\na: 2", "'a' stands twice, line 2"),
            (ALIASES, "more than 200000 values"),
            ("&a [*a]", "nested deeper than 100"),
            ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
            ("[a]: 1", "a key is a list or mapping"),
            ("a: 2026-99-99", "month must be in 1..12"),
        ],
        ids=lambda text: text[:12],
    )
    def test_anything_else_is_one_line(self, text: str, says: str) -> None:
        with pytest.raises(DataError) as caught:
            parse_yaml(text, "a.yaml")
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_merge_keys_work(self) -> None:
        assert parse_yaml("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n", "a.yaml")["b"] == {"x": 1, "y": 3}


class TestFiles:
    def test_missing_folder_and_too_large(self, tmp_path: Path) -> None:
        (tmp_path / "large").write_bytes(b"x" * 11)
        for path, says in (
            ("none", "No such file"),
            (".", "Is a directory"),
            ("a\0b", "null"),
            ("large", "larger than"),
        ):
            with pytest.raises(ArtifactError, match=says):
                read_bytes(tmp_path / path, 10, ArtifactError)

    def test_the_mark_at_the_beginning_is_taken_off(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"\xef\xbb\xbf[1]")
        assert read_text(tmp_path / "a") == "[1]"
        assert read_json(tmp_path / "a") == [1]
        assert read_yaml(tmp_path / "a") == [1]


class TestAnswers:
    def test_whole(self) -> None:
        assert read_answer(io.BytesIO(b"x" * 200_000), "http://x") == b"x" * 200_000

    def test_endless_ones_are_bounded_in_size(self) -> None:
        class Endless:
            def read(self, size: int, /) -> bytes:
                return b"x" * size

        with pytest.raises(DataError, match="more than 1000000 bytes"):
            read_answer(Endless(), "http://x", limit=1_000_000)

    def test_slow_ones_are_bounded_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = iter(range(0, 1000, 30))
        monkeypatch.setattr(reading.time, "monotonic", lambda: next(now))

        class Slow:
            def read(self, size: int, /) -> bytes:
                return b"x"

        with pytest.raises(DataError, match="still answering after 60 seconds"):
            read_answer(Slow(), "http://x", seconds=60)

    def test_one_that_breaks_off(self) -> None:
        class Broken:
            def read(self, size: int, /) -> bytes:
                raise ConnectionResetError("gone")

        with pytest.raises(DataError, match="breaks off"):
            read_answer(Broken(), "http://x")


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(ArtifactError, match="named pipe"):
        read_json(tmp_path / "pipe.json", error=ArtifactError)
    within_shell = (
        f'{sys.executable} -c "import sys; from geodistill.reading import read_text; print(read_text(sys.argv[1]))"'
    )
    said = subprocess.run(["bash", "-c", f"{within_shell} <(echo given)"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "given"


def test_a_service_is_not_waited_for_without_end() -> None:
    code = (
        "import time\nfrom geodistill.reading import within\n"
        "assert within(5, lambda: 7) == 7\n"
        "try:\n    within(0.1, lambda: time.sleep(60))\nexcept TimeoutError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "no answer within 0.1 seconds\n"  # nor does the process wait for it at its end


def test_errors_of_a_service_come_through() -> None:
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)


@pytest.mark.slow
def test_what_grows_far_beyond_its_text_is_refused_at_once() -> None:
    merges = "l0: &l0 {x: 1}\n" + "".join(
        f"l{n + 1}: &l{n + 1}\n  <<: [{', '.join([f'*l{n}'] * 10)}]\n" for n in range(9)
    )
    wide = f"a: &a {{{', '.join(f'k{n}: 1' for n in range(1000))}}}\nb:\n  <<: [{', '.join(['*a'] * 1000)}]\n"
    keys = "{" + ",".join(f'"{n}":1' for n in range(20_000)) + ',"19999":2}'
    begin = time.process_time()
    for text in (merges, wide, "a: 1" + ":1" * 400_000):
        with pytest.raises(DataError, match=r"more than 200000 values|a number of 800001 digits"):
            parse_yaml(text, "a.yaml")
    with pytest.raises(DataError, match="'19999' stands twice"):
        parse_json(keys, "a.json")
    assert time.process_time() - begin < 10  # hours, before
    assert parse_yaml("a: 1:30\nb: 0x1f\nc: -12_000", "a.yaml") == {"a": 90, "b": 31, "c": -12_000}


@pytest.mark.parametrize("nested", [False, True])
def test_a_text_that_stands_in_every_row_counts_in_each(tmp_path: Path, nested: bool) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 100_000]))
    column = pa.StructArray.from_arrays([texts], ["href"]) if nested else texts
    pq.write_table(pa.table({"location": column}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 20_000
    with (
        pq.ParquetFile(tmp_path / "t.parquet") as file,
        pytest.raises(DataError, match=r"t\.parquet has rows of (1e\+05|inf) bytes; expected at most 16384"),
    ):
        bounded(file.iter_batches(TABLE_ROWS), tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a: 1\n  b: 2\n", "line 2, column 4: mapping values are not allowed here"),
        ("a: [1\nb: 2\n", "line 2, column 2: "),
        ("a: *none\n", "line 1, column 4: found undefined alias"),
    ],
)
def test_yaml_that_is_not_right_is_found_by_line_and_column(text: str, where: str) -> None:
    with pytest.raises(DataError, match=re.escape(where)):
        parse_yaml(text, "legend.yaml")
