"""The world and the box of each process, and the table of all trials at the end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from torture.cases import CASES, SAMPLE
from torture.forks import warm
from torture.report import table
from torture.test_changed import CHANGES
from torture.test_mutated import TARGETS
from torture.trials import SCALE, Book, Boxes
from torture.world import make_world

RESULTS = "GEODISTILL_TORTURE_RESULTS"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        given = os.environ.get(RESULTS)
        file = Path(given) if given else Path(tempfile.mkdtemp()) / "trials.jsonl"
        file.unlink(missing_ok=True)
        os.environ[RESULTS] = str(file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests; those of one command go to one process, which runs it undisturbed once for all of them."""
    if SCALE < 1:
        left_out = [item for at, item in enumerate(items) if not _in_sample(item, at)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for at, item in enumerate(items) if _in_sample(item, at)]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("torture")
            if isinstance(item, pytest.Function) and (group := _command(item)):
                item.add_marker(pytest.mark.xdist_group(group))


def _in_sample(item: pytest.Item, at: int) -> bool:
    """Whether a test belongs to a share of the trials: those of some commands, and some of those of no command."""
    if Path(__file__).parent not in item.path.parents:
        return True
    group = _command(item) if isinstance(item, pytest.Function) else None
    if group is None:
        return at % round(1 / SCALE) == 0
    many = item.path.stem in ("test_mutated", "test_changed", "test_command")
    return group in SAMPLE and (not many or at % 3 == 0)


def _command(item: pytest.Function) -> str | None:
    given = item.callspec.params if hasattr(item, "callspec") else {}
    name = str(given.get("name", given.get("what", "")))
    if name in CHANGES:
        return CHANGES[name][0]
    return TARGETS[name].case if name in TARGETS else name if name in CASES else None


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
