"""LoRA and several heads in whole runs: what is left in the Segmenter is an ordinary network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from geodistill.errors import RecipeError
from geodistill.methods.method import BuildContext
from geodistill.methods.schema import OptimizerConfig
from geodistill.methods.supervised.head_rates import HeadChoice, Heads, keep_chosen
from geodistill.methods.task import parameter_groups
from geodistill.nn.output import SegmentationOutput
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method
from geodistill.training.find_rate import find_rate
from geodistill.training.fit import fit, open_data
from geodistill.training.recipe import load_recipe


def keys(town: Path, **network: Any) -> dict[str, Any]:
    return {
        "method": "supervised",
        "data": {"manifest": str(town), "crop": 32, "batch_size": 2, "workers": 0},
        "network": {"architecture": "fcn", "encoder": "test_vit", "decoder_channels": 8} | network,
        "optimizer": {"lr": 0.01},
        "trainer": {"max_steps": 4, "val_every_steps": 2, "save_every_steps": 2, "pictures": 0, "accelerator": "cpu"},
    }


@pytest.mark.slow
def test_a_run_with_lora_leaves_an_ordinary_encoder_with_the_updates_in_it(town: Path, tmp_path: Path) -> None:
    from geodistill.nn.lora import merge_lora

    fit(load_recipe(keys(town, lora=2)), tmp_path / "run")
    network = Segmenter.load(tmp_path / "run").network.network
    kept = network.encoder.state_dict()
    assert not any("lora" in name or "base_layer" in name for name in kept)
    (best,) = (tmp_path / "run/checkpoints").glob("best-*.ckpt")
    saved = torch.load(best, weights_only=True)["state_dict"]
    prefix = "network.network.encoder."
    state = {name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)}
    ups = [value for name, value in state.items() if ".lora_B." in name]
    assert ups
    assert all(value.abs().sum() > 0 for value in ups)
    for name, value in merge_lora(state, 2.0).items():
        torch.testing.assert_close(kept[name], value)
    further = load_recipe(keys(town, lora=2, encoder_weights=str(tmp_path / "run")))
    with pytest.raises(RecipeError, match=r"network\.lora with init; .*encoder_weights; .* decoder begins anew"):
        build_method(replace(further, init=str(tmp_path / "run")), BuildContext(open_data(further).spec))
    adapted = build_method(further, BuildContext(open_data(further).spec))
    assert adapted.complete is not None
    taken = adapted.complete(adapted.network.state_dict())
    assert all(torch.equal(taken[f"encoder.{name}"], value) for name, value in kept.items())


@pytest.mark.slow
def test_heads_learn_at_their_own_rates_and_the_best_on_validation_is_kept(
    town: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # At a rate of next to nothing a head stays as random as it began.
    recipe = load_recipe(keys(town, encoder="test_resnet", frozen_encoder=True, head_rates=[1e-9, 1.0]))
    fit(recipe, tmp_path / "run")
    shown = capsys.readouterr().err
    assert "2 decoders at 1e-09, 1 times the rate" in shown
    (best,) = (tmp_path / "run/checkpoints").glob("best-*.ckpt")
    saved = torch.load(best, weights_only=True)["state_dict"]
    chosen = int(saved["network.network.decoder.chosen"])
    assert f"kept the decoder at {(1e-9, 1.0)[chosen]:g} times the rate" in shown
    decoder = Segmenter.load(tmp_path / "run").network.network.decoder
    for name, value in decoder.state_dict().items():
        assert torch.equal(value, saved[f"network.network.decoder.heads.{chosen}.{name}"])
    other = saved["network.network.decoder.heads.1.head.classifier.weight"]
    assert not torch.allclose(saved["network.network.decoder.heads.0.head.classifier.weight"], other, atol=1e-4)


class ConstantDecoder(nn.Module):
    """Says one class everywhere."""

    def __init__(self, says: int) -> None:
        super().__init__()
        self.says = says

    def forward(self, maps: list[torch.Tensor], size: tuple[int, ...]) -> torch.Tensor:
        return torch.eye(3)[self.says][None, :, None, None].expand(len(maps[0]), 3, *size)


class ConstantTask(nn.Module):
    """Looks at images through heads that say a class each."""

    spec, device = Spec(Legend(("a", "b", "c")), ("r", "g", "b")), torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.heads = Heads(ConstantDecoder(0), [1.0, 1.0, 1.0])
        for says, head in enumerate(self.heads.heads):
            head.says = says  # type: ignore[assignment]

    def forward(self, batch: dict[str, torch.Tensor]) -> SegmentationOutput:
        return SegmentationOutput(self.heads([batch["image"]], batch["image"].shape[-2:]))


@pytest.mark.parametrize("truth", [0, 1, 2])
def test_the_head_that_is_right_on_the_validation_images_is_chosen(truth: int) -> None:
    task = ConstantTask().eval()
    batch = {"image": torch.zeros(2, 3, 4, 4), "mask": torch.full((2, 4, 4), truth)}
    strategy = SimpleNamespace(reduce=lambda scores, reduce_op: scores)
    trainer: Any = SimpleNamespace(val_dataloaders=[batch], strategy=strategy)
    HeadChoice(task.heads).on_validation_start(trainer, task)  # type: ignore[arg-type]
    assert int(task.heads.chosen) == truth
    assert not task.heads.training
    assert (task(batch).logits.argmax(1) == truth).all()


def test_in_training_all_heads_answer_and_each_gets_its_own_gradient() -> None:
    spec = Spec(Legend(("a", "b")), ("r", "g", "b"))
    settings = {"architecture": "fcn", "encoder": "test_resnet", "decoder_channels": 8, "frozen_encoder": True}
    recipe = load_recipe({"method": "supervised", "network": settings | {"head_rates": [0.1, 1.0, 10.0]}})
    method = build_method(recipe, BuildContext(spec))
    torch.manual_seed(0)
    image, mask = torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
    network: Any = method.network
    output = network.train()(image)
    assert output.logits.shape == (2, 6, 32, 32)
    terms = method.objective(output, {"mask": mask}, 0)  # type: ignore[typeddict-item]
    each = [torch.nn.functional.cross_entropy(part, mask) for part in output.logits.chunk(3, 1)]
    torch.testing.assert_close(terms["ce"], sum(each, torch.zeros(())))
    groups = parameter_groups(network, network.encoder, OptimizerConfig(lr=0.01))
    assert sorted({group["lr"] for group in groups}) == pytest.approx([0.001, 0.01, 0.1])
    assert isinstance(network.decoder, Heads)
    network.decoder.chosen.fill_(2)
    answer = network.eval()(image).logits
    plain = build_method(load_recipe({"method": "supervised", "network": settings}), BuildContext(spec)).network
    plain.load_state_dict(keep_chosen(network.state_dict(), (0.1, 1.0, 10.0)))
    torch.testing.assert_close(plain.eval()(image).logits, answer)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        ({"lora": 0}, "network.lora 0"),
        ({"lora": 2, "frozen_encoder": True}, "no network.frozen_encoder"),
        ({"head_rates": [1.0]}, "with network.frozen_encoder"),
        ({"head_rates": [0.0, 1.0], "frozen_encoder": True}, "above 0"),
    ],
)
def test_what_does_not_go_together_is_refused(town: Path, network: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(keys(town, **network))


def test_several_heads_do_not_go_with_a_teacher(town: Path) -> None:
    taught = {"losses": {"weights": {"kd": 1.0}}, "teacher": {"segmenter": "none"}}
    recipe = load_recipe(keys(town, encoder="test_resnet", frozen_encoder=True, head_rates=[0.1, 1.0]) | taught)
    with pytest.raises(RecipeError, match=r"loss term kd beside network\.head_rates"):
        build_method(recipe, BuildContext(Spec(Legend(("a", "b")), ("r", "g", "b"))))


def test_a_batch_size_is_not_tried_for_several_sets_or_data_that_were_given(town: Path, tmp_path: Path) -> None:
    recipe = load_recipe(keys(town))
    auto = replace(recipe, data=replace(recipe.data, batch_size="auto"))
    data = open_data(recipe)
    data.config = auto.data
    with pytest.raises(RecipeError, match="batch_size auto with datasets of tensors"):
        fit(recipe, tmp_path / "run", data=data)
    sets = [str(town), str(town)]
    several = load_recipe({"method": "sep", "data": {"manifests": sets, "batch_size": "auto"}})
    with pytest.raises(RecipeError, match="batch_size auto with several data sets"):
        fit(several, tmp_path / "run")
    with pytest.raises(RecipeError, match=r"--find-rate with data\.batch_size auto"):
        find_rate(auto, tmp_path / "rates.png")
    assert not list(tmp_path.iterdir())
