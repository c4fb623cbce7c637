from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from built import build_metasegnet
from geodistill.data.manifest import Row
from geodistill.errors import ArtifactError, DataError, GeodistillWarning, RecipeError, UnknownNameError
from geodistill.methods.metasegnet.matching import MatchingQueue, contrast, own_pair, same_prompt
from geodistill.methods.metasegnet.network import (
    ANY,
    Alignment,
    CrossmodalAttention,
    MetaSegNetwork,
    MetaSegNetworkConfig,
    TextFusion,
    mean_of_tokens,
    other_prompt,
)
from geodistill.methods.metasegnet.text_table import TextConfig, place_of, prompt_keys, prompt_row
from geodistill.methods.metasegnet.training import MetaSegNetLossConfig, MetaSegNetObjective
from geodistill.nn.losses import soft_dice
from geodistill.nn.output import SegmentationOutput
from geodistill.raster import Window
from geodistill.spec import IGNORE_INDEX, Legend, Spec
from geodistill.text.climate import ZONES

SPEC = Spec(Legend(("background", "building"), ((0, 0, 0), (255, 0, 0))), ("r", "g", "b"), (90.0,) * 3, (50.0,) * 3)
SMALL = MetaSegNetworkConfig(encoder="test_convnext", encoder_weights=None, width=16, heads=2)
WORDS = TextConfig(encoder="words")


def network(prompts: tuple[str, ...] = ("Af", "Cfb"), **choices: bool) -> MetaSegNetwork:
    torch.manual_seed(0)
    made = MetaSegNetwork(
        3, 2, encoder="test_convnext", prompts=prompts, text_tokens=9, text_width=12, width=16, heads=2, **choices
    )
    made.set_text([torch.randn(3 + 2 * i, 12) for i in range(len(prompts))])
    return made


def row(name: str, lon: float | None = 32.6, lat: float | None = 0.35, date: str | None = None) -> Row:
    return Row(Path(name), None, "train", Window(0, 0, 64, 64), lon=lon, lat=lat, date=date)


@pytest.mark.parametrize("size", [(64, 64), (50, 71)])
def test_forward_gives_logits_of_the_image_and_what_matching_compares(size: tuple[int, int]) -> None:
    output = network()(torch.randn(3, 3, *size), torch.tensor([0, 1, 0]))
    assert output.logits.shape == (3, 2, *size)
    for name in ("image_embedding", "text_embedding"):
        assert torch.allclose(output.features[name][0].norm(dim=1), torch.ones(3), atol=1e-5)
    assert output.features["match"][0].shape == output.features["mismatch"][0].shape == (3, 2)


def test_the_prompt_changes_the_map_and_padding_does_not() -> None:
    net = network().eval()
    image = torch.randn(1, 3, 64, 64)
    alone = net(image, torch.tensor([0])).logits
    assert not torch.allclose(alone, net(image, torch.tensor([1])).logits, atol=1e-4)
    # Beside a longer prompt, the shorter is padded; masked padding must change nothing.
    beside = net(image.repeat(2, 1, 1, 1), torch.tensor([0, 1])).logits[:1]
    assert torch.allclose(alone, beside, atol=1e-5)


def test_without_alignment_and_fusion_the_text_plays_no_part() -> None:
    net = network(align=False, fuse=False).eval()
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(net(image, torch.tensor([0])).logits, net(image, torch.tensor([1])).logits)
    for choices in ({"align": False}, {"fuse": False}):
        net = network(**choices).eval()
        assert not torch.equal(net(image, torch.tensor([0])).logits, net(image, torch.tensor([1])).logits)


def test_export_form_takes_text_features_as_an_input() -> None:
    net = network(auxiliary=False).eval()
    image = torch.randn(1, 3, 64, 64)
    text, present = net.text[1:2].float(), net.present[1:2]
    assert torch.allclose(net.segment(image, text, present), net(image, torch.tensor([1])).logits, atol=1e-5)


def test_the_inference_form_is_a_part_of_the_training_form() -> None:
    training, inference = network().state_dict(), network(auxiliary=False).state_dict()
    assert set(inference) < set(training)
    assert {key.split(".")[0] for key in set(training) - set(inference)} == {"matching"}


