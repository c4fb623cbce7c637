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

from control_worlds import WORLDS, World, write_world
from geodistill.evaluation.evaluate import evaluate
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe

COMMON: dict[str, Any] = {
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
SUPERVISED = {"method": "supervised", "network.architecture": "unet", "network.encoder": "test_resnet"}
STILL = {"data.turns": False, "data.flips": False}
VIT = {"network.encoder": "test_vit", "network.architecture": "fcn", "optimizer.lr": 4.0e-3, **STILL}
"""A vision transformer and images as they are: turned, their texture takes it several times the steps."""

KTDA = {"method": "ktda", "network.encoder": "test_resnet", "network.encoder_weights": None, "network.decoder": "unet"}
LABELS_ALONE = {
    **KTDA,
    "network.decode_from": "encoder",
    **{f"losses.weights.{name}": 0.0 for name in ("kt_mse", "kt_kl", "aux")},
}
"""A student that learns from labels alone, in as many steps as transfer and labels have together."""

TRANSFER = {**LABELS_ALONE, "losses.phase.lr": 1e-2, "losses.target_norm": "standardised", "optimizer.freeze": 1.0}

KDA = {"method": "kda", "network.encoder": "test_resnet", "network.encoder_weights": None}
KDA_PHASE = {
    "losses.phase.lr": 1e-2,
    "losses.phase.end_lr": 1e-4,
    "losses.phase.discriminator_lr": 2e-4,
    "losses.phase.discriminator_end_lr": 2e-6,
    "losses.phase.target_norm": "standardised",
    "losses.phase.discriminator": {"form": "patch", "encoder": "test_resnet", "weights": None, "width": 32},
    "optimizer.freeze": 1.0,
}
"""The rates of the recipe ``kda-folder``, the encoder standing still behind phase 1."""


def _term(name: str, **others: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arms of a transfer on one term, the encoder standing still behind it."""
    weights = {"losses.phase.weights.kt_mse": 0.0, f"losses.phase.weights.{name}": 1.0}
    return LABELS_ALONE, {**TRANSFER, **weights, **others}


ARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ema": (FEW_CROPS, {**FEW_CROPS, "trainer.ema": 0.97}),
    "class-weights": ({}, {"losses.class_weights": "auto"}),
    "self-training": ({"trainer.ema": 0.97}, SELF_TRAINING),
    "average-last": (FEW_CROPS, {**FEW_CROPS, "trainer.average_last": 8, "trainer.save_every_steps": 4}),
    "copypaste": ({}, {"data.mix": 0.8, "data.mix_kind": "copypaste"}),
    "gsd": ({}, {"data.gsd": [1.0, 1.0]}),
    "head-rates": (
        {"network.frozen_encoder": True, "optimizer.lr": 1e-4},
        {"network.frozen_encoder": True, "optimizer.lr": 1e-4, "network.head_rates": [1, 10, 100]},
    ),
    "lora": ({**VIT, "network.frozen_encoder": True}, {**VIT, "network.lora": 4}),
    "style-noise": ({"trainer.ema": 0.97}, {"trainer.ema": 0.97, "network.style_noise": 0.5}),
    "recolour": ({}, {"data.recolour": 1.5}),
    "hollow": ({}, {"data.hollow": 0.5}),
    "kda": (KDA, {**KDA, **KDA_PHASE}),
    "transfer": _term("kt_mse"),
    "cosine": _term("cosine"),
    "relation": _term("relation"),
    "query": _term("query"),
    "masked": _term("masked", **{"teacher.indices": [0, 1, 2], "losses.phase.hidden": 0.3}),
    "phi-s": _term("kt_mse", **{"losses.target_norm": "phi_s"}),
    "mixup": _term("kt_mse", **{"losses.phase.mixup": 0.5}),
}
"""Keys of the arm without the mechanism and of the one with it.

What is hidden under ``masked`` is as large as a pixel of the coarsest level: level 3's hide whole objects, which
nothing around them tells.
"""

PHASE_SHARE, TEACHER_STEPS = 0.6, 120
"""Share of the steps that a transfer has, where the labels have the rest; steps of what a teacher has learnt before."""

FEW_LABELS = {"kda": {"train": 4, "test": 16, "unlabelled": 48}}
"""Images of a world in which labels are fewer than elsewhere, and what a teacher has seen is more."""


def run_arm(world: World, keys: dict[str, Any], folder: Path, seed: int, steps: int) -> tuple[float, float]:
    """Train an arm in a world; gives the test mIoU in 0..100 and the seconds."""
    phase = round(PHASE_SHARE * steps) if "losses.phase.lr" in keys else 0
    keys = {**({} if "method" in keys else SUPERVISED), "network.decoder_channels": 16, **keys}
    keys |= {"data.manifest": world.manifest, "trainer.max_steps": steps - phase, "trainer.seed": seed}
    if phase or "teacher.segmenter" in keys:
        keys["data.unlabelled"] = world.unlabelled
    if phase:
        keys["losses.phase.steps"] = phase
    started = time.monotonic()
    fit(load_recipe(COMMON, keys), folder)
    seconds = time.monotonic() - started
    return 100 * float(evaluate(folder, world.manifest).miou), seconds


def teach(mechanism: str, source: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Train what both arms have at hand, a teacher or an encoder's first weights; gives the keys that name it."""
    keys = {**SUPERVISED, **(VIT if mechanism == "lora" else {}), "network.decoder_channels": 16}
    keys |= {"data.manifest": source, "trainer.max_steps": TEACHER_STEPS, "trainer.seed": seed}
    fit(load_recipe(COMMON, keys), folder)
    model = str(folder / "segmenter")
    return {"network.encoder_weights": model} if mechanism == "lora" else {"teacher.segmenter": model}


def compare(mechanism: str, seed: int, steps: int) -> tuple[float, float]:
    """Train both arms of a mechanism's control; gives the test mIoU without it and with it."""
    scores = []
    with tempfile.TemporaryDirectory() as name:
        world = write_world(mechanism, Path(name), seed, **FEW_LABELS.get(mechanism, {}))
        learnt = {} if world.source is None else teach(mechanism, world.source, Path(name) / "teacher", seed)
        for index, keys in enumerate(ARMS[mechanism]):
            # KDA from labels alone refuses a teacher that nothing asks; KTDA's takes the shapes of its maps from it.
            known = {} if mechanism == "kda" and not index else learnt
            miou, seconds = run_arm(world, {**keys, **known}, Path(name) / f"run{index}", seed, steps)
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
