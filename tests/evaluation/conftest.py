"""A small labelled data set and a Segmenter that is right wherever a band is brightest."""

from pathlib import Path

import pytest

from geodistill.data.manifest import Manifest
from geodistill.segmenter import Segmenter
from scored import make_scored_set
from tiny import tiny_segmenter


@pytest.fixture(autouse=True)
def _networks(tiny_models: None) -> None:
    """Let every test here have the networks of `tiny`."""


@pytest.fixture
def segmenter() -> Segmenter:
    return tiny_segmenter(tile=16)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_scored_set(tmp_path)
