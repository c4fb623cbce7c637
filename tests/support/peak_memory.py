"""Maps one raster in a process of its own under a memory cap, and prints how far its memory rose, in MiB.

Run as ``python peak_memory.py RASTER MAP CAP TILE [MAX_MEMORY]``; memory that is asked for beyond CAP MiB above what
the imports took is refused.
"""

from __future__ import annotations

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


def main() -> None:
    """Warm up, set the cap, map, and print the rise of the peak."""
    source, target, cap, tile = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    most = parse_bytes(sys.argv[5]) if len(sys.argv) > 5 else None
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
        predict(segmenter, [source], target, PredictOptions(device="cpu", backend="torch", max_memory=most))
    print(status("VmHWM") - before)


if __name__ == "__main__":
    main()
