"""A made-up world in which SEP must pay: many scenes with boxes alone, three of the same kind with true masks.

Boxes become masks by ``label build``, the network learns them, then the three scenes; against the same network on the
three scenes alone. The arm ``objects`` leaves ``--background`` out: objects are compared with each other and never
with the ground, so that it need not win. No weights, nothing tuned on the scored scenes.

Run ``python benchmarks/control_sep.py --out DIR --seeds 0`` (another call adds seeds; what is done is kept); ends with
status 1 where SEP with a background does not win in the mean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from geodistill.data.scan import scan
from geodistill.data.splits import SplitPlan
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.label.build_labels import build
from geodistill.label.config import LabelSettings
from geodistill.synthetic import REGIONS, write_dataset
from geodistill.training.fit import fit
from geodistill.training.recipe import load_recipe

ARMS = {"scratch": None, "background": "other", "objects": None}
"""Name of the background that the boxes' labels are made with, by what the few labels begin from."""

GAIN = 3.0
"""What SEP must gain in the mean over the seeds, in points of mIoU."""

NETWORK = {
    "network.encoder": "test_resnet", "network.encoder_weights": None, "network.decoder_channels": 64,
    "data.crop": 96, "data.scale": [0.8, 1.25], "data.scale_share": 1.0, "data.batch_size": 8, "data.workers": 0,
    "data.statistics": "data", "trainer.accelerator": "cpu", "trainer.pictures": 0, "trainer.precision": "32-true",
}  # fmt: skip


def draw_world(out: Path, pool: int, side: int) -> None:
    """Draw the scenes of both sets and divide the labelled one; 5 % of half of it are the few labels."""
    if not (out / "true.parquet").is_file():
        write_dataset(out / "pool", REGIONS["north"], pool, side, seed=0)
        write_dataset(out / "true", REGIONS["north"], 120, side, seed=5000)
        plan = SplitPlan(fractions=(0.5, 0.1, 0.4))
        true = out / "true"
        scan(true / "images", true / "masks", out / "true.parquet", legend=true / "legend.yaml", split=plan)


def pretrain(out: Path, arm: str, steps: int) -> Path:
    """Label the pool through its boxes and learn it; return the Segmenter."""
    labels, run = out / f"labels-{arm}", out / f"sep-{arm}"
    if not (labels / "manifest.parquet").is_file():
        pool = out / "pool"
        settings = LabelSettings(
            pool / "images", pool / "labelTxt", "dota", segmenter="box", background=ARMS[arm], fractions=(0.95, 0.05, 0)
        )
        build(settings, labels)
    if not (run / "segmenter").is_dir():
        keys = {"data.manifests": [str(labels / "manifest.parquet")], "optimizer.lr": 2e-3, "optimizer.lr_batch": None}
        fit(load_recipe("sep", NETWORK | keys | {"trainer.max_steps": steps, "trainer.val_every_steps": steps}), run)
    return run / "segmenter"


def few_labels(out: Path, arm: str, seed: int, steps: int, init: Path | None) -> float:
    """Learn three true scenes and return the mIoU of 48 others in per cent."""
    run, scored = out / f"few-{arm}-{seed}", out / f"few-{arm}-{seed}.json"
    if not scored.is_file():
        keys = {
            "data.manifest": str(out / "true.parquet"), "data.fraction": 0.05, "trainer.seed": seed,
            "schedule.hold_steps": 1, "trainer.max_steps": steps, "trainer.val_every_steps": steps,
        }  # fmt: skip
        fit(load_recipe("sep-finetune", NETWORK | keys | ({} if init is None else {"init": str(init)})), run)
        options = EvaluateOptions(device="cpu")
        scored.write_text(json.dumps(100 * float(evaluate(run, out / "true.parquet", options=options).miou)))
    return float(json.loads(scored.read_text()))


def sep_control(
    out: Path, arms: tuple[str, ...], seeds: tuple[int, ...], pool: int = 240, side: int = 160,
    steps: tuple[int, int] = (300, 120),
) -> dict[str, list[float]]:  # fmt: skip
    """Run every arm with every seed, printing each; return mIoU by arm."""
    draw_world(out, pool, side)
    mious: dict[str, list[float]] = {arm: [] for arm in arms}
    for seed in seeds:
        for arm in arms:
            started = time.monotonic()
            init = None if arm == "scratch" else pretrain(out, arm, steps[0])
            mious[arm].append(few_labels(out, arm, seed, steps[1], init))
            print(f"{arm:10} seed {seed}  mIoU {mious[arm][-1]:.1f}  {time.monotonic() - started:.0f} s", flush=True)
    return mious


def wins(mious: dict[str, list[float]]) -> bool:
    """Whether SEP with a background gains in the mean over the seeds."""
    gains = [after - before for before, after in zip(mious["scratch"], mious["background"], strict=True)]
    return sum(gains) / len(gains) >= GAIN


def main() -> None:
    """Run the control."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    mious = sep_control(args.out, tuple(args.arms), tuple(args.seeds))
    sys.exit(not wins(mious) if {"scratch", "background"} <= set(args.arms) else 0)


if __name__ == "__main__":
    main()
