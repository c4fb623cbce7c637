"""A Ray cluster for the tests that need one, started once a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from where import SUPPORT


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Start Ray on this machine, say that it has a GPU, and let its workers find the networks of the tests.

    Its workers, each of which imports torch, are two, or as many as an indirect parameter says.
    """
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(SUPPORT), *sys.path]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Else workers are so polite that on a busy machine they get nothing done.
        patch.setenv("RAY_worker_niceness", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(num_cpus=getattr(request, "param", 2), num_gpus=1, include_dashboard=False, logging_level="error")
        yield
        ray.shutdown()