def test_crossmodal_attention_is_equations_4_and_5() -> None:
    torch.manual_seed(0)
    block = CrossmodalAttention(8, 1)
    tokens, other = torch.randn(1, 4, 8), torch.randn(1, 6, 8)
    present = torch.tensor([[True, True, True, True, False, False]])
    seen = block.other_norm(other[:, :4])
    scores = block.query(block.query_norm(tokens)) @ block.keys(seen).transpose(1, 2) / 8**0.5
    first = tokens + block.proj(scores.softmax(-1) @ block.values(seen))
    expected = first + block.mlp(block.norm(first))
    assert torch.allclose(block(tokens, other, present), expected, atol=1e-6)


def test_alignment_reads_the_updated_image_and_any_grid() -> None:
    torch.manual_seed(0)
    alignment = Alignment(8, 2, 5)
    text, present = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    for size in ((3, 4), (20, 17)):
        image, words = alignment(torch.randn(2, 8, *size), text, present)
        assert image.shape == (2, 8, *size)
        assert words.shape == (2, 5, 8)


def test_fusion_weighs_channels_by_the_mean_of_present_tokens() -> None:
    fusion = TextFusion(4)
    nn.init.eye_(fusion.prior.weight)
    nn.init.zeros_(fusion.prior.bias)
    text = torch.tensor([[[1.0, 2, 3, 4], [3, 4, 5, 6], [99, 99, 99, 99]]])
    present = torch.tensor([[True, True, False]])
    assert mean_of_tokens(text, present).tolist() == [[2.0, 3, 4, 5]]
    fused = fusion(torch.ones(1, 4, 2, 2), text, present)
    assert fused[0, :, 0, 0].tolist() == [3.0, 4, 5, 6]


@pytest.mark.slow
def test_parameters_of_the_papers_size() -> None:
    with torch.device("meta"):
        net = MetaSegNetwork(3, 9, prompts=tuple(ZONES))
    count = sum(parameter.numel() for parameter in net.parameters())
    assert sum(parameter.numel() for parameter in net.encoder.parameters()) == 86_745_016
    # With a frozen BERT-base of 109,482,240 that is 204.5 M; the paper's 399.7 M counts momentum copies.
    assert round((count + 109_482_240) / 1e6, 1) == 204.5


def test_text_that_does_not_fit_the_table_is_refused() -> None:
    with pytest.raises(ArtifactError, match="at most 9 x 12"):
        network().set_text([torch.zeros(3, 13)])
    with pytest.raises(ArtifactError, match="at most 9 x 12"):
        network().set_text([torch.zeros(10, 12)])
    with pytest.raises(RecipeError, match="hierarchical"):
        MetaSegNetwork(3, 2, encoder="test_vit")


def test_another_prompt_is_found_where_there_is_one() -> None:
    assert other_prompt(torch.tensor([0, 0, 1])).tolist() == [2, 2, 0]
    assert other_prompt(torch.tensor([5, 5])).tolist() == [0, 1]


# Losses -------------------------------------------------------------------------------------------------------------


