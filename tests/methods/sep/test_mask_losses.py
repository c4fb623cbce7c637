"""Mask2Former's losses: what is matched, and that pixels without a label weigh nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill.methods.sep.mask2former import Targets, match, query_losses, sample_labels, sample_logits
from geodistill.methods.sep.network import Queries
from geodistill.spec import IGNORE_INDEX

SIDE = 16


def halves() -> Tensor:
    """``(1, SIDE, SIDE)``: class 2 on the left, class 0 on the right."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.int64)
    mask[:, :, : SIDE // 2] = 2
    return mask


def right_queries(mask: Tensor, classes: int, queries: int = 5, sure: float = 8.0) -> Queries:
    """One layer whose queries 3 and 1 show classes 2 and 0 as they are in the mask."""
    logits = torch.zeros(1, queries, classes + 1)
    logits[..., classes] = sure
    shapes = torch.full((1, queries, SIDE, SIDE), -sure)
    for query, index in ((3, 2), (1, 0)):
        logits[0, query, index], logits[0, query, classes] = sure, -sure
        shapes[0, query] = torch.where(mask[0] == index, sure, -sure)
    return Queries([logits.requires_grad_()], [shapes.requires_grad_()])


def total(losses: dict[str, Tensor]) -> float:
    return sum(float(value.detach()) for value in losses.values())


def test_queries_are_matched_with_the_masks_they_show() -> None:
    mask = halves()
    ((chosen, masks),) = match(right_queries(mask, 4), 0, Targets(mask[0]))
    classes = Targets(mask[0]).classes[masks]
    assert dict(zip(chosen.tolist(), classes.tolist(), strict=True)) == {3: 2, 1: 0}


def test_the_right_answer_costs_almost_nothing_and_a_wrong_one_much() -> None:
    torch.manual_seed(0)
    mask = halves()
    assert total(query_losses(right_queries(mask, 4), mask)) < 0.1
    turned = right_queries(mask, 4)
    turned.masks = [turned.masks[0].detach().transpose(2, 3)]
    assert query_losses(turned, mask)["mask"].item() > 2


def test_pixels_without_a_label_change_no_loss_whatever_a_mask_says_there() -> None:
    mask = halves()
    mask[:, SIDE // 2 :] = IGNORE_INDEX
    calm, loud = right_queries(mask, 4), right_queries(mask, 4)
    with torch.no_grad():
        # Far from any labelled pixel, so that no bilinear sample sees it.
        loud.masks[0][:, :, SIDE // 2 + 2 :] = 8.0
    torch.manual_seed(1)
    quiet = query_losses(calm, mask)
    torch.manual_seed(1)
    noisy = query_losses(loud, mask)
    for name, value in quiet.items():
        assert noisy[name].item() == pytest.approx(value.item(), abs=1e-4), name
    sum(noisy.values()).backward()  # type: ignore[union-attr]
    gradient = loud.masks[0].grad
    assert gradient is not None
    assert not gradient[:, :, SIDE // 2 + 2 :].any()
    assert gradient[:, :, : SIDE // 2].any()


def test_the_same_pixels_would_count_as_negatives_if_they_were_labelled() -> None:
    mask = halves()
    loud = right_queries(mask, 4)
    with torch.no_grad():
        loud.masks[0][:, :, SIDE // 2 + 2 :] = 8.0
    assert query_losses(loud, mask)["mask"].item() > 1


def test_an_image_without_labels_gives_zero_with_a_graph_and_teaches_no_absence() -> None:
    mask = torch.full((1, SIDE, SIDE), IGNORE_INDEX)
    queries = right_queries(halves(), 4)
    losses = query_losses(queries, mask)
    assert total(losses) == 0
    sum(losses.values()).backward()  # type: ignore[union-attr]
    gradient = queries.classes[0].grad
    assert gradient is not None
    assert not gradient.any()


def test_beside_an_image_without_labels_another_counts_as_alone() -> None:
    mask = halves()
    own = right_queries(mask, 4)
    torch.manual_seed(1)
    alone = query_losses(own, mask)
    torch.manual_seed(1)
    both = Queries([torch.cat([own.classes[0]] * 2)], [torch.cat([own.masks[0]] * 2)])
    pair = query_losses(both, torch.cat([mask, torch.full_like(mask, IGNORE_INDEX)]))
    for name, value in alone.items():
        assert pair[name].item() == pytest.approx(value.item(), abs=1e-5), name


def test_layers_add_up() -> None:
    mask = halves()
    one = right_queries(mask, 4, sure=1.0)
    two = Queries(one.classes * 2, one.masks * 2)
    single, double = query_losses(one, mask), query_losses(two, mask)
    assert double["class"].item() == pytest.approx(2 * single["class"].item(), rel=1e-4)
    assert double["mask"].item() == pytest.approx(2 * single["mask"].item(), rel=0.2)


def test_points_read_the_pixel_they_lie_in() -> None:
    labels = torch.arange(16.0).view(1, 1, 4, 4)
    points = torch.tensor([[[0.125, 0.125], [0.875, 0.125], [0.3, 0.9]]])  # x, y
    assert sample_labels(labels, points).tolist() == [[0, 3, 13]]
    torch.testing.assert_close(sample_logits(labels, points)[0, 0, :2], torch.tensor([0.0, 3.0]))
