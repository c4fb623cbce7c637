"""A base installation maps and labels; what it leaves out says in one line how it comes."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from factories import make_dataset, make_raster
from forked import run
from geodistill.cli import main
from geodistill.extras import EXTRAS, extra_of, missing_extra
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec

ROOT = Path(__file__).parents[2]
ABSENT = sorted({module for modules in EXTRAS.values() for module in modules})


def run_base(*argv: object) -> subprocess.CompletedProcess[str]:
    """Run a command in a process that can import nothing that an extra brings."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT!r}))\n"
        "from geodistill.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run([sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_base_maps(tmp_path: Path) -> None:
    spec = Spec(Legend(("a", "b")), ("red", "green", "blue"), (0.0,) * 3, (255.0,) * 3)
    Segmenter("supervised", {"architecture": "unet", "encoder": "resnet18"}, spec, 32, {}).save(tmp_path / "model")
    scene = make_raster(tmp_path / "scene.tif")
    command = ["predict", scene, "--model", tmp_path / "model", "--out", tmp_path / "map.tif", "--vector", "gpkg"]
    done = run(command, tmp_path, absent=ABSENT)
    assert done.status == 0, done.err
    assert (tmp_path / "map.tif").is_file()


@pytest.mark.slow
def test_training_without_its_extra_says_how_it_comes(tmp_path: Path) -> None:
    done = run(["fit", "ktda-folder", "--out", tmp_path / "run"], tmp_path, absent=ABSENT)
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "pip install 'geodistill[train]'" in done.err


def test_a_missing_module_names_its_extra() -> None:
    assert str(missing_extra("ray", "ray")) == "ray is not installed; pip install 'geodistill[ray]'"
    assert extra_of("onnxruntime.capi") == "export"
    assert extra_of("numpy") is None


def test_the_extras_are_those_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(EXTRAS) | {"all", "docs", "dev"} == set(declared)
    names = {"stac_model": "stac-model"}
    for extra, modules in EXTRAS.items():
        assert all(any(line.startswith(names.get(module, module)) for line in declared[extra]) for module in modules)


@pytest.mark.slow
def test_data_is_scanned_without_extras(tmp_path: Path) -> None:
    make_dataset(tmp_path / "town", 3)
    assert run_base("data", "scan", tmp_path / "town", "--out", tmp_path / "m.parquet").returncode == 0
    assert main(["data", "stats", str(tmp_path / "m.parquet")]) == 0
