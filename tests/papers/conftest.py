"""A small labelled data set and a Segmenter that is right wherever a band is brightest."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from geodistill.data.manifest import Manifest
from geodistill.segmenter import Segmenter
from scored import make_scored_set
from tiny import tiny_networks, tiny_segmenter


@pytest.fixture
def segmenter() -> Iterator[Segmenter]:
    with tiny_networks():
        yield tiny_segmenter(tile=16)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_scored_set(tmp_path)
