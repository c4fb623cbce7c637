"""Share of classes that a way of joining windows changes at the seams, against windows that overlap everywhere.

The reference averages many windows at each pixel (overlap 0.75, cosine weights). Against it stand: no overlap at all,
overlap with each pixel from the window whose centre is nearest (centre crop), and overlap with cosine weights. Seams
are the pixels within ``--near`` of a line where windows meet.

Run ``python benchmarks/seams.py --model RUN --scene scene.tif``; without them it makes a scene and takes an untrained
network, whose classes change more at seams than a trained one's.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geodistill.inference.network import as_network, load_on
from geodistill.inference.options import SlidingOptions
from geodistill.inference.sliding import stream
from geodistill.inference.windows import Area, WindowPlan
from geodistill.raster import Raster
from geodistill.segmenter import Segmenter
from made_scene import make_segmenter, write_scene

WAYS = {
    "none": SlidingOptions(overlap=0.0, blend="none"),
    "centre crop": SlidingOptions(overlap=0.25, blend="none"),
    "cosine": SlidingOptions(overlap=0.25, blend="cosine"),
}
REFERENCE = SlidingOptions(overlap=0.75, blend="cosine")


def classes_of(segmenter: Segmenter, path: Path, settings: SlidingOptions) -> NDArray[np.uint8]:
    """Return ``(H, W)`` classes of a scene."""
    with Raster(path) as raster:
        network, area = as_network(segmenter), Area.whole(raster)
        windows = area.windows(network.size, settings.overlap)
        return np.concatenate([rows.classes for rows in stream(network, area, windows, settings, batch=4)])


def near_seams(plan: WindowPlan, near: int) -> NDArray[np.bool_]:
    """Mark pixels within ``near`` of a line on which the nearest window changes."""

    def along(starts: tuple[int, ...], length: int) -> NDArray[np.bool_]:
        marked = np.zeros(length, bool)
        for a, b in itertools.pairwise(starts):
            cut = (a + plan.size + b) // 2
            marked[max(cut - near, 0) : cut + near] = True
        return marked

    return along(plan.tops, plan.height)[:, None] | along(plan.lefts, plan.width)


def main() -> None:
    """Print a line for each way of joining."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a Segmenter")
    parser.add_argument("--scene", type=Path)
    parser.add_argument("--near", type=int, default=16, help="pixels on each side of a seam")
    parser.add_argument("--size", type=int, default=1536, help="side of the scene that is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.scene or Path(folder) / "scene.tif"
        if options.scene is None:
            write_scene(path, options.size, options.size)
        segmenter = load_on(options.model or make_segmenter("mobilenetv2_100", 256, 6), "cpu")
        reference = classes_of(segmenter, path, REFERENCE)
        print(f"{'joined by':<14}{'at seams':>10}{'elsewhere':>11}{'anywhere':>10}   share of classes that differ")
        for name, settings in WAYS.items():
            plan = WindowPlan.of(*reference.shape, segmenter.tile, settings.overlap)
            seams = near_seams(plan, options.near) & (reference != 255)
            rest = ~seams & (reference != 255)
            differs = classes_of(segmenter, path, settings) != reference
            near, far, every = (100 * differs[where].mean() for where in (seams, rest, seams | rest))
            print(f"{name:<14}{near:>9.3f}%{far:>10.3f}%{every:>9.3f}%", flush=True)


if __name__ == "__main__":
    main()
