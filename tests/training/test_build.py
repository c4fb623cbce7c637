"""What the network's input is normalised by: a pretrained encoder is given what its weights were trained with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geodistill.errors import RecipeError
from geodistill.methods.method import BuildContext
from geodistill.nn.encoders import build_encoder, weights_statistics
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method, network_spec
from geodistill.training.recipe import load_recipe

LEGEND = Legend(("land", "water"))
DATA = Spec(LEGEND, ("red", "green", "blue"), (80.0, 90.0, 100.0), (20.0, 21.0, 22.0))
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def choose(spec: Spec, *flags: str) -> tuple[Spec, str | None]:
    return network_spec(load_recipe(None, ["--network.encoder", "test_resnet", *flags]), spec)


@pytest.mark.parametrize(
    ("method", "flags"),
    [
        ("supervised", ["--network.encoder_weights", "pretrained"]),
        ("supervised", ["--network.encoder_weights", "pretrained", "--network.frozen_encoder", "true"]),
        ("ktda", []),
        ("kda", ["--network.encoder_weights", "pretrained", "--network.encoder", "resnet18"]),
        ("maflnet", ["--network.encoder_weights", "pretrained"]),
        ("metasegnet", ["--network.encoder_weights", "pretrained"]),
        ("sep", ["--network.encoder_weights", "pretrained"]),
    ],
)
def test_hub_weights_get_their_own_statistics_under_every_method(method: str, flags: list[str]) -> None:
    spec, note = network_spec(load_recipe(None, ["--method", method, *flags]), DATA)
    assert spec.mean == pytest.approx(IMAGENET[0])
    assert spec.std == pytest.approx(IMAGENET[1])
    assert (spec.legend, spec.bands) == (DATA.legend, DATA.bands)
    assert note == "input normalised by the statistics of pretrained"


def test_random_weights_and_the_users_choice_leave_the_datas_own() -> None:
    assert choose(DATA) == (DATA, None)
    assert choose(DATA, "--network.encoder_weights", "pretrained", "--data.statistics", "data") == (DATA, None)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(DATA, bands=("a", "b"), mean=(80.0, 90.0), std=(20.0, 21.0)), "weights for 3 bands and images of 2"),
        (replace(DATA, mean=(900.0, 1000.0, 1100.0)), "weights for 8-bit images and band means of 900, 1000, 1100"),
        (replace(DATA, mean=(0.2, 0.3, 0.4), std=(0.1, 0.1, 0.1)), "band means of 0.2, 0.3, 0.4"),
    ],
)
def test_weights_for_other_images_leave_the_datas_own_and_say_why(spec: Spec, reason: str) -> None:
    chosen, note = choose(spec, "--network.encoder_weights", "pretrained")
    assert chosen == spec
    assert note is not None
    assert reason in note
    with pytest.raises(RecipeError, match=reason):
        choose(spec, "--network.encoder_weights", "pretrained", "--data.statistics", "encoder")
    with pytest.raises(RecipeError, match=r"without network\.encoder_weights"):
        choose(spec, "--data.statistics", "encoder")


def test_a_distilled_encoder_and_a_segmenter_bring_theirs_in_sensor_units(tmp_path: Path) -> None:
    mean, std = (700.0, 800.0, 900.0), (70.0, 80.0, 90.0)
    build_encoder("test_resnet").write(tmp_path / "encoder", DATA.bands, mean, std)
    assert weights_statistics("test_resnet", tmp_path / "encoder") == (mean, std, True)
    chosen, _ = choose(DATA, "--network.encoder_weights", str(tmp_path / "encoder"))
    assert (chosen.mean, chosen.std) == (mean, std)
    arguments = {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8}
    Segmenter("supervised", arguments, replace(DATA, mean=mean), 64, {}).save(tmp_path / "segmenter")
    for flag in ("--network.encoder_weights", "--init"):
        assert choose(DATA, flag, str(tmp_path / "segmenter"))[0].mean == mean


@pytest.mark.parametrize("flags", [[], ["--data.statistics", "data"]])
def test_weights_of_the_same_bands_in_another_order_are_refused(tmp_path: Path, flags: list[str]) -> None:
    build_encoder("test_resnet").write(tmp_path / "encoder", DATA.bands, DATA.mean, DATA.std)
    arguments = {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8}
    Segmenter("supervised", arguments, DATA, 64, {}).save(tmp_path / "segmenter")
    turned, unnamed, infrared = (
        replace(DATA, bands=bands) for bands in (DATA.bands[::-1], ("band1", "band2", "band3"), ("nir", "red", "green"))
    )
    key = "--network.encoder_weights"
    for flag, name in ((key, "encoder"), (key, "segmenter"), ("--init", "segmenter")):
        asked = [flag, str(tmp_path / name), *flags]
        with pytest.raises(RecipeError, match="for the bands red, green, blue and images of blue, green, red"):
            choose(turned, *asked)
        recipe = load_recipe(None, ["--network.encoder", "test_resnet", *asked])
        assert network_spec(recipe, turned, begins=False), "a run that goes on is not stopped"
        assert choose(unnamed, *asked)
        assert choose(infrared, *asked)


def test_a_file_says_its_statistics_beside_it_or_has_those_of_its_architecture(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert weights_statistics("resnet50", tmp_path)[0] == pytest.approx(IMAGENET[0])
    (tmp_path / "config.json").write_text(json.dumps({"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}))
    assert weights_statistics("test_resnet", tmp_path) == ((127.5,) * 3, (63.75,) * 3, False)


@pytest.mark.parametrize("term", ["pseudo", "kd"])
def test_a_student_that_takes_more_than_images_does_not_teach_itself(term: str) -> None:
    recipe = {
        "method": "metasegnet",
        "data": {"unlabelled": "more.parquet"},
        "network": {"encoder": "test_resnet", "encoder_weights": None, "width": 16, "heads": 2},
        "text": {"kind": "none"},
        "losses": {"weights": {term: 0.5}},
        "teacher": {"segmenter": "student"},
    }
    with pytest.raises(RecipeError, match=r"segmenter student with metasegnet, which takes more than images"):
        build_method(load_recipe(recipe), BuildContext(DATA))
