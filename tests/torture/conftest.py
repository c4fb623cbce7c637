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
        left_out = _outside_sample([item for item in items if Path(__file__).parent in item.path.parents])
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("torture")
            if isinstance(item, pytest.Function) and (group := _command(item)):
                item.add_marker(pytest.mark.xdist_group(group))


def _outside_sample(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return what a share of the trials leaves out: of each test all but some commands, or all but its first.

    Of tests that take a command as a whole the first of those is enough.
    """
    by_test: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = []
    for trials in by_test.values():
        kept = [item for item in trials if isinstance(item, pytest.Function) and _command(item) in SAMPLE] or trials[:1]
        if trials[0].path.stem in ("test_changed", "test_command"):
            kept = kept[:1]
        left_out += [item for item in trials if item not in kept]
    return left_out


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
