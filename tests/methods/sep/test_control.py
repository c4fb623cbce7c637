"""A made-up world in which SEP must pay: many images with boxes alone, two of the same kind with true masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geodistill.methods.method import BuildContext, Method
from geodistill.methods.sep.network import SepNetworkConfig
from geodistill.methods.sep.training import SepRecipe, build
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.warm_start import warm_start

SIDE = 48
NETWORK = SepNetworkConfig(encoder="test_resnet", encoder_weights=None, decoder_channels=32)


def spec(*classes: str) -> Spec:
    return Spec(Legend(classes), ("red", "green", "blue"), (0.0,) * 3, (1.0,) * 3)


def draw(rng: np.random.Generator, count: int, *, boxes: bool) -> tuple[Tensor, Tensor]:
    """Return images with discs striped across (1) or along (2) in random colours, and masks of discs or their boxes."""
    images = rng.normal(0, 0.25, (count, 3, SIDE, SIDE)).astype(np.float32) + rng.normal(0, 1, (count, 3, 1, 1))
    masks = np.zeros((count, SIDE, SIDE), np.int64)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    for image, mask in zip(images, masks, strict=True):
        for top, left in [(top, left) for top in (0, SIDE // 2) for left in (0, SIDE // 2)]:
            kind, radius = int(rng.integers(3)), int(rng.integers(7, 11))
            if kind == 0:
                continue
            row, col = (
                top + rng.integers(radius, SIDE // 2 - radius + 1),
                left + rng.integers(radius, SIDE // 2 - radius + 1),
            )
            disc = (rows - row) ** 2 + (cols - col) ** 2 < radius**2
            stripes = ((rows, cols)[kind - 1] // 2 % 2) - 0.5
            image += disc * rng.normal(0, 1.5, (3, 1, 1)) * stripes
            shape = (abs(rows - row) < radius) & (abs(cols - col) < radius) if boxes else disc
            mask[shape] = kind
    return torch.from_numpy(images).float(), torch.from_numpy(masks)


def train(method: Method, images: Tensor, masks: Tensor, steps: int) -> None:
    """Learn some images, eight a step."""
    rng = np.random.default_rng(0)
    network, objective = method.network.train(), method.objective
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = rng.integers(0, len(images), 8)
        batch: Any = {"image": images[chosen], "mask": masks[chosen]}
        (term,) = objective(network(batch["image"]), batch, step).values()
        optimizer.zero_grad()
        term.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def scored(init: Path | None) -> float:
    """Learn two images with true masks; return the mean IoU of both kinds of disc on others, in per cent."""
    torch.manual_seed(1)
    few = spec("ground", "across", "along")
    method = build(SepRecipe(network=NETWORK), BuildContext(few))
    if init is not None:
        warm_start(str(init), method, few)
    train(method, *draw(np.random.default_rng(2), 2, boxes=False), steps=40)
    images, masks = draw(np.random.default_rng(3), 32, boxes=False)
    with torch.no_grad():
        classes = method.network.eval()(images).logits.argmax(1)
    hits, either = (
        torch.tensor([float(both(classes == kind, masks == kind).sum()) for kind in (1, 2)])
        for both in (torch.logical_and, torch.logical_or)
    )
    return 100 * float((hits / either).mean())


@pytest.mark.slow
def test_boxes_of_the_same_kind_of_scene_teach_what_few_masks_do_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cheap = spec("background", "one", "other")  # other names, and a head of its own
    method = build(SepRecipe(network=NETWORK), BuildContext(cheap))
    train(method, *draw(np.random.default_rng(1), 160, boxes=True), steps=180)
    state = {key: value.detach() for key, value in method.network.state_dict().items()}
    Segmenter.from_network(method.name, method.arguments, cheap, state, SIDE, {}).save(tmp_path / "segmenter")
    assert scored(tmp_path / "segmenter") - scored(None) >= 10
