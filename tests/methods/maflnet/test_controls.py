"""Made-up worlds in which the relations must help: what they teach is not in the labels that the student has."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill.methods.maflnet.network import MaflNetwork
from geodistill.methods.maflnet.training import MaflLossConfig, MaflObjective
from geodistill.nn.logit_losses import relation_inter, relation_intra

SIDE, CLASSES = 48, 3
IGNORED = 255


def draw(rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
    """Return images of six patches striped across, along or askew in random colours, and their directions."""
    images = np.zeros((count, 3, SIDE, SIDE), np.float32)
    masks = np.zeros((count, SIDE, SIDE), np.int64)
    rows, cols = np.mgrid[:SIDE, :SIDE]
    for image, mask in zip(images, masks, strict=True):
        for top, left in [(top, left) for top in (0, SIDE // 2) for left in (0, SIDE // 3, 2 * SIDE // 3)]:
            kind, part = int(rng.integers(CLASSES)), np.s_[top : top + SIDE // 2, left : left + SIDE // 3]
            mask[part] = kind
            stripes = ((rows, cols, rows + cols)[kind] // 2 % 2)[part] - 0.5
            image[(slice(None), *part)] = rng.normal(0, 1, (3, 1, 1)) + rng.normal(0, 1, (3, 1, 1)) * stripes
    images += rng.normal(0, 0.25, images.shape).astype(np.float32)
    return torch.from_numpy(images), torch.from_numpy(masks)


def as_teacher(mask: Tensor) -> Tensor:
    """Return the logits of a good teacher: the truth, blurred, and never wholly sure."""
    shares = F.one_hot(mask, CLASSES).permute(0, 3, 1, 2).float()
    blurred = F.avg_pool2d(F.pad(shares, (2, 2, 2, 2), "replicate"), 5, 1)
    return (0.94 * blurred + 0.02).log()


def train_and_score(relations: bool, labelled: int, unlabelled: int, steps: int = 40) -> float:
    """Return the accuracy in per cent on fresh images of a student with eight labelled images, or with all labelled.

    Args:
        relations: Have the relations with the teacher as terms.
        labelled: Of a step's images, drawn from the labelled eight; 0 labels all.
        unlabelled: Of a step's images, fresh ones.
        steps: Length of the training.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = MaflNetwork(3, CLASSES, encoder="test_resnet", width=16, aux_head="none", maca={"enabled": False}).train()
    objective = MaflObjective(MaflLossConfig(weights={"aux": 0.0}))
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    few_images, few_masks = draw(rng, 8)
    for step in range(steps):
        images, truth = draw(rng, unlabelled)
        mask = torch.full_like(truth, IGNORED) if labelled else truth
        chosen = rng.permutation(8)[:labelled]
        images, truth = torch.cat([few_images[chosen], images]), torch.cat([few_masks[chosen], truth])
        mask = torch.cat([few_masks[chosen], mask])
        output = network(images)
        terms = objective(output, {"mask": mask, "key": []}, step)  # type: ignore[typeddict-item]
        loss = torch.stack(list(terms.values())).sum()
        if relations:
            target = as_teacher(truth)
            loss = loss + relation_inter(output.logits, target, truth) + relation_intra(output.logits, target, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    images, truth = draw(np.random.default_rng(1), 24)
    with torch.no_grad():
        return 100 * float((network.eval()(images).logits.argmax(1) == truth).float().mean())


@pytest.mark.slow
def test_relations_on_unlabelled_images_carry_what_few_labels_do_not() -> None:
    alone, taught = (train_and_score(relations, labelled=4, unlabelled=4) for relations in (False, True))
    assert taught - alone >= 10


@pytest.mark.slow
def test_relations_do_no_harm_where_the_labels_say_all() -> None:
    alone, taught = (train_and_score(relations, labelled=0, unlabelled=8) for relations in (False, True))
    assert taught >= alone - 2
