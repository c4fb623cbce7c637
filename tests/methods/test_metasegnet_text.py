"""What the text may and may not change: padding nothing, gradients everywhere, one prompt in sight no matching."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from built import build_metasegnet
from geodistill.data.manifest import Row
from geodistill.errors import ArtifactError, DataError, RecipeError
from geodistill.methods.metasegnet.network import MetaSegNetwork, MetaSegNetworkConfig
from geodistill.methods.metasegnet.text_table import TextConfig
from geodistill.methods.metasegnet.training import MetaSegNetLossConfig, MetaSegNetObjective
from geodistill.raster import Window
from geodistill.spec import Legend, Spec

TOKENS, WIDTH = 9, 12
GARBAGE = 1e3
SPEC = Spec(Legend(("background", "building")), ("r", "g", "b"), (90.0,) * 3, (50.0,) * 3)
SMALL = MetaSegNetworkConfig(encoder="test_convnext", encoder_weights=None, width=16, heads=2)


def network(lengths: list[int], seed: int = 0, **choices: bool) -> MetaSegNetwork:
    """A network with prompts of these lengths."""
    torch.manual_seed(seed)
    prompts = [f"p{i}" for i in range(len(lengths))]
    net = MetaSegNetwork(
        3, 2, encoder="test_convnext", prompts=prompts, text_tokens=TOKENS, text_width=WIDTH, width=16, heads=2,
        **choices,
    )  # fmt: skip
    net.set_text([torch.randn(length, WIDTH) for length in lengths])
    return net


def everything(net: MetaSegNetwork, image: Tensor, prompt: Tensor) -> dict[str, Tensor]:
    with torch.inference_mode():
        output = net(image, prompt)
    return {"logits": output.logits} | {name: values[0] for name, values in output.features.items()}


@pytest.mark.slow
@settings(max_examples=12)
@given(
    lengths=st.lists(st.integers(1, TOKENS), min_size=2, max_size=3),
    seed=st.integers(0, 100),
    parts=st.sampled_from([(True, True), (True, False), (False, True)]),
)
def test_what_stands_in_the_padding_changes_nothing(lengths: list[int], seed: int, parts: tuple[bool, bool]) -> None:
    net = network(lengths, seed, align=parts[0], fuse=parts[1]).eval()
    image, prompt = torch.randn(len(lengths), 3, 32, 32), torch.arange(len(lengths))
    clean = everything(net, image, prompt)
    noise = GARBAGE * torch.randn(net.text.shape)
    net.text = torch.where(net.present[..., None], net.text, noise.half())
    for name, value in everything(net, image, prompt).items():
        torch.testing.assert_close(value, clean[name], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=12)
@given(length=st.integers(1, TOKENS), extra=st.integers(0, TOKENS), seed=st.integers(0, 100))
def test_how_much_padding_there_is_changes_nothing(length: int, extra: int, seed: int) -> None:
    net = network([length], seed, auxiliary=False).eval()
    image, text = torch.randn(1, 3, 32, 32), torch.randn(1, length, WIDTH)
    extra = min(extra, TOKENS - length)
    padding = GARBAGE * torch.randn(1, extra, WIDTH)
    present = torch.arange(length + extra)[None] < length
    with torch.inference_mode():
        alone = net.segment(image, text, present[:, :length])
        padded = net.segment(image, torch.cat([text, padding], 1), present)
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompt", [[0, 1], [0, 0]])
@pytest.mark.parametrize(("align", "fuse"), [(True, True), (True, False), (False, True), (False, False)])
def test_every_parameter_has_a_gradient_as_ddp_asks(align: bool, fuse: bool, prompt: list[int]) -> None:
    net = network([3, 5], align=align, fuse=fuse).train()
    output = net(torch.randn(2, 3, 32, 32), torch.tensor(prompt))
    mask = torch.zeros(2, 32, 32, dtype=torch.long)
    terms = MetaSegNetObjective(MetaSegNetLossConfig())(output, {"mask": mask}, 0)  # type: ignore[typeddict-item]
    torch.stack(list(terms.values())).sum().backward()
    assert [name for name, parameter in net.named_parameters() if parameter.grad is None] == []
    if prompt == [0, 0] or not align:
        assert terms["itm"].item() == 0.0


@pytest.mark.parametrize("channels", [1, 4, 13])
def test_images_of_any_bands(channels: int) -> None:
    net = MetaSegNetwork(
        channels, 2, encoder="test_convnext", text_tokens=TOKENS, text_width=WIDTH, width=16, heads=2, auxiliary=False
    ).eval()
    net.set_text([torch.randn(4, WIDTH)])
    assert net(torch.randn(1, channels, 45, 38), torch.tensor([0])).logits.shape == (1, 2, 45, 38)


def test_a_text_encoder_of_another_width_is_refused(tmp_path: Path) -> None:
    """Features stored for one encoder are not another's, and a table is filled by the encoder it was made for."""
    rows = [Row(Path("kampala.tif"), None, "train", Window(0, 0, 64, 64), lon=32.6, lat=0.35)]
    narrow, wide = (TextConfig(encoder=f"words:{width}", store=str(tmp_path)) for width in (8, 16))
    one = build_metasegnet(SPEC, SMALL, narrow, MetaSegNetLossConfig(), rows)
    other = build_metasegnet(SPEC, SMALL, wide, MetaSegNetLossConfig(), rows)
    assert (one.arguments["text_width"], other.arguments["text_width"]) == (8, 16)
    table = other.network.text[0][other.network.present[0]].float()  # type: ignore[index, union-attr]
    with pytest.raises(ArtifactError, match=r"x 8; use the text encoder that the network was built for"):
        one.network.set_text([table])  # type: ignore[operator, union-attr]


def test_answers_without_climate_must_be_there_too(tmp_path: Path) -> None:
    missing = TextConfig(encoder="words", kind="no-climate", answers=str(tmp_path / "p.json"), llm_model="m")
    with pytest.raises(DataError, match="for prompts without climate"):
        build_metasegnet(SPEC, SMALL, missing, MetaSegNetLossConfig())
    build_metasegnet(SPEC, SMALL, replace(missing, kind="none"), MetaSegNetLossConfig())  # nothing is asked for these
    with pytest.raises(RecipeError, match="llm_model"):
        build_metasegnet(SPEC, SMALL, replace(missing, llm_model=None), MetaSegNetLossConfig())


def test_a_prompt_that_is_too_long_is_refused_and_not_cut() -> None:
    many = Spec(Legend(tuple(f"class {i}" for i in range(200))), ("r", "g", "b"), (90.0,) * 3, (50.0,) * 3)
    with pytest.raises(DataError, match=r"a prompt of \d+ tokens for 200 classes .*at most 250"):
        build_metasegnet(many, SMALL, TextConfig(encoder="words"), MetaSegNetLossConfig())
