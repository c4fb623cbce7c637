"""Standard output as it is met in a shell: closed, full, and asked to print names that command a terminal."""

from __future__ import annotations

import errno
import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geodistill import cli
from geodistill.cli.terminal import PlainOutput, Terminated, ended_by_request, plain_output, print_json, print_result
from geodistill.errors import DataError, OutputError, printable

COMMAND = [sys.executable, "-m", "geodistill"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich 🛰 ground\n\tand more", "Zürich 🛰 ground\n\tand more"),
        ("\x1b[2Jclear", "\\x1b[2Jclear"),
        ("bell\x07 back\x08 c1\x9b31m nul\0", "bell\\x07 back\\x08 c1\\x9b31m nul\\x00"),
        ("turned \u202egpj.exe", "turned \\u202egpj.exe"),
        ("marks \u200f\u200e\u061c!", "marks \\u200f\\u200e\\u061c!"),
        ("lone \ud800", "lone \\ud800"),
        ("over\rwritten", "over\\rwritten"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
    stream = io.StringIO()
    print(text, end="", file=PlainOutput(stream))
    assert stream.getvalue() == shown


def test_errors_are_printable_and_of_bounded_length() -> None:
    error = DataError("class \x1b]0;title\x07" + "x" * 300_000, "another", "mend it")
    assert "\x1b" not in str(error)
    assert len(str(error)) < 3000
    assert error.mend == "mend it"


def test_an_encoding_that_lacks_a_character_is_no_failure() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    PlainOutput(stream).write("Zürich")
    stream.flush()
    assert stream.buffer.getvalue() == b"Z\\xfcrich"  # type: ignore[attr-defined]


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError

    def fileno(self) -> int:
        raise OSError


class Full(Closed):
    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def test_work_goes_on_where_the_reader_went_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    done = []
    with plain_output():
        for scene in ("a", "b"):
            print(scene)
            done.append(scene)
    assert done == ["a", "b"]


def test_a_full_disk_behind_standard_output_is_told_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    done = []

    def work() -> None:
        with plain_output():
            print("a")
            done.append("a")

    with pytest.raises(OutputError, match="No space left"):
        work()
    assert done == ["a"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_the_command_with_a_full_standard_output_ends_with_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, "recipes"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "standard output cannot be written" in done.stderr


@pytest.mark.slow
def test_the_command_with_a_closed_standard_output_ends_well() -> None:
    done = subprocess.run(
        f"{' '.join(COMMAND)} encoders | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[1:] == ["0"]
    assert done.stderr == ""


def test_a_request_to_end_is_raised_and_the_old_way_comes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with ended_by_request():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Terminated):
        work()
    assert signal.getsignal(signal.SIGTERM) == before


LIBRARIES = """
import logging, os, sys, warnings
from geodistill.cli.terminal import quiet_libraries, share_stderr
from geodistill.errors import GeodistillWarning
with quiet_libraries():
    os.write(2, b"libtiff: odd tag\\n")
    logging.getLogger("rasterio._env").error("odd block")
    warnings.warn("of a library")
    for _ in range(2):
        warnings.warn(GeodistillWarning("odd \\x1b[31m scene"), stacklevel=2)
    print("ours", file=sys.stderr)
    if sys.argv[1:]:
        share_stderr()
        os.write(2, b"of another process\\n")
os.write(2, b"after\\n")
"""


@pytest.mark.parametrize(("shared", "more"), [(False, ""), (True, "of another process\n")])
def test_libraries_print_nothing_beside_our_lines(shared: bool, more: str) -> None:
    words = [sys.executable, "-c", LIBRARIES, *(["share"] if shared else [])]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == f"geodistill: odd \\x1b[31m scene\nours\n{more}after\n"


@pytest.mark.parametrize(("verb", "status"), [("--version", 0), ("bogus", 2)])
def test_standard_error_may_be_closed(verb: str, status: int) -> None:
    done = subprocess.run(["sh", "-c", '"$0" -m geodistill "$1" 2>&-', sys.executable, verb], check=False)
    assert done.returncode == status


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EACCES, errno.ELOOP])
def test_a_name_that_the_system_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def look(*_: object) -> None:
        if number == errno.ENAMETOOLONG:
            Path("x" * 5000).is_file()
        raise OSError(number, os.strerror(number), "secret/a.tif")

    monkeypatch.setattr(cli, "run_verb", look)
    assert cli.main(["info"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("geodistill: error: '")
    assert said.endswith(f" cannot be used ({os.strerror(number)})\n")


def test_other_errors_of_the_system_are_mistakes_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(cli, "run_verb", look)
    with pytest.raises(OSError, match="Bad file"):
        cli.main(["info"])


def test_json_holds_no_figure_that_json_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"miou": math.nan, "ends": (-math.inf, 0.5), "rows": [{"area": np.float64("nan")}], "n": 3, "all": True}

    def strict(text: str) -> object:
        return json.loads(text, parse_constant=pytest.fail)

    expected = {"miou": None, "ends": [None, 0.5], "rows": [{"area": None}], "n": 3, "all": True}
    print_json(figures)
    assert strict(capsys.readouterr().out) == expected
    print_result(True, figures, "text")
    assert strict(capsys.readouterr().out) == expected
    print_result(False, figures, "text")
    assert capsys.readouterr().out == "text\n"
