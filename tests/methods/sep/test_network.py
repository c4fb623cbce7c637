"""The SEP network: SAMRS's shapes and sizes, heads of several sets, and what a set's part of a batch changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from built import build_sep
from geodistill.errors import ArtifactError, RecipeError, UnknownNameError
from geodistill.methods.sep.network import SepNetwork, SepNetworkConfig, SepOutput
from geodistill.methods.sep.training import SepLossConfig
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX, Legend, Spec

ARCHITECTURES = ("unet", "upernet", "mask2former")
SETS = {"town": 2, "port": 4}


def spec(*names: str) -> Spec:
    return Spec(Legend(names), ("r", "g", "b"))


TOWN, PORT = spec("land", "house"), spec("water", "ship", "quay", "crane")
BOTH = spec(*(f"town:{n}" for n in TOWN.legend.names), *(f"port:{n}" for n in PORT.legend.names))


def network(architecture: str, sets: dict[str, int] | None = None, **arguments: Any) -> SepNetwork:
    torch.manual_seed(0)
    classes = sum(sets.values()) if sets else 3
    small = {"encoder": "test_resnet", "decoder_channels": 64} | arguments
    return SepNetwork(3, classes, architecture=architecture, sets=sets, **small)


@pytest.mark.parametrize(
    ("architecture", "classes", "parameters"),
    [
        # Encoder 23,508,032; skips 1024, 512, 256, none; widths 512, 256, 128, 64; a 3x3 classifier.
        ("unet", 6, 23_508_032 + 20_315_904 + 64 * 6 * 9 + 6),
        # Published as 44 M with ResNet-50.
        ("mask2former", 2, 44_003_331),
    ],
)
def test_sizes_are_the_published_ones(architecture: str, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        made = SepNetwork(3, classes, architecture=architecture, encoder="resnet50")
    assert sum(p.numel() for p in made.parameters()) == parameters


def test_upernet_is_as_wide_as_the_encoders_second_map() -> None:
    with torch.device("meta"):
        assert SepNetwork(3, 2, architecture="upernet", encoder="resnet50").decoder.width == 512
        assert SepNetwork(3, 2, architecture="upernet", encoder="swin_tiny_patch4_window7_224").decoder.width == 192


@pytest.mark.parametrize("architecture", ["unet", "upernet"])
def test_logits_are_not_cut_off_at_zero(architecture: str) -> None:
    logits = network(architecture).train()(torch.randn(2, 3, 64, 64)).logits
    assert logits.min() < 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_set_has_its_own_classes_and_the_rest_is_shared(architecture: str) -> None:
    made = network(architecture, SETS).train()
    output = made(torch.randn(5, 3, 64, 64), torch.tensor([0, 0, 1, 1, 1]))
    assert isinstance(output, SepOutput)
    assert {name: tuple(logits.shape[:2]) for name, logits in output.by_set.items()} == {"town": (2, 2), "port": (3, 4)}
    assert output.logits is output.by_set["town"]
    assert sum(".classifier.weight" in key or ".classes.weight" in key for key in made.state_dict()) == 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sets_loss_reaches_its_own_head_and_all_that_is_shared(architecture: str) -> None:
    made = network(architecture, SETS).train()
    output = made(torch.randn(4, 3, 64, 64), torch.tensor([0, 0, 1, 1]))
    output.by_set["port"].square().mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in made.heads[0].parameters())
    assert all(p.grad is not None and p.grad.any() for p in made.heads[1].parameters())
    assert any(p.grad is not None and p.grad.any() for p in made.encoder.parameters())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_of_one_cell_at_the_deepest_stride_does(architecture: str) -> None:
    with torch.no_grad():
        assert network(architecture).eval()(torch.randn(1, 3, 20, 30)).logits.shape == (1, 3, 20, 30)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_a_set_the_classes_of_all_stand_side_by_side(architecture: str) -> None:
    made = network(architecture, SETS).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        every = made(image).logits
        own = [made(image, torch.tensor([position])).logits.log_softmax(1) for position in range(2)]
    assert every.shape == (1, 6, 64, 64)
    torch.testing.assert_close(every, torch.cat(own, 1))


@pytest.mark.parametrize("together", [True, False])
def test_batch_norm_sees_the_whole_batch_or_a_set_at_a_time(together: bool) -> None:
    made = network("unet", SETS, pass_per_set=not together).train()
    images = torch.randn(4, 3, 64, 64)
    images[2:] += 3
    whole = made(images, torch.tensor([0, 0, 1, 1])).by_set["port"]
    alone = made(images[2:], torch.tensor([1, 1])).by_set["port"]
    assert torch.allclose(whole, alone, atol=1e-4) is not together


def test_sets_that_take_turns_in_a_batch_are_refused() -> None:
    with pytest.raises(RecipeError, match="take turns"):
        network("unet", SETS)(torch.randn(3, 3, 64, 64), torch.tensor([0, 1, 0]))


def test_encoders_and_widths_that_do_not_do_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"unet on .*output_stride=8.* with strides"):
        network("unet", encoder="resnet18(output_stride=8)")
    for width in (32, 80):
        with pytest.raises(RecipeError, match="a multiple of 32 from 64"):
            network("mask2former", decoder_channels=width)
    with pytest.raises(UnknownNameError, match="upernet"):
        network("upernett")
    with pytest.raises(ArtifactError, match="classes that add up"):
        SepNetwork(3, 5, encoder="test_resnet", sets=SETS)
    with pytest.raises(UnknownNameError, match="dice"):
        build_sep(TOWN, SepNetworkConfig(encoder="test_resnet"), SepLossConfig(weights={"dise": 1.0}))


def steps(architecture: str, count: int) -> list[dict[str, float]]:
    torch.manual_seed(0)
    config = SepNetworkConfig(architecture, "test_resnet", decoder_channels=64)  # type: ignore[arg-type]
    method = build_sep(BOTH, config, SepLossConfig(), {"town": TOWN, "port": PORT})
    image = 2 * torch.randn(4, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    mask = (image[:, 0] > 0).long()
    mask[2:] += 2 * (image[2:, 1] > 0)
    mask[:, :4] = IGNORE_INDEX
    batch: Any = {"image": image, "mask": mask, "set": torch.tensor([0, 0, 1, 1])}
    optimiser = torch.optim.AdamW(method.network.parameters(), 2e-3)
    found = []
    for step in range(count):
        terms = method.objective(method.network(image, **method.context(batch)), batch, step)
        found.append({name: term.item() for name, term in terms.items()})
        assert set(terms) == set(method.objective.weights)
        optimiser.zero_grad()
        total: Tensor = sum(
            (method.objective.weight(name, step) * term for name, term in terms.items()), torch.zeros(())
        )
        total.backward()
        optimiser.step()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["unet", "upernet"])
def test_the_loss_of_every_set_falls(architecture: str) -> None:
    losses = steps(architecture, 12)
    assert set(losses[0]) == {"town.ce", "port.ce"}
    assert all(losses[-1][name] < 0.85 * losses[0][name] for name in losses[0])


@pytest.mark.slow
def test_mask2formers_losses_fall() -> None:
    losses = steps("mask2former", 5)
    assert set(losses[0]) == {f"{name}.{term}" for name in SETS for term in ("class", "mask", "dice")}
    assert all(losses[-1][f"{name}.class"] < 0.95 * losses[0][f"{name}.class"] for name in SETS)


def test_a_part_without_a_labelled_pixel_adds_nothing_and_keeps_its_graph() -> None:
    method = build_sep(
        BOTH,
        SepNetworkConfig(encoder="test_resnet", decoder_channels=32),
        SepLossConfig(),
        {"town": TOWN, "port": PORT},
    )
    mask = torch.zeros(4, 32, 32, dtype=torch.int64)
    mask[2:] = IGNORE_INDEX
    batch: Any = {"image": torch.randn(4, 3, 32, 32), "mask": mask, "set": torch.tensor([0, 0, 1, 1])}
    terms = method.objective(method.network(batch["image"], **method.context(batch)), batch, 0)
    assert terms["port.ce"].item() == 0
    terms["port.ce"].backward()
    assert all(p.grad is not None for p in method.network.heads[1].parameters())  # type: ignore[index, union-attr]
    assert terms["town.ce"].item() > 0


def test_all_heads_and_one_head_are_segmenters() -> None:
    method = build_sep(
        BOTH,
        SepNetworkConfig(encoder="test_resnet", decoder_channels=32),
        SepLossConfig(),
        {"town": TOWN, "port": PORT},
    )
    whole = Segmenter.from_network("sep", method.arguments, BOTH, method.network.state_dict(), 32, {})
    assert whole(torch.randn(1, 3, 40, 40)).shape == (1, 6, 40, 40)
