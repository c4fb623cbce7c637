"""A machine that lacks memory is one line, whoever says so."""

from __future__ import annotations

import errno
import os

import pytest

from geodistill import cli


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "[Errno 12] Cannot allocate memory"),
        (MemoryError(), "MemoryError"),
        (
            RuntimeError("CUDA out of memory. Tried 9 GiB\nException raised from malloc"),
            "CUDA out of memory. Tried 9 GiB",
        ),
        (
            RuntimeError("Caught _ArrayMemoryError in DataLoader worker process 0.\nUnable to allocate 9 GiB for it\n"),
            "Unable to allocate 9 GiB for it",
        ),
    ],
    ids=["system", "python", "torch", "NumPy in a worker"],
)
def test_what_lacks_memory_is_said_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def verb(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "run_verb", verb)
    assert cli.main(["info"]) == 2
    assert capsys.readouterr().err == f"geodistill: error: there is too little memory ({said})\n"
