"""Mpixel/s of the confusion matrix, and its ratio to torchmetrics' timed in the same run.

Run ``python benchmarks/metrics.py``; it ends with status 1 below 200 Mpixel/s.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from geodistill.metrics import ConfusionMatrix
from geodistill.spec import IGNORE_INDEX

EXPECTED_RATE = 200.0


def best_rate(action: Callable[[], object], pixels: int, repeats: int) -> float:
    """Return Mpixel/s of the fastest of ``repeats`` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return pixels / min(times) / 1e6


def main() -> int:
    """Measure and print rates and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mpixels", type=int, default=64, help="pixels of our measurement, in millions")
    parser.add_argument("--classes", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng, classes = np.random.default_rng(0), options.classes
    size = options.mpixels * 10**6
    # Labels come in patches, as on maps, and 30 % of the predictions are wrong.
    target = rng.integers(0, classes, size // 1000, dtype=np.uint8).repeat(1000)
    wrong = rng.random(size, dtype=np.float32) < 0.3
    prediction = np.where(wrong, rng.integers(0, classes, size, dtype=np.uint8), target)
    target[rng.random(size, dtype=np.float32) < 0.05] = IGNORE_INDEX

    few = min(size, 4_000_000)
    tensors = torch.from_numpy(prediction[:few]).long(), torch.from_numpy(target[:few]).long()

    def ours() -> None:
        ConfusionMatrix(classes).update(prediction, target)

    def theirs() -> None:
        multiclass_confusion_matrix(*tensors, classes, ignore_index=IGNORE_INDEX, validate_args=False)

    rate = best_rate(ours, size, options.repeats)
    yardstick = best_rate(theirs, few, options.repeats)
    print(f"geodistill {rate:.0f} Mpixel/s, torchmetrics {yardstick:.0f} Mpixel/s, ratio {rate / yardstick:.1f}")
    return 0 if rate >= EXPECTED_RATE else 1


if __name__ == "__main__":
    sys.exit(main())
