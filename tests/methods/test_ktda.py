"""KTDA: published counts and shapes, the disputed choices, and that transfer transfers."""

from typing import Any

import pytest
import torch
from torch import nn

from built import build_ktda
from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.ktda.network import FMM, KtdaNetwork, KtdaNetworkConfig
from geodistill.methods.ktda.training import KtdaLossConfig, KtdaObjective, TransferPhase
from geodistill.methods.method import Method
from geodistill.methods.teacher import TeacherConfig
from geodistill.nn.alignment import FAM, pair_levels
from geodistill.nn.losses import kl, mse
from geodistill.nn.output import SegmentationOutput
from geodistill.spec import Legend, Spec

GRASS = Spec(Legend(("low", "middle-low", "middle", "middle-high", "high")), ("r", "g", "b"), (110.0,) * 3, (50.0,) * 3)
TINY = KtdaNetworkConfig("test_resnet", None, fmm_blocks=1, decoder_channels=16)
LIGHT = KtdaNetworkConfig("test_resnet", None, decode_from="encoder", decoder="unet", decoder_channels=16)
TWIN = KtdaNetworkConfig(
    "test_efficientnet", None, decode_from="encoder", align="none", decoder="unet", decoder_channels=16
)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def batch(size: int = 64, labelled: bool = True) -> Any:
    torch.manual_seed(0)
    mask = torch.randint(0, 5, (2, size, size)) if labelled else torch.full((2, size, size), 255)
    return {"image": torch.rand(2, 3, size, size) * 255, "mask": mask, "valid": mask < 256, "key": ["a", "b"]}


def run(method: Method, data: Any, step: int = 0) -> dict[str, torch.Tensor]:
    return method.objective(method.network((data["image"] - 110) / 50), data, step)


@pytest.mark.slow
def test_published_parameter_counts() -> None:
    with torch.device("meta"):
        method = build_ktda(
            GRASS, KtdaNetworkConfig(encoder_weights=None), TeacherConfig(weights=None), KtdaLossConfig()
        )
    student, teacher = method.network, method.objective.teacher_module()
    assert isinstance(student, KtdaNetwork)
    assert count(student.encoder) == 87_568_256
    assert count(student.fam) == 1_477_632
    assert count(student.fmm) == 16 * 7_087_872
    assert count(student.neck) == 23_599_104
    assert count(student.upernet) == 32_258_565
    assert count(student.aux_head) == 1_771_269
    assert count(student) == 260_080_778
    assert count(teacher) / 1e6 == pytest.approx(86.58, abs=0.005)
    assert not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.slow
