"""What a loader's workers run. Without Lightning, which every worker that is started anew would have to import."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import cast

from torch.utils.data import Dataset, default_collate

from geodistill.data.dataset import RandomCrops
from geodistill.data.sampling import Batch, Sample


class MixedCrops(Dataset[Sample]):
    """Random crops of one or several sets: ``crops[position, draw]`` is draw ``draw`` of the set at ``position``.

    Args:
        crops: Those of each set.
        marked: Whether samples say the position of their set.
    """

    def __init__(self, crops: Sequence[RandomCrops], marked: bool) -> None:
        self._crops, self._marked = tuple(crops), marked

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        """Return the crop, with its set's position where that is asked for."""
        position, draw = index
        sample = self._crops[position][draw]
        return _marked(sample, position) if self._marked else sample


class OneSet(Dataset[Sample]):
    """The samples of one set among several, each with its set's position."""

    def __init__(self, samples: Dataset[Sample], position: int) -> None:
        self._samples, self._position = samples, position

    def __getitem__(self, index: int) -> Sample:
        """Return the sample, with its set's position."""
        return _marked(self._samples[index], self._position)


def _marked(sample: Sample, position: int) -> Sample:
    sample["set"] = position
    return sample


def collate(samples: list[Sample]) -> Batch:
    """Stack samples into a batch."""
    keys = [key for key in Sample.__annotations__ if key in samples[0]]
    return cast(Batch, default_collate([{key: dict(sample)[key] for key in keys} for sample in samples]))


def start_worker(worker: int) -> None:
    """Let GDAL keep 64 MiB for decoded blocks in each worker, where it would take 5 % of the machine's memory."""
    os.environ.setdefault("GDAL_CACHEMAX", "64")
