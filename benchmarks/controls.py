"""Does each training mechanism win where its premise holds? Made-up worlds, with and without it, a few seeds.

    python benchmarks/controls.py --mechanisms ema class-weights --seeds 0 1 2 --steps 150

Prints one JSON line a run and a table of the test mIoU. Weights are those of the last step: nothing is selected.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from geodistill.evaluation.evaluate import evaluate
from geodistill.synthetic.controls import WORLDS, World, write_world
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe

COMMON: dict[str, Any] = {
    "method": "supervised",
    "network": {"architecture": "unet", "encoder": "test_resnet", "decoder_channels": 16},
    "data": {"crop": 64, "batch_size": 4, "workers": 0, "scale": [1.0, 1.0]},
    "optimizer": {"lr": 5.0e-3},
    "schedule": {"kind": "constant"},
    "trainer": {"accelerator": "cpu", "pictures": 0, "save_every_steps": 1000},
}

SELF_TRAINING = {
    "teacher.segmenter": "student",
    "trainer.ema": 0.97,
    "losses.weights.pseudo": 1.0,
    "losses.pseudo_labels": "hard",
    "losses.pseudo_confidence": 0.8,
}
FEW_CROPS = {"data.batch_size": 2, "data.crop": 32, "optimizer.lr": 2.0e-2}
ARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ema": (FEW_CROPS, {**FEW_CROPS, "trainer.ema": 0.97}),
    "class-weights": ({}, {"losses.class_weights": "auto"}),
    "self-training": ({"trainer.ema": 0.97}, SELF_TRAINING),
}
"""Keys of the arm without the mechanism and of the one with it."""


def run_arm(world: World, keys: dict[str, Any], folder: Path, seed: int, steps: int) -> tuple[float, float]:
    """Train an arm in a world; gives the test mIoU in 0..100 and the seconds."""
    keys = {**keys, "data.manifest": world.manifest, "trainer.max_steps": steps, "trainer.seed": seed}
    if "teacher.segmenter" in keys:
        keys["data.unlabelled"] = world.unlabelled
    started = time.monotonic()
    fit(load_recipe(COMMON, keys), folder)
    seconds = time.monotonic() - started
    return 100 * float(evaluate(folder, world.manifest).miou), seconds


def compare(mechanism: str, seed: int, steps: int) -> tuple[float, float]:
    """Train both arms of a mechanism's control; gives the test mIoU without it and with it."""
    scores = []
    with tempfile.TemporaryDirectory() as name:
        world = write_world(mechanism, Path(name), seed)
        for index, keys in enumerate(ARMS[mechanism]):
            miou, seconds = run_arm(world, keys, Path(name) / f"run{index}", seed, steps)
            result = {"mechanism": mechanism, "with": bool(index), "seed": seed, "steps": steps}
            print(json.dumps(result | {"miou": round(miou, 2), "seconds": round(seconds, 1)}), flush=True)
            scores.append(miou)
    return scores[0], scores[1]


def main() -> None:
    """Run the controls that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mechanisms", nargs="+", choices=list(WORLDS), default=list(WORLDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = ["| mechanism | without | with | gain by seed |", "| --- | --: | --: | --- |"]
    for mechanism in options.mechanisms:
        pairs = [compare(mechanism, seed, options.steps) for seed in options.seeds]
        without, with_it = (statistics.mean(pair[index] for pair in pairs) for index in (0, 1))
        gains = ", ".join(f"{after - before:+.1f}" for before, after in pairs)
        rows.append(f"| {mechanism} | {without:.1f} | {with_it:.1f} | {gains} |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
