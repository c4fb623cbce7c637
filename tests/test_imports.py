"""What an import of a part may pull in: a Segmenter is used without any paper, trainer or language model."""

import subprocess
import sys

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


def test_a_segmenter_imports_no_method_and_no_large_library() -> None:
    modules = loaded_by("import geodistill.segmenter")
    ours = {name.removeprefix("geodistill.") for name in modules if name.startswith("geodistill.")}
    assert ours <= SEGMENTER
    assert not {name for name in HEAVY if name in modules}


@pytest.mark.parametrize("paper", ["supervised", "ktda", "kda", "maflnet", "metasegnet", "sep"])
def test_a_network_brings_its_own_paper_alone_and_no_training(paper: str) -> None:
    modules = loaded_by(
        f"from geodistill.lazy import load; from geodistill.segmenter import NETWORKS as table\nload(table['{paper}'])"
    )
    papers = {name.split(".")[2] for name in modules if name.startswith("geodistill.methods.")}
    assert papers == {paper}
    assert not {name for name in ("lightning", "transformers", "matplotlib") if name in modules}
    assert f"geodistill.methods.{paper}.training" not in modules


@pytest.mark.parametrize("paper", ["supervised", "ktda", "kda", "maflnet", "sep"])
def test_a_recipe_brings_its_own_paper_alone_and_no_trainer(paper: str) -> None:
    modules = loaded_by(f"from geodistill.methods.schema import find_method\nfind_method('{paper}')")
    rooms = {name.split(".")[2] for name in modules if name.startswith("geodistill.methods.")}
    assert rooms & {"supervised", "ktda", "kda", "maflnet", "metasegnet", "sep"} == {paper}
    assert not {name for name in ("lightning", "transformers", "matplotlib", "geodistill.text") if name in modules}


@pytest.mark.parametrize(("encoder", "families"), [("test_resnet", set()), ("test_vit", set()), ("mit_b0", {"mit"})])
def test_an_encoder_brings_its_own_family_alone(encoder: str, families: set[str]) -> None:
    modules = loaded_by(f"from geodistill.nn.encoders import build_encoder\nbuild_encoder('{encoder}')")
    assert {
        name for name in ("mit", "pvt", "checkpoints", "adapters") if f"geodistill.nn.{name}" in modules
    } == families
