"""MAFLNet's presets, as the guide's table has them; keys that do nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from built import build_maflnet
from geodistill.errors import RecipeError
from geodistill.methods.maflnet.network import MaflNetworkConfig
from geodistill.methods.maflnet.training import MaflLossConfig
from geodistill.spec import Legend, Spec
from geodistill.training.recipe import load_recipe, recipe_dict

GUIDE = Path(__file__).parents[3] / "docs" / "maflnet.md"
PRESETS = ("printed", "released", "coherent")
SPEC = Spec(Legend(("a", "b", "c")), ("r", "g", "b"), (110.0,) * 3, (50.0,) * 3)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return a recipe's values by dotted key."""
    if not isinstance(values, dict):
        return {prefix[:-1]: values}
    return {key: value for name, part in values.items() for key, value in flat(part, f"{prefix}{name}.").items()}


def test_the_guides_table_is_all_that_the_presets_differ_in() -> None:
    recipes = {preset: flat(recipe_dict(load_recipe("mafl-teacher", ["--preset", preset]))) for preset in PRESETS}
    differ = {key for key in recipes["coherent"] if len({str(recipes[preset][key]) for preset in PRESETS}) > 1}
    differ.remove("preset")
    table = {}
    for line in GUIDE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and (key := re.fullmatch(r"`([a-z_.]+)`", cells[4])):
            table[key[1]] = [yaml.safe_load(re.findall(r"`([^`]+)`", cell)[-1]) for cell in cells[1:4]]
    assert set(table) == differ
    for key, values in table.items():
        assert values == [recipes[preset][key] for preset in PRESETS], key


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_teacher_and_student_differ_in_encoder_and_terms_alone(preset: str) -> None:
    teacher, student = (
        flat(recipe_dict(load_recipe(name, ["--preset", preset]))) for name in ("mafl-teacher", "mafl-student")
    )
    differ = {key for key in teacher.keys() | student.keys() if teacher.get(key) != student.get(key)}
    assert {key for key in differ if not key.startswith(("teacher", "losses.weights"))} == {
        "network.encoder",
        "network.trained",
    }


def test_the_printed_losses_are_equations_20_to_23() -> None:
    losses = load_recipe("mafl-teacher", ["--preset", "printed"]).losses
    network = MaflNetworkConfig("test_resnet", None, width=16, aux_head="linear")
    method = build_maflnet(SPEC, network, losses)
    torch.manual_seed(0)
    image, mask = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    batch: Any = {"image": image, "mask": mask, "key": ["a", "b"]}
    output = method.network(image)
    terms = method.objective(output, batch, 0)
    true = output.logits.softmax(1).gather(1, mask[:, None]).detach().double()
    assert terms["ce"].item() == pytest.approx(-true.log().mean().item(), rel=1e-5)
    assert terms["dice"].item() == pytest.approx(1 - (2 * true / (true + 1)).mean().item(), rel=1e-5)
    up = torch.nn.functional.interpolate(output.aux["aux"], size=(64, 64), mode="bilinear")
    auxiliary = up.softmax(1).gather(1, mask[:, None]).log().mean().item()
    assert terms["aux"].item() == pytest.approx(-auxiliary, rel=1e-4)
    assert [method.objective.weight(name, 0) for name in ("ce", "dice", "aux")] == [1.0, 1.0, 1.0]
    assert MaflLossConfig().weights == losses.weights


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--network.maca.enabled", "false", "--network.maca.heads", "4"], r"network\.maca\.enabled is false"),
        (["--network.lhfem.enabled", "false", "--network.lhfem.residual", "false"], r"lhfem\.enabled is false"),
        (["--losses.weights.aux", "0", "--network.aux_head", "conv"], r"losses\.weights\.aux is 0"),
        (["--losses.dist_temperature", "2"], "no dist_inter or dist_intra"),
        (["--losses.weights.kd", "0", "--losses.kd_temperature", "2"], "no kd"),
        (["--network.trained", "none", "--optimizer.encoder_lr", "1e-4"], r"network\.trained is none"),
        (["--network.trained", "none", "--losses.weighting", "gradient_balance"], r"network\.trained is none"),
    ],
)
def test_keys_that_do_nothing_are_refused(flags: list[str], says: str) -> None:
    with pytest.raises(RecipeError, match=f"which does nothing: .*{says}"):
        load_recipe(None, ["--method", "maflnet", *flags])


def test_the_rows_of_the_ablation_are_not_refused() -> None:
    for preset in PRESETS:
        flags = ["--preset", preset, "--network.maca.enabled", "false", "--network.lhfem.enabled", "false"]
        network = load_recipe("mafl-teacher", flags).network
        assert not network.maca.enabled
        assert not network.lhfem.enabled
