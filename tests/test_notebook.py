"""The notebook in docs/ runs from its first cell to its last, and holds no output of an earlier run."""

import ast
import io
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from geodistill.engine import shows_progress
from where import ROOT

NOTEBOOK = ROOT / "docs" / "from-folder-to-map.ipynb"
SMALLER = {
    "draw_scene(256,": "draw_scene(128,",
    "draw_scene(512,": "draw_scene(128,",
    'max_steps": 40': 'max_steps": 16',
    'every_steps": 40': 'every_steps": 16',
    'crop": 128': 'crop": 96',
}
"""What the cells are run with for what they say: smaller scenes and fewer steps."""


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does; return the value of its last line where that is an expression."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), NOTEBOOK.name, "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names)


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    sources = ["".join(cell["source"]) for cell in cells]
    for said, smaller in SMALLER.items():
        assert sum(source.count(said) for source in sources) == 1
        sources = [source.replace(said, smaller) for source in sources]
    shown = [run_cell(source, names) for source in sources]
    assert names["result"].miou > 0.1
    assert "<table>" in names["prediction"]._repr_html_()
    assert len(shown[-2]) > 0
    assert all(path.is_file() for path in shown[-1])
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


class KernelStream(io.StringIO):
    """A notebook's standard error: no terminal, says ipykernel."""

    __module__ = "ipykernel.iostream"


def test_progress_is_shown_in_notebooks_and_not_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, shown in ((KernelStream(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stderr", stream)
        assert shows_progress() is shown