def test_published_shapes_at_512() -> None:
    with torch.device("meta"):
        method = build_ktda(
            GRASS, KtdaNetworkConfig(encoder_weights=None), TeacherConfig(weights=None), KtdaLossConfig()
        )
        output = method.network.train()(torch.zeros(1, 3, 512, 512).expand(2, -1, -1, -1))
    assert [tuple(m.shape[1:]) for m in output.features["aligned"]] == [(768, 37, 37)] * 4
    assert output.logits.shape == (2, 5, 512, 512)
    assert output.aux["aux"].shape == (2, 5, 37, 37)
    assert method.network.pairs == [(0, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("order", "tokens"), [("fmm_neck", [16, 16, 16, 16]), ("neck_fmm", [256, 64, 16, 4])])
def test_fmm_sees_the_token_grid_before_the_neck_and_the_pyramid_behind_it(order: str, tokens: list[int]) -> None:
    network = KtdaNetwork(
        3,
        2,
        encoder="test_resnet",
        teacher_channels=[16] * 4,
        teacher_strides=[16] * 4,
        fmm_blocks=1,
        order=order,
        decoder_channels=8,
    )
    seen: list[int] = []
    for level in network.fmm.levels:
        level.register_forward_hook(lambda m, args, out: seen.append(args[0].shape[1]))
    network.eval()(torch.randn(1, 3, 64, 64))
    assert seen == tokens


@pytest.mark.parametrize(("aux_from", "size"), [("fam", 4), ("fmm", 4)])
def test_the_auxiliary_head_reads_the_third_level(aux_from: str, size: int) -> None:
    network = KtdaNetwork(
        3,
        2,
        encoder="test_resnet",
        teacher_channels=[16] * 4,
        teacher_strides=[16] * 4,
        fmm_blocks=0,
        aux_from=aux_from,
        decoder_channels=8,
    ).eval()
    seen: list[torch.Tensor] = []
    network.aux_head.register_forward_hook(lambda m, args, out: seen.append(args[0]))
    output = network(torch.randn(1, 3, 64, 64))
    assert seen[0].shape[-1] == size
    assert torch.equal(seen[0], output.features["aligned"][2]) == (aux_from == "fam")


def test_fam_projects_and_resizes_in_either_order_alike() -> None:
    torch.manual_seed(0)
    fam = FAM([4, 6], [5, 5])
    maps = [torch.randn(1, 4, 16, 12), torch.randn(1, 6, 4, 3)]
    aligned = fam(maps, [(7, 7), (7, 7)])
    for out, level, projection in zip(aligned, maps, fam.projections, strict=True):
        published = nn.functional.interpolate(projection(level), size=(7, 7), mode="bilinear", align_corners=False)
        torch.testing.assert_close(out, published, atol=1e-5, rtol=1e-5)


def test_fmm_of_no_blocks_is_the_identity_and_odd_heads_are_refused() -> None:
    maps = [torch.randn(1, 10, 3, 5)]
    assert torch.equal(FMM([10], 0, 8)(maps)[0], maps[0])
    with pytest.raises(RecipeError, match="fmm_heads"):
        FMM([10], 1, 8)


@pytest.mark.parametrize(
    ("student", "teacher", "pairs"),
    [
        ((4, 8, 16, 32), (14, 14, 14, 14), [(0, 0), (1, 1), (2, 2), (3, 3)]),
        ((2, 4, 8, 16, 32), (14, 14, 14, 14), [(1, 0), (2, 1), (3, 2), (4, 3)]),
        ((2, 4, 8, 16, 32), (4, 8, 16, 32), [(1, 0), (2, 1), (3, 2), (4, 3)]),
        ((4, 8, 16, 32), (2, 4, 8, 16, 32), [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ((16, 16, 16, 16), (2, 4, 8, 16, 32), [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ((2, 4, 8, 16, 32), (8, 16), [(2, 0), (3, 1)]),
        ((2, 4, 8, 8, 8), (4, 8), [(1, 0), (4, 1)]),
    ],
)
def test_levels_pair_by_stride_or_by_depth(student: Any, teacher: Any, pairs: Any) -> None:
    assert pair_levels(student, teacher) == pairs


def test_levels_without_a_common_stride_are_refused() -> None:
    with pytest.raises(
        RecipeError, match=r"strides \[4, 8\] under teacher maps at \[16, 32\].*in common.*teacher\.indices"
    ):
        pair_levels((4, 8), (16, 32))


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["test_vit", "test_resnet", "mit_b0"])
@pytest.mark.parametrize("student", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("decode_from", ["aligned", "encoder"])
def test_any_encoder_learns_from_any_encoder(student: str, teacher: str, decode_from: Any) -> None:
    network = KtdaNetworkConfig(student, None, decode_from, fmm_blocks=1, decoder_channels=8)
    method = build_ktda(GRASS, network, TeacherConfig(teacher, None), KtdaLossConfig())
    terms = run(method, batch())
    assert list(terms) == ["ce", "aux", "kt_mse", "kt_kl"]
    assert all(torch.isfinite(term) for term in terms.values())
    torch.stack([method.objective.weight(n, 0) * t for n, t in terms.items()]).sum().backward()
    assert all(p.grad is not None for p in method.network.parameters())


def test_terms_are_the_mean_over_levels_of_their_definitions() -> None:
    config = KtdaLossConfig(kl_axis="width", kl_reduction="batchmean")
    method = build_ktda(GRASS, TINY, TeacherConfig("test_vit", None), config)
    data = batch()
    output = method.network.eval()((data["image"] - 110) / 50)
    terms = method.objective(output, data, 0)
    assert isinstance(method.objective, KtdaObjective)
    pairs = list(zip(output.features["aligned"], method.objective.targets(data), strict=True))
    assert terms["kt_mse"].item() == pytest.approx(sum(mse(s, t).item() for s, t in pairs) / 4, rel=1e-5)
    rows = sum(kl(s, t, "width", "batchmean").item() for s, t in pairs) / 4
    assert terms["kt_kl"].item() == pytest.approx(rows, rel=1e-4)


@pytest.mark.parametrize("norm", ["raw", "standardised", "layernorm"])
def test_a_student_equal_to_its_teacher_has_nothing_to_learn_under_any_target(norm: Any) -> None:
    method = build_ktda(GRASS, TWIN, TeacherConfig("test_efficientnet", None), KtdaLossConfig(target_norm=norm))
    objective, data = method.objective, batch()
    assert isinstance(objective, KtdaObjective)
    targets = objective.targets(data)
    terms = objective.transfer_terms(*objective.matched(targets, targets))
    assert terms["kt_mse"].item() == pytest.approx(0.0, abs=1e-9)
    assert terms["kt_kl"].item() == pytest.approx(0.0, abs=1e-6)


def test_standardised_targets_have_the_size_of_one_whatever_the_teachers() -> None:
    method = build_ktda(GRASS, TINY, TeacherConfig("test_vit", None), KtdaLossConfig(target_norm="standardised"))
    objective, data = method.objective, batch()
    assert isinstance(objective, KtdaObjective)
    targets = [1000 * t + 500 for t in objective.targets(data)]
    zeros = [torch.zeros_like(t) for t in targets]
    assert objective.transfer_terms(*objective.matched(zeros, targets))["kt_mse"].item() == pytest.approx(1.0, rel=1e-3)


def test_unlabelled_images_serve_the_transfer_alone() -> None:
    method = build_ktda(GRASS, LIGHT, TeacherConfig("test_resnet", None), KtdaLossConfig())
    terms = run(method, batch(labelled=False))
    assert terms["ce"].item() == terms["aux"].item() == 0.0
    assert terms["kt_mse"].item() > 0


def test_without_transfer_weights_the_teacher_does_not_run_and_gradients_remain_defined() -> None:
    losses = KtdaLossConfig(weights={"kt_mse": 0.0, "kt_kl": 0.0})
    method = build_ktda(GRASS, LIGHT, TeacherConfig("test_resnet", None), losses)
    calls: list[int] = []
    method.objective.teacher_module().register_forward_hook(lambda *args: calls.append(1))
    terms = run(method, batch())
    sum(terms.values()).backward()
    assert not calls
    assert terms["kt_mse"].item() == terms["kt_kl"].item() == 0.0
    assert all(p.grad is not None for p in method.network.parameters())


@pytest.mark.parametrize(("decay", "halfway"), [("linear", 0.25), ("cosine", 0.25), ("none", 0.5)])
def test_the_transfers_weight_decays_to_its_end(decay: Any, halfway: float) -> None:
    losses = KtdaLossConfig(transfer_decay=decay, transfer_end=100)
    objective = build_ktda(GRASS, TINY, TeacherConfig("test_vit", None), losses).objective
    assert objective.weight("kt_mse", 0) == 0.5
    assert objective.weight("kt_mse", 50) == pytest.approx(halfway)
    assert objective.weight("kt_mse", 200) == pytest.approx(0.5 if decay == "none" else 0.0)
    assert [objective.weight(n, 50) for n in ("ce", "aux")] == [1.0, 0.4]


def test_the_objectives_state_resumes() -> None:
    losses = KtdaLossConfig(target_norm="standardised")
    torch.manual_seed(0)
    method = build_ktda(GRASS, TINY, TeacherConfig("test_vit", None), losses)
    method.network.eval()
    run(method, batch())
    state = method.objective.state_dict()
    torch.manual_seed(0)
    other = build_ktda(GRASS, TINY, TeacherConfig("test_vit", None), losses)
    other.network.eval()
    other.objective.load_state_dict(state)
    first, second = run(method, batch()), run(other, batch())
    assert all(first[name].item() == second[name].item() for name in first)
    assert not any("teacher" in key or "encoder" in key for key in state)


def test_inference_has_neither_teacher_nor_side_parts() -> None:
    method = build_ktda(GRASS, LIGHT, TeacherConfig("test_vit", None), KtdaLossConfig())
    network = KtdaNetwork(3, 5, **method.arguments, auxiliary=False)
    assert network.fam is None
    assert network.aux_head is None
    assert network.fmm is None
    network.load_state_dict({k: v for k, v in method.network.state_dict().items() if k in network.state_dict()})
    assert not any("aux" in key or "teacher" in key or "fam" in key for key in network.state_dict())


def test_a_student_whose_stages_read_the_teachers_maps_has_the_teachers_padding() -> None:
    forced = KtdaLossConfig(phase=TransferPhase(steps=5, forced=0.5))
    padded = TeacherConfig("test_efficientnet(pad_type=same)", None)
    for teacher, losses, name in (
        (padded, forced, "test_efficientnet(pad_type=same)"),
        (padded, KtdaLossConfig(), "test_efficientnet"),
        (TeacherConfig("test_efficientnet", None), forced, "test_efficientnet"),
    ):
        method = build_ktda(GRASS, TWIN, teacher, losses)
        assert method.network.encoder.name == method.arguments["encoder"] == name


def test_wrong_choices_are_refused() -> None:
    teacher = TeacherConfig("test_resnet", None)
    with pytest.raises(UnknownNameError, match="kt_mse"):
        build_ktda(GRASS, TINY, teacher, KtdaLossConfig(weights={"kt_mes": 1.0}))
    with pytest.raises(RecipeError, match="transfer_end"):
        build_ktda(GRASS, TINY, teacher, KtdaLossConfig(transfer_decay="linear"))
    with pytest.raises(RecipeError, match=r"losses\.temperature 0"):
        build_ktda(GRASS, TINY, teacher, KtdaLossConfig(temperature=0.0))
    with pytest.raises(UnknownNameError, match="fmm_neck"):
        build_ktda(GRASS, KtdaNetworkConfig("test_resnet", None, order="neck"), teacher, KtdaLossConfig())  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"network\.align: conv"):
        build_ktda(GRASS, TWIN, teacher, KtdaLossConfig())
    with pytest.raises(RecipeError, match=r"phase\.forced"):
        build_ktda(GRASS, LIGHT, teacher, KtdaLossConfig(phase=TransferPhase(steps=5, forced=0.5)))


def test_each_output_is_whole() -> None:
    output = build_ktda(GRASS, TINY, TeacherConfig("test_vit", None), KtdaLossConfig()).network(
        torch.randn(2, 3, 65, 97)
    )
    assert isinstance(output, SegmentationOutput)
    assert [tuple(m.shape[-2:]) for m in output.features["aligned"]] == [(5, 7)] * 4
