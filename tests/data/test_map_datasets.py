"""A dataset of dicts with ``image`` and ``mask``, as TorchGeo's are, is trained on and scored."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.data.map_datasets import Datasets
from geodistill.errors import DataError
from geodistill.spec import Legend
from map_style import Towns

LEGEND = Legend(("ground", "building"))


def config(**fields: Any) -> DataConfig:
    return DataConfig(**{"crop": 32, "batch_size": 4, "workers": 0} | fields)


def test_batches_and_tiles_are_those_of_a_manifest() -> None:
    module = DataModule.of_datasets(Towns(6, sizes=(40, 24)), Towns(3, seed=9), LEGEND, config())
    first, second = (list(islice(module.train_dataloader(), 3)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one["image"].shape == (4, 3, 32, 32)
        assert one["key"] == other["key"]
        assert torch.equal(one["image"], other["image"])
    tiles = module.val_dataloader()
    assert not isinstance(tiles, list)
    assert sum(int(batch["valid"].sum()) for batch in tiles) == 3 * 40 * 40
    assert module.manifest.rows("val")[0].key == "val/0"


def test_the_spec_is_measured_on_the_training_items_alone() -> None:
    train = Towns(5)
    found = Datasets.measured({"train": train, "val": Towns(2, seed=3)}, LEGEND, ("red", "green", "blue")).manifest
    pixels = torch.stack([train[index]["image"] for index in range(5)]).double()
    assert found.statistics is not None
    assert found.statistics.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert found.statistics.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    assert sum(found.statistics.class_pixels["train"]) + found.statistics.ignored_pixels["train"] == 5 * 40 * 40
    assert found.bands == ("red", "green", "blue")


class Odd(Towns):
    """One item in another form."""

    def __init__(self, **values: Tensor | None) -> None:
        super().__init__(3)
        self.values = values

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index) | (self.values if index == 1 else {})
        return {key: value for key, value in item.items() if value is not None}


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        (Odd(mask=None), "train/1 with the keys image, bounds; expected 'image' and 'mask'"),
        (Odd(mask=torch.zeros(1, 40, 41)), r"a mask of \(40, 41\) float32; expected an image of \(C, H, W\)"),
        (Odd(mask=torch.full((40, 40), 7)), r"mask train/1 has label 7 \(1600 pixels\) outside the legend"),
        (Odd(image=torch.zeros(4, 40, 40)), "train/1 with 4 bands; expected 3 as the others"),
        (Towns(0), "an empty dataset for train; expected at least one item"),
    ],
)
def test_items_of_another_form_are_named(dataset: Towns, says: str) -> None:
    with pytest.raises(DataError, match=says):
        DataModule.of_datasets(dataset, None, LEGEND, config())


def test_samples_that_are_not_finite_are_not_valid() -> None:
    image = torch.full((3, 40, 40), 5.0)
    image[0, :, :10] = torch.nan
    found = Datasets.measured({"train": Odd(image=image)}, LEGEND)
    row = found.manifest.rows("train")[1]
    patch = found.reader().read(row, row.window)
    assert not patch.valid[:, :10].any()
    assert patch.valid[:, 10:].all()
    assert (patch.mask[:, :10] == 255).all()
