"""A model learns from a dataset of dicts with ``image`` and ``mask`` and is scored on another."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from torch.nn.functional import cross_entropy

from geodistill.data.data_config import DataConfig
from geodistill.data.datamodule import DataModule
from geodistill.errors import DataError
from geodistill.evaluation.evaluate_datasets import evaluate_dataset
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend
from map_style import Towns

LEGEND = Legend(("ground", "building"))


@pytest.mark.slow
def test_a_network_learns_from_a_dataset_and_is_scored_on_another() -> None:
    torch.manual_seed(0)
    data = DataModule.of_datasets(Towns(8), None, LEGEND, DataConfig(crop=32, batch_size=4, workers=0))
    segmenter = Segmenter("supervised", {"encoder": "test_resnet", "decoder_channels": 32}, data.spec, 32, {}).train()
    optimizer = torch.optim.AdamW(segmenter.parameters(), 2e-3)
    for batch in islice(data.train_dataloader(), 30):
        optimizer.zero_grad()
        cross_entropy(segmenter(batch["image"]), batch["mask"], ignore_index=IGNORE_INDEX).backward()
        optimizer.step()
    scores = evaluate_dataset(segmenter.eval(), Towns(3, seed=7, sizes=(50, 24)))
    assert int(scores.support.sum()) == 2 * 48 * 50 + 22 * 24
    assert scores.miou > 0.8
    with pytest.raises(DataError, match="a legend of a, b; expected the model's classes ground, building"):
        evaluate_dataset(segmenter, Towns(1), Legend(("a", "b")))
    with pytest.raises(DataError, match="an empty dataset"):
        evaluate_dataset(segmenter, Towns(0))
