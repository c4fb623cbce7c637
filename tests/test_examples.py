"""The example in the docstring of every public name runs as it stands, in a folder with a small town and two runs."""

import doctest
import json
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import geodistill as gd
from towns import write_town
from where import ROOT

SMALL = {
    "network.encoder": "test_resnet",
    "network.decoder_channels": 16,
    "data.crop": 32,
    "data.batch_size": 2,
    "data.workers": 0,
    "trainer.accelerator": "cpu",
    "trainer.pictures": 0,
    "trainer.max_steps": 2,
}
NAMES = [name for name in gd.__all__ if name != "__version__"]


def small_fit(recipe: Any, out: Any, **choices: Any) -> Any:
    """Train as asked, but small: two steps of a tiny network."""
    return gd.fit(recipe, out, **choices | {"settings": choices.get("settings", {}) | SMALL})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examples")
    write_town(root / "town", count=8)
    for name in ("tile.tif", "city.tif"):
        shutil.copy(root / "town" / "images" / "t0.tif", root / name)
    images = [{"id": i + 1, "file_name": f"t{i}.tif", "width": 96, "height": 96} for i in range(8)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [20, 20, 30, 30], "area": 900} for i in range(1, 9)]
    coco = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "building"}]}
    (root / "town" / "boxes.json").write_text(json.dumps(coco), encoding="utf-8")
    manifest = gd.scan(
        root / "town",
        out=root / "manifest.parquet",
        legend=["ground", "building"],
        split={"fractions": (0.5, 0.25, 0.25)},
        progress=False,
    )
    small_fit("supervised-folder", root / "runs" / "student", data=manifest)
    shutil.copytree(root / "runs" / "student", root / "runs" / "other")
    return root


@pytest.mark.slow
def test_the_lines_of_the_documents_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("town", "tile.tif", "city.tif"):
        copy = shutil.copytree if (folder / name).is_dir() else shutil.copy
        copy(folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    full, short = gd.fit, SMALL | {"network.encoder_weights": None}
    monkeypatch.setattr(gd, "fit", lambda recipe, out, data: full(recipe, out, data=data, settings=short))
    pages = [(ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/python.md")]
    [readme], [same, more] = [re.findall(r"```python\n(.*?)```", page, re.DOTALL) for page in pages]
    assert set(same.splitlines()) <= set(readme.splitlines())
    found: dict[str, Any] = {}
    exec(readme, found)
    assert found["prediction"].legend.names == ("ground", "building")
    assert Path("city_map.gpkg").is_file()
    exec(more, found)
    assert found["prediction"].classes.shape == (300, 400)


@pytest.mark.slow
def test_the_example_of_every_name_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    names = SimpleNamespace(**{name: getattr(gd, name) for name in NAMES})
    names.fit = small_fit
    names.compare = partial(gd.compare, device="cpu")
    failures: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for name in NAMES:
        test = doctest.DocTestParser().get_doctest(getattr(gd, name).__doc__, {"gd": names}, name, None, None)
        assert test.examples, f"{name} has no example"
        runner.run(test, out=failures.append)
    assert not failures, "".join(failures)
