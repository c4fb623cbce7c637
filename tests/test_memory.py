"""Freed memory that is kept: counted in page faults, which do not depend on how busy the machine is."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from geodistill import cli, memory

FAULTS = """
import json, resource, sys
import numpy as np
from geodistill.memory import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def arrays(times):
    # Two alive at once, of the size of a layer's answer, as a network makes them.
    kept = np.ones(1 << 20)
    for _ in range(times):
        fresh = np.ones(5 << 20)
        kept = fresh
        del fresh

said = keep_freed_memory() if sys.argv[1] == "keep" else None
arrays(3)
before = faults()
arrays(20)
print(json.dumps([said, faults() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def run(how: str) -> tuple[bool | None, int, int]:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
    said, faults, peak = json.loads(done.stdout)
    return said, faults, peak


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_arrays_come_from_memory_that_was_freed() -> None:
    said, faults, peak = run("keep")
    _, plain, plain_peak = run("plain")
    assert said is True
    assert plain > 20 * 40 * 2**20 / 4096 / 600  # Each array anew, in pages of 4 KiB or of up to 2 MiB.
    assert faults < plain / 10
    assert peak < 1.1 * plain_peak


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.keep_freed_memory() is False
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError("Unable to allocate 112. GiB for an array"), 2),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 2),
        (RuntimeError("a mistake of ours"), None),
    ],
    ids=["numpy", "torch", "another"],
)
def test_a_command_that_lacks_memory_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, status: int | None
) -> None:
    def verb(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "run_verb", verb)
    if status is None:
        with pytest.raises(RuntimeError, match="ours"):
            cli.main(["info"])
        return
    assert cli.main(["info"]) == status
    said = capsys.readouterr().err
    assert said.startswith("geodistill: error: there is too little memory (")
    assert said.count("\n") == 1
