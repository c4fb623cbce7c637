"""One run with its evaluation, made once for the tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reported import make_run
from tiny import tiny_networks


@pytest.fixture(autouse=True, scope="module")
def _networks() -> Iterator[None]:
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("reported"))
