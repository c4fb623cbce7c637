"""A made-up world in which the text must help: what a class looks like depends on the climate zone of the image.

Patches have one of two colours. In zone Cfb red is building and green is tree, in BWh it is the other way round, and
nothing in the picture says which zone it is of. A network without the text can be right on one object in two; one that
reads the shipped prompts under the encoder ``words`` can be right on all. No language model, no weights, no files.

Run ``python benchmarks/control_text.py`` (two arms, three seeds); ends with status 1 where the text does not win.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.data.manifest import Row
from geodistill.methods.metasegnet.text_table import TextConfig
from geodistill.methods.metasegnet.training import MetaSegNetLossConfig, MetaSegNetRecipe, MetaSegNetworkConfig, build
from geodistill.methods.schema import BuildContext
from geodistill.nn.losses import weighted_sum
from geodistill.raster import Window
from geodistill.spec import Legend, Spec

CLASSES = ("background", "building", "tree")
PLACES = {"Cfb": (13.06, 52.4), "BWh": (55.2, 25.1)}
ARMS = ("climate", "plain", "none")
COLOURS = np.array([[1, -1, 0], [-1, 1, 0]], np.float32)
NOISE = 0.3
GAIN, TURNED = 0.15, 0.5
"""What the text must gain over each arm without it, and the most that is right under the other zone's prompt."""


@dataclass(frozen=True)
class Result:
    """Shares of the objects' pixels, 0..1, that one network got right: as trained, and with the zones swapped."""

    arm: str
    seed: int
    right: float
    swapped: float
    seconds: float


def draw(rng: np.random.Generator, count: int, side: int = 64) -> tuple[Tensor, Tensor, list[str]]:
    """Draw images ``(B, 3, side, side)`` float32, masks ``(B, side, side)`` int64 and the file of each, by its zone."""
    images = rng.normal(0, NOISE, (count, 3, side, side)).astype(np.float32)
    masks, files = np.zeros((count, side, side), np.int64), []
    for image, mask in zip(images, masks, strict=True):
        zone = int(rng.integers(len(PLACES)))
        files.append(f"{list(PLACES)[zone]}.tif")
        shown = np.full((side, side), -1)
        for _ in range(5):
            row, col, kind = *rng.integers(0, side - 16, 2), int(rng.integers(2))
            height, width = rng.integers(8, 17, 2)
            mask[row : row + height, col : col + width] = 1 + kind
            shown[row : row + height, col : col + width] = kind ^ zone
        for colour in range(2):
            image += COLOURS[colour][:, None, None] * (shown == colour)
    return torch.from_numpy(images), torch.from_numpy(masks), files


def run(arm: str, seed: int, steps: int = 200, batch: int = 8) -> Result:
    """Train one network on fresh images and score it on 64 others."""
    torch.manual_seed(seed)
    rng, started = np.random.default_rng(seed), time.monotonic()
    rows = [
        Row(Path(f"{zone}.tif"), None, "train", Window(0, 0, 64, 64), lon=x, lat=y) for zone, (x, y) in PLACES.items()
    ]
    recipe = MetaSegNetRecipe(
        network=MetaSegNetworkConfig(encoder="test_resnet", encoder_weights=None, width=32, heads=4),
        text=TextConfig(encoder="words", kind=arm),  # type: ignore[arg-type]
        losses=MetaSegNetLossConfig(weights={"itm": 0.1 if arm == "climate" else 0.0}),  # one prompt: nothing to match
    )
    method = build(recipe, BuildContext(Spec(Legend(CLASSES), ("r", "g", "b"), (0.0,) * 3, (1.0,) * 3), rows=rows))
    network, objective = method.network, method.objective
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        images, masks, files = draw(rng, batch)
        sample: Any = {"image": images, "mask": masks, "source": files}
        terms = objective(network(images, **method.context(sample)), sample, step)
        optimizer.zero_grad()
        weighted_sum(terms, objective.weights).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    network.eval()
    images, masks, files = draw(np.random.default_rng(99), 64)
    other = {f"{zone}.tif": f"{swap}.tif" for zone, swap in zip(PLACES, reversed(PLACES), strict=True)}

    def right(sources: list[str]) -> float:
        batch_of: Any = {"image": images, "source": sources}
        with torch.inference_mode():
            matches = network(images, **method.context(batch_of)).logits.argmax(1)
        return float((matches == masks)[masks > 0].float().mean())

    return Result(arm, seed, right(files), right([other[file] for file in files]), time.monotonic() - started)


def text_control(arms: tuple[str, ...] = ("climate", "plain"), seeds: int = 3, steps: int = 200) -> list[Result]:
    """Run every arm with every seed, printing each."""
    results = []
    for seed in range(seeds):
        for arm in arms:
            results.append(run(arm, seed, steps))
            one = results[-1]
            print(f"{arm:8} seed {seed}  objects right {100 * one.right:5.1f} %  "
                  f"under the other zone's prompt {100 * one.swapped:5.1f} %  {one.seconds:.0f} s", flush=True)  # fmt: skip  # noqa: E501
    return results


def wins(results: list[Result]) -> bool:
    """Whether the text gains on every seed, and the answers turn with it."""
    climate = {one.seed: one for one in results if one.arm == "climate"}
    gains = [climate[one.seed].right - one.right for one in results if one.arm != "climate"]
    return min(gains) >= GAIN and all(one.swapped <= TURNED for one in climate.values())


def main() -> None:
    """Run the control."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arms", nargs="+", default=["climate", "plain"], choices=ARMS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    sys.exit(not wins(text_control(tuple(args.arms), args.seeds, args.steps)))


if __name__ == "__main__":
    main()
