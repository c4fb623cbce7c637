"""Maps rasters, each in a process of its own under a memory cap, and prints how far its memory rose, in MiB.

Run as ``python peak_memory.py JOBS``, a JSON list of lists: raster, map, cap, tile and most memory, the last perhaps
null. Memory that is asked for beyond the cap in MiB above what the imports took is refused. The imports are done once:
the processes are forks.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import torch

from geodistill.inference.options import PredictOptions, parse_bytes
from geodistill.inference.predict import predict
from tiny import tiny_networks, tiny_segmenter


def status(key: str) -> float:
    """Return a figure of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:"))


def measure(source: str, target: str, cap: int, tile: int, most: str | None) -> None:
    """Warm up, set the cap, map, and print the rise of the peak."""
    torch.set_num_threads(1)
    with tiny_networks():
        segmenter = tiny_segmenter(tile=tile)
        with torch.inference_mode():
            segmenter(torch.zeros(1, 3, tile, tile))
        # The peak so far is that of the imports, of which the system may have taken back a part.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = status("VmRSS")
        allowed = int((status("VmData") + cap) * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
        held = None if most is None else parse_bytes(most)
        predict(segmenter, [source], target, PredictOptions(device="cpu", backend="torch", max_memory=held))
    print(status("VmHWM") - before, flush=True)


def main() -> None:
    """Do the jobs one after the other."""
    for job in json.loads(sys.argv[1]):
        child = os.fork()
        if not child:
            measure(*job)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            sys.exit(f"failed: {job}")


if __name__ == "__main__":
    main()