def test_contrast_takes_every_entry_of_the_same_prompt_as_positive() -> None:
    embedding = torch.eye(3)
    prompt = torch.tensor([0, 0, 1])
    value = contrast(embedding, embedding, same_prompt(prompt, prompt), torch.tensor(0.5))
    logits = embedding @ embedding.T / 0.5
    target = torch.tensor([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    assert torch.allclose(value, -(target * logits.log_softmax(1)).sum(1).mean())
    others = torch.tensor([0, 0, 1, 0])
    assert own_pair(prompt, others).tolist() == [[True, False, False, False], [False, True, False, False],
                                                 [False, False, True, False]]  # fmt: skip


def terms(prompts: list[list[int]], weights: dict[str, float] | None = None, **choices: str) -> list[Tensor]:
    """Image-text matching over some batches."""
    net = network()
    objective = MetaSegNetObjective(MetaSegNetLossConfig(weights=weights or {}, **choices))  # type: ignore[arg-type]
    found = []
    for step, batch in enumerate(prompts):
        output = net(torch.randn(len(batch), 3, 64, 64), torch.tensor(batch))
        mask = torch.zeros(len(batch), 64, 64, dtype=torch.long)
        found.append(objective(output, {"mask": mask}, step)["itm"])  # type: ignore[typeddict-item]
    return found


def test_matching_is_exactly_0_with_one_prompt_in_sight_and_not_with_two() -> None:
    one, same, two, after = terms([[0, 0], [0, 0], [0, 1], [0, 0]])
    assert float(one) == float(same) == 0.0
    assert float(two) > 0
    assert float(after) > 0  # the queue still holds the other prompt
    one.backward()  # a graph is there all the same, as DDP asks


def test_contrast_is_summed_as_printed_or_the_mean() -> None:
    torch.manual_seed(3)
    (summed,) = terms([[0, 1]])
    torch.manual_seed(3)
    (mean,) = terms([[0, 1]], contrast="mean")
    match = 2 * mean.detach() - summed.detach()  # sum = c + m, mean = c / 2 + m
    assert float(match) > 0
    assert float(summed.detach()) > float(mean.detach())


def test_as_printed_equal_texts_are_each_others_negatives() -> None:
    (one,) = terms([[0, 0]], positives="pair")
    assert float(one.detach()) > 1  # a batch of one text has nothing to tell apart, and the term is not 0
    with pytest.raises(UnknownNameError, match="positives"):
        terms([[0]], positives="pairs")


@pytest.mark.slow
def test_one_prompt_for_a_whole_queue_is_told_once() -> None:
    with pytest.warns(GeodistillWarning, match="same prompt") as caught:
        terms([[0, 0]] * 20)
    assert len(caught) == 1
    terms([[0, 0]] * 20, {"itm": 0.0})  # switched off: nothing to tell


def test_slots_not_filled_take_no_part_and_the_oldest_go_first() -> None:
    queue = MatchingQueue(3)
    assert [len(part) for part in queue.filled()] == [0, 0, 0]
    rows = torch.arange(4.0)[:, None].repeat(1, queue.image.shape[1])
    queue.add(rows, rows, torch.tensor([7, 8, 9, 10]))
    assert sorted(queue.filled()[2].tolist()) == [8, 9, 10]
    other = MatchingQueue(3)
    other.load_state_dict(queue.state_dict())
    other.add(rows[:1], rows[:1], torch.tensor([11]))
    assert sorted(other.filled()[2].tolist()) == [9, 10, 11]


def test_dice_by_hand_and_ignored_pixels() -> None:
    logits = torch.full((1, 2, 1, 4), -50.0)
    mask = torch.tensor([[[0, 0, 1, IGNORE_INDEX]]])
    logits[0, 0, 0, :2] = logits[0, 1, 0, 2] = logits[0, 1, 0, 3] = 50.0
    assert float(soft_dice(logits, mask)) == pytest.approx(0.0, abs=1e-6)
    logits[0, :, 0, 2] = logits[0, :, 0, 2].flip(0)  # the one labelled pixel of class 1 is missed
    first, second = 1 - (4 + 0.05) / (5 + 0.05), 1 - 0.05 / (1 + 0.05)
    assert float(soft_dice(logits, mask)) == pytest.approx((first + second) / 2, abs=1e-5)
    assert float(soft_dice(logits, torch.full_like(mask, IGNORE_INDEX))) == 0.0


def test_unknown_terms_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="itm"):
        MetaSegNetObjective(MetaSegNetLossConfig(weights={"imt": 1.0}))
    with pytest.raises(RecipeError, match=r"smoothing 1\.5"):
        MetaSegNetObjective(MetaSegNetLossConfig(smoothing=1.5))
    for width, heads in ((16, 5), (16, 0), (0, 4)):
        with pytest.raises(RecipeError, match=f"width {width}, heads {heads}"):
            MetaSegNetwork(3, 2, encoder="test_resnet", width=width, heads=heads)


def test_dice_as_printed_is_of_single_pixels() -> None:
    objective = MetaSegNetObjective(MetaSegNetLossConfig(dice="pixel", smoothing=0.0))
    logits, mask = torch.tensor([[[[0.0, 0.0]], [[1.0, 1.0]]]]), torch.tensor([[[1, IGNORE_INDEX]]])
    chance = float(torch.tensor(1.0).sigmoid())
    found = objective(SegmentationOutput(logits), {"mask": mask}, 0)["dice"]  # type: ignore[typeddict-item]
    assert float(found) == pytest.approx(1 - 2 * chance / (1 + chance))


# Prompts of images ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_each_image_takes_the_prompt_of_its_place() -> None:
    rows = [row("kampala.tif"), row("dubai.tif", 55.2, 25.1)]
    method = build_metasegnet(SPEC, SMALL, WORDS, MetaSegNetLossConfig(), rows)
    assert method.arguments["prompts"] == list(ZONES)
    batch = {"source": [rows[1].key, rows[0].key, rows[1].key]}
    chosen = method.context(batch)["prompt"].tolist()  # type: ignore[arg-type]
    assert [method.arguments["prompts"][index] for index in chosen] == ["BWh", "Af", "BWh"]
    there = method.network.present.any(1)  # type: ignore[operator, union-attr]
    assert [key for key, full in zip(ZONES, there.tolist(), strict=True) if full] == ["Af", "BWh"]  # type: ignore[arg-type]
    finished = method.complete(method.network.state_dict())
    assert bool(finished["present"].any(1).all())
    assert torch.equal(finished["text"][there], method.network.text[there])  # type: ignore[index]


def test_seasons_zones_and_regions() -> None:
    seasonal = replace(WORDS, seasons=True)
    keys = prompt_keys(seasonal)
    winter = place_of(row("a.tif", 13.06, 52.4, "2019-01-05"), seasonal)
    assert keys[prompt_row(keys, *winter)] == "Cfb/winter"
    tropics = place_of(row("a.tif", date="2019-01-05"), seasonal)
    assert keys[prompt_row(keys, *tropics)] == "Af"
    assert place_of(row("x/aachen_11.tif", None, None), replace(WORDS, region="file")) == ("Cfb", None)
    assert place_of(row("x.png", None, None), replace(WORDS, zone="bwh")) == ("BWh", None)
    with pytest.raises(RecipeError, match="one of them"):
        place_of(row("x.png"), replace(WORDS, zone="Cfb", region="potsdam"))


def test_without_text_the_network_is_the_vision_only_baseline() -> None:
    none = build_metasegnet(SPEC, SMALL, TextConfig(kind="none"), MetaSegNetLossConfig(), [row("x.png", None, None)])
    bare = build_metasegnet(SPEC, replace(SMALL, align=False, fuse=False), WORDS, MetaSegNetLossConfig())
    assert none.arguments == bare.arguments  # and no text encoder was opened
    assert {key: part.shape for key, part in none.network.state_dict().items()} == {
        key: part.shape for key, part in bare.network.state_dict().items()
    }


def test_a_zone_without_images_whose_prompt_is_too_long_is_left_out() -> None:
    long = replace(WORDS, tokens=28)
    with pytest.warns(GeodistillWarning, match="no prompt for"):
        method = build_metasegnet(SPEC, SMALL, long, MetaSegNetLossConfig(), [row("kampala.tif")])
    held = method.arguments["prompts"]
    assert "Af" in held
    assert 1 < len(held) < len(ZONES)
    left_out = next(zone for zone in ZONES if zone not in held)
    with pytest.raises(DataError, match=f"zone {left_out}, for which the model has no prompt"):
        prompt_row(held, left_out)
    assert bool(method.complete(method.network.state_dict())["present"].any(1).all())
    with pytest.raises(DataError, match="at most 5"):
        build_metasegnet(SPEC, SMALL, replace(WORDS, tokens=5), MetaSegNetLossConfig(), [row("kampala.tif")])


def test_an_image_from_nowhere_needs_a_zone_only_where_prompts_differ(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    nowhere = [row(str(tmp_path / "x.png"), None, None)]
    with pytest.raises(DataError, match=r"x\.png does not say where it lies"):
        build_metasegnet(SPEC, SMALL, WORDS, MetaSegNetLossConfig(), nowhere)
    without = replace(SMALL, align=False, fuse=False)
    for small, words in ((SMALL, replace(WORDS, kind="plain")), (without, WORDS)):
        assert build_metasegnet(SPEC, small, words, MetaSegNetLossConfig(), nowhere).arguments["prompts"] == [ANY]
    with pytest.raises(DataError, match="--zone CODE"):
        prompt_row(prompt_keys(WORDS), None)


def test_a_language_models_answers_are_used_and_must_be_there(tmp_path: Path) -> None:
    from geodistill.text.llm import Answers
    from geodistill.text.templates import Setting, question

    path = tmp_path / "prompts.json"
    answered = replace(WORDS, answers=str(path), llm_model="m")
    with pytest.raises(DataError, match="zone Af"):
        build_metasegnet(SPEC, SMALL, answered, MetaSegNetLossConfig(), [row("kampala.tif")])
    for name in SPEC.legend.names:
        Answers(path, "m").add(question(Setting("Af"), name), "Rusty sheets.")
    method = build_metasegnet(SPEC, SMALL, answered, MetaSegNetLossConfig(), [row("kampala.tif")])
    plain = build_metasegnet(SPEC, SMALL, WORDS, MetaSegNetLossConfig(), [row("kampala.tif")])
    zone = list(ZONES).index("Af")
    assert int(method.network.present[zone].sum()) < int(plain.network.present[zone].sum())  # type: ignore[index, union-attr]
    with pytest.raises(RecipeError, match="llm_model"):
        build_metasegnet(SPEC, SMALL, replace(answered, llm_model=None), MetaSegNetLossConfig(), [])
