"""Figures of recipes and Segmenters without training them."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from geodistill.cli import main
from geodistill.errors import GeodistillError, RecipeError
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.inspect import LiveMemory, inspect
from geodistill.training.recipe import list_recipes

ARGUMENTS = {"architecture": "unet", "encoder": "test_resnet"}


@pytest.fixture
def segmenter(tmp_path: Path) -> Path:
    spec = Spec(Legend(("a", "b")), ("r", "g", "b"))
    Segmenter("supervised", ARGUMENTS, spec, 64, {}).save(tmp_path / "s")
    return tmp_path / "s"


def test_a_segmenter_is_weighed_as_it_is(segmenter: Path) -> None:
    found = inspect(segmenter, size=64)
    network = Segmenter.load(segmenter)
    count = sum(p.numel() for p in network.parameters())
    assert found.parameters == found.inference_parameters == sum(found.modules.values()) == count
    assert found.output == (1, 2, 64, 64)
    assert found.activation_bytes["training"] > found.activation_bytes["inference"] > 64 * 64 * 2 * 4
    assert f"{count:,}" in found.to_text()


def test_the_smallest_image_that_there_is_is_weighed(segmenter: Path) -> None:
    assert inspect(segmenter, size=1).output == (1, 2, 1, 1)


@pytest.mark.parametrize("target", ["supervised-folder", "kda-landslide --decoders"])
@pytest.mark.parametrize("flag", ["size", "channels", "classes"])
@pytest.mark.parametrize("value", [0, -5])
def test_less_than_one_is_refused(target: str, flag: str, value: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", *target.split(), f"--{flag}={value}"]) == 2
    assert capsys.readouterr().err == f"geodistill: error: {flag} {value}; expected at least 1\n"


def test_multiply_adds_are_those_of_the_layers(segmenter: Path) -> None:
    network, macs = Segmenter.load(segmenter), 0

    def count(layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(layer, nn.Conv2d)
        macs += output.numel() * layer.weight[0].numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    network(torch.zeros(1, 3, 64, 64))
    assert inspect(segmenter, size=64).macs == macs


@pytest.mark.slow
def test_the_grass_recipe_has_the_parameters_of_the_paper() -> None:
    found = inspect("ktda-grass", size=256, classes=5)
    assert found.trainable == pytest.approx(260.1e6, rel=1e-3)
    assert found.parameters - found.trainable == pytest.approx(86.58e6, rel=1e-3)
    assert found.inference_parameters < found.trainable
    assert found.output == (1, 5, 256, 256)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_can_be_weighed_offline(name: str) -> None:
    found = inspect(name, size=128)
    assert found.macs > 0
    assert found.inference_parameters <= found.parameters


@pytest.mark.slow
def test_an_encoder_that_stands_for_a_teacher_that_is_not_there_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    modules = inspect("ktda-taught", size=64).modules
    assert modules["stand-in for the teacher"] == modules["encoder"]
    assert "teacher (frozen, not kept)" not in modules


def test_json_has_the_promised_keys(segmenter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(segmenter), "--size", "64", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {"parameters", "trainable", "inference_parameters", "macs", "modules"} <= set(data)


def test_live_memory_follows_what_is_freed() -> None:
    with LiveMemory() as memory:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second * 2
        del second, third
    assert memory.peak == 8000
    assert memory.live == 0


def test_a_target_that_is_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(GeodistillError, match="no Segmenter in"):
        inspect(tmp_path)
    with pytest.raises(GeodistillError, match="unknown recipe"):
        inspect("ktda-grasz")


@pytest.mark.parametrize("given", [{"channels": 5}, {"classes": 3}])
def test_bands_and_classes_of_what_has_its_own(given: dict[str, int], segmenter: Path, recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"for the trained model .*expected none: it has its own"):
        inspect(segmenter, **given)
    with pytest.raises(RecipeError, match="expected none: the manifest has them"):
        inspect(recipe_file, **given)
