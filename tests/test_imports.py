"""What an import of a part may pull in: a Segmenter is used without any paper, trainer or language model."""

import json
import subprocess
import sys
from functools import cache

import pytest

SEGMENTER = {
    *(
        "description",
        "errors",
        "files",
        "folders",
        "lazy",
        "legend_entries",
        "reading",
        "segmenter",
        "spec",
        "version",
    ),
    *("nn", "nn.output", "nn.weights"),
}
"""Modules of the package that `geodistill.segmenter` needs."""

HEAVY = ("lightning", "transformers", "matplotlib", "timm", "segmentation_models_pytorch", "openai", "jsonargparse")


def loaded_by(code: str) -> set[str]:
    """Return the names of all modules that a fresh process holds after some code."""
    program = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


LIBRARIES = ("torch", "timm", "segmentation_models_pytorch", "pandas", "pyarrow.parquet", "rasterio")
"""What networks and recipes need anyway: loaded once, for all processes that are forked."""

FORKS = """
import importlib, json, os, sys
libraries, codes = json.load(sys.stdin)
for name in libraries:
    importlib.import_module(name)
assert not [name for name in sys.modules if name.startswith("geodistill")]
for code in codes:
    if not os.fork():
        exec(code)
        print(json.dumps([code, list(sys.modules)]), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, code
"""


@cache
def loaded_beside_libraries() -> dict[str, set[str]]:
    """Return what each code of `NETWORK_CODE`, `RECIPE_CODE` and `ENCODER_CODE` loads that has the libraries."""
    codes = [NETWORK_CODE.format(paper) for paper in PAPERS] + [RECIPE_CODE.format(paper) for paper in PAPERS]
    codes += [ENCODER_CODE.format(encoder) for encoder in ENCODERS]
    given = json.dumps([LIBRARIES, codes])
    done = subprocess.run([sys.executable, "-c", FORKS], input=given, capture_output=True, text=True, check=True)
    return {code: set(modules) for code, modules in map(json.loads, done.stdout.splitlines())}


PAPERS = ("supervised", "ktda", "kda", "maflnet", "metasegnet", "sep")
NETWORK_CODE = "from geodistill.lazy import load; from geodistill.segmenter import NETWORKS as table\nload(table['{}'])"
RECIPE_CODE = "from geodistill.methods.method import find_method\nfind_method('{}')"
ENCODERS: dict[str, set[str]] = {"test_resnet": set(), "test_vit": set(), "mit_b0": {"mit"}}
ENCODER_CODE = "from geodistill.nn.encoders import build_encoder\nbuild_encoder('{}')"


@pytest.mark.slow
def test_a_segmenter_imports_no_method_and_no_large_library() -> None:
    modules = loaded_by("import geodistill.segmenter")
    ours = {name.removeprefix("geodistill.") for name in modules if name.startswith("geodistill.")}
    assert ours <= SEGMENTER
    assert not {name for name in HEAVY if name in modules}


@pytest.mark.slow
@pytest.mark.parametrize("paper", PAPERS)
def test_a_network_brings_its_own_paper_alone_and_no_training(paper: str) -> None:
    modules = loaded_beside_libraries()[NETWORK_CODE.format(paper)]
    papers = {name.split(".")[2] for name in modules if name.startswith("geodistill.methods.")}
    assert papers == {paper}
    assert not {name for name in ("lightning", "transformers", "matplotlib") if name in modules}
    assert f"geodistill.methods.{paper}.training" not in modules


@pytest.mark.slow
@pytest.mark.parametrize("paper", ["supervised", "ktda", "kda", "maflnet", "sep"])
def test_a_recipe_brings_its_own_paper_alone_and_no_trainer(paper: str) -> None:
    modules = loaded_beside_libraries()[RECIPE_CODE.format(paper)]
    rooms = {name.split(".")[2] for name in modules if name.startswith("geodistill.methods.")}
    assert rooms & {"supervised", "ktda", "kda", "maflnet", "metasegnet", "sep"} == {paper}
    assert not {name for name in ("lightning", "transformers", "matplotlib", "geodistill.text") if name in modules}


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_encoder_brings_its_own_family_alone(encoder: str) -> None:
    modules = loaded_beside_libraries()[ENCODER_CODE.format(encoder)]
    families = ("mit", "pvt", "checkpoints", "adapters")
    assert {name for name in families if f"geodistill.nn.{name}" in modules} == ENCODERS[encoder]
