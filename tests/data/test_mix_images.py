"""Images of a batch mixed with each other."""

import pytest
import torch

from geodistill.data.data_config import DataConfig, MixKind
from geodistill.data.mix_images import Mixing
from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError


def numbered(count: int = 4, size: int = 16) -> Batch:
    """Images whose pixels say which image they are of, with four classes in quarters."""
    number = torch.arange(count).float()[:, None, None, None]
    mask = torch.zeros(count, size, size, dtype=torch.int64)
    mask[:, : size // 2, size // 2 :], mask[:, size // 2 :, : size // 2], mask[:, size // 2 :, size // 2 :] = 1, 2, 3
    keys = [str(i) for i in range(count)]
    valid = torch.ones(count, size, size, dtype=torch.bool)
    return Batch(image=number.expand(count, 3, size, size), mask=mask + 4 * number[:, 0].long(), valid=valid,
                 unlabelled=torch.zeros_like(valid), key=keys, source=keys)  # fmt: skip


@pytest.mark.parametrize("kind", ["classmix", "cutmix"])
def test_every_pixel_keeps_its_own_label_and_comes_from_the_image_or_its_neighbour(kind: MixKind) -> None:
    torch.manual_seed(0)
    batch = numbered()
    mixed = Mixing(1.0, kind)(batch)
    origin = mixed["image"][:, 0]
    assert torch.equal(mixed["mask"] // 4, origin.long())
    for index in range(4):
        assert set(origin[index].unique().tolist()) <= {index, (index - 1) % 4}
    assert len(origin.unique()) == 4
    assert torch.equal(batch["image"][:, 0, 0, 0], torch.arange(4.0))  # the batch itself is as it was


@pytest.mark.parametrize("kind", ["classmix", "cutmix", "copypaste"])
def test_of_several_sets_each_image_gets_a_part_of_one_of_its_own_set(kind: MixKind) -> None:
    batch, sets = numbered(6), [0, 1, 0, 1, 1, 2]
    batch["set"] = torch.tensor(sets)
    givers = torch.zeros(6, 6, dtype=torch.bool)
    for seed in range(8):
        torch.manual_seed(seed)
        mixed = Mixing(1.0, kind)(batch)
        for index in range(6):
            for giver in mixed["image"][index, 0].unique().long().tolist():
                givers[index, giver] = True
        assert torch.equal(mixed["mask"] // 4, mixed["image"][:, 0].long())
    expected = {0: {0, 2}, 1: {1, 4}, 2: {0, 2}, 3: {1, 3}, 4: {3, 4}, 5: {5}}
    assert {i: set(row.nonzero()[:, 0].tolist()) for i, row in enumerate(givers)} == expected


def test_classmix_pastes_half_of_the_neighbours_classes_whole() -> None:
    torch.manual_seed(0)
    mixed = Mixing(1.0)(numbered())
    for index in range(4):
        pasted = mixed["mask"][index][mixed["image"][index, 0] != index]
        classes, counts = pasted.unique(return_counts=True)
        assert len(classes) == 2
        assert set((classes // 4).tolist()) == {(index - 1) % 4}
        assert set(counts.tolist()) == {64}


def test_images_without_labels_are_mixed_by_their_soft_labels_with_what_is_sure_of_them() -> None:
    torch.manual_seed(0)
    batch = numbered(2)
    soft = torch.nn.functional.one_hot(batch["mask"] % 4, 4).permute(0, 3, 1, 2).float()
    confident = batch["valid"].clone()
    confident[1] = False
    batch["mask"] = torch.full_like(batch["mask"], 255)
    batch["soft"], batch["confident"], batch["unlabelled"] = soft, confident, batch["valid"]
    mixed = Mixing(1.0)(batch)
    assert (mixed["image"][0] == 1).any()
    assert torch.equal(mixed["confident"], mixed["image"][:, 0] == 0)


@pytest.mark.parametrize("kind", ["classmix", "copypaste"])
def test_pixels_that_a_labelled_image_leaves_out_are_never_pasted_as_a_class(kind: MixKind) -> None:
    torch.manual_seed(0)
    for _ in range(4):
        batch = numbered(2)
        batch["mask"][0, :, :8], batch["mask"][1] = 255, 7
        batch["unlabelled"][1] = True  # the second has no labels, and a teacher says that it is of two classes
        batch["soft"] = torch.zeros(2, 8, 16, 16)
        batch["soft"][1, 6, :4], batch["soft"][1, 5, 4:] = 1, 1
        batch["confident"] = batch["unlabelled"].clone()
        mixed = Mixing(1.0, kind)(batch)
        first, second = mixed["image"][0, 0] == 0, mixed["image"][1, 0] == 1
        assert second[:, :8].all(), "no pixel of the half without labels was taken"
        assert not second.all()
        # Each pixel stays of an image with or without labels, whichever image it is in now.
        assert torch.equal(mixed["unlabelled"], torch.stack([~first, second]))


def test_not_every_pixel_is_pasted_that_is_not_valid_and_none_at_probability_zero() -> None:
    batch = numbered(2)
    batch["valid"] = torch.zeros_like(batch["valid"])
    assert torch.equal(Mixing(1.0)(batch)["image"], batch["image"])
    assert Mixing(0.0)(batch) is batch
    with pytest.raises(RecipeError, match=r"data\.mix 2"):
        DataConfig(mix=2.0).check_values()


def test_copypaste_pastes_half_of_the_objects_whole_and_never_the_most_frequent_class() -> None:
    torch.manual_seed(0)
    count, size = 2, 24
    mask = torch.zeros(count, size, size, dtype=torch.int64)
    for position, (row, col) in enumerate([(1, 1), (1, 12), (12, 1), (12, 12)]):
        mask[:, row : row + 5, col : col + 5] = 1 + position % 2  # two objects of each of two classes
    keys = [str(i) for i in range(count)]
    valid = torch.ones(count, size, size, dtype=torch.bool)
    number = torch.arange(count).float()[:, None, None, None]
    image, without = number.expand(count, 3, size, size), torch.zeros_like(valid)
    batch = Batch(image=image, mask=mask, valid=valid, unlabelled=without, key=keys, source=keys)
    batch["mask"][0] = 0
    mixed = Mixing(1.0, "copypaste")(batch)
    pasted = mixed["image"][0, 0] == 1
    assert int(pasted.sum()) == 2 * 25
    assert torch.equal(mixed["mask"][0], torch.where(pasted, mask[1], 0))
    for row, col in ((1, 1), (1, 12), (12, 1), (12, 12)):
        assert int(pasted[row : row + 5, col : col + 5].sum()) in (0, 25)
    assert torch.equal(mixed["image"][1, 0], torch.ones(size, size))  # its neighbour has no object
