"""The world and the box of each process, and the table of all trials at the end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from torture.forks import warm
from torture.report import table
from torture.trials import Book, Boxes
from torture.world import make_world

RESULTS = "GEODISTILL_TORTURE_RESULTS"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        given = os.environ.get(RESULTS)
        file = Path(given) if given else Path(tempfile.mkdtemp()) / "trials.jsonl"
        file.unlink(missing_ok=True)
        os.environ[RESULTS] = str(file)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("torture")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    file = Path(os.environ[RESULTS])
    if file.is_file():
        terminalreporter.section("torture")
        terminalreporter.write_line(table(file))


@pytest.fixture(scope="session")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> Boxes:
    warm()
    folder = tmp_path_factory.mktemp("torture")
    return Boxes(folder, make_world(folder))


@pytest.fixture
def book() -> Book:
    return Book(Path(os.environ[RESULTS]))
