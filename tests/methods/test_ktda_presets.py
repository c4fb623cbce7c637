"""KTDA's presets: the paper as printed and the code as released, each against values computed another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from geodistill.methods.ktda.network import KtdaNetwork
from geodistill.methods.ktda.training import KtdaObjective, KtdaRecipe
from geodistill.methods.method import BuildContext
from geodistill.methods.teacher import TeacherConfig
from geodistill.nn.losses import kl, mse
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method
from geodistill.training.recipe import load_recipe

SPEC = Spec(Legend(("low", "high")), ("r", "g", "b"), (110.0,) * 3, (50.0,) * 3)
SMALL = [
    "--method", "ktda", "--network.encoder", "test_resnet", "--network.encoder_weights", "null",
    "--network.decoder_channels", "8", "--network.fmm_blocks", "1", "--teacher.encoder", "test_vit",
    "--teacher.weights", "null",
]  # fmt: skip


def small(*flags: str) -> KtdaRecipe:
    recipe = load_recipe(None, [*SMALL, *flags])
    assert isinstance(recipe, KtdaRecipe)
    return recipe


def softmax(values: Any, axis: int) -> Any:
    powers = np.exp(values - values.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def terms_of(preset: str) -> tuple[float, float, list[Any], list[Any]]:
    """Return the transfer's two terms under a preset, and the maps that they are of."""
    torch.manual_seed(0)
    objective = build_method(small("--preset", preset), BuildContext(SPEC)).objective
    assert isinstance(objective, KtdaObjective)
    student, teacher = ([torch.randn(2, 6, 3, 4) for _ in range(2)] for _ in range(2))
    terms = objective.transfer_terms(student, teacher)
    plain = [[level.numpy().astype(np.float64) for level in maps] for maps in (student, teacher)]
    return float(terms["kt_mse"]), float(terms["kt_kl"]), *plain


def test_the_printed_terms_are_equations_3_and_4() -> None:
    mse_term, kl_term, student, teacher = terms_of("printed")
    # Eq. 3: (1/n) sum_i ||F''_i - F_i||_2^2, of one image; here the mean of the two in the batch.
    norms = [[np.linalg.norm((s - t)[image]) ** 2 for image in (0, 1)] for s, t in zip(student, teacher, strict=True)]
    assert mse_term == pytest.approx(np.mean(norms), rel=1e-5)
    # Eq. 4: KL(F'' || F), over the channels of each position, the sum over positions.
    divergences = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(s, 1), softmax(t, 1)
        divergences.append((p * np.log(p / q)).sum((1, 2, 3)).mean())
    assert kl_term == pytest.approx(np.mean(divergences), rel=1e-5)


def test_the_released_terms_are_the_codes() -> None:
    mse_term, kl_term, student, teacher = terms_of("released")
    assert mse_term == pytest.approx(np.mean([((s - t) ** 2).mean() for s, t in zip(student, teacher, strict=True)]))
    divergences = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(s, -1), softmax(t, -1)  # over the image's width
        divergences.append((q * (np.log(q) - np.log(p))).sum() / len(s))  # torch's "batchmean"
    assert kl_term == pytest.approx(np.mean(divergences), rel=1e-5)


def test_direction_and_reduction_change_what_they_say() -> None:
    first, second = torch.randn(2, 5, 3, 3), torch.randn(2, 5, 3, 3)
    assert float(kl(first, second, direction="student_teacher")) == pytest.approx(float(kl(second, first)), rel=1e-5)
    assert float(mse(first, second, "norm")) == pytest.approx(45 * float(mse(first, second)), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "preset", "batch", "lr", "warmup", "decay_start", "steps"),
    [
        ("ktda-grass", "printed", 4, 1e-3, 1150, None, 23_000),
        ("ktda-cloud", "printed", 4, 1e-3, 1150, None, 23_000),
        ("ktda-grass", "released", 4, 6e-4, 1150, None, 23_000),
        ("ktda-cloud", "released", 2, 6e-4, 2000, 1000, 80_000),
    ],
)
def test_schedules_are_those_of_the_paper_and_of_the_code(
    name: str, preset: str, batch: int, lr: float, warmup: int, decay_start: int | None, steps: int
) -> None:
    recipe = load_recipe(name, ["--preset", preset])
    assert recipe.data.batch_size == batch
    assert (recipe.optimizer.lr, recipe.optimizer.weight_decay) == (lr, 0.01)
    schedule = recipe.schedule
    assert (schedule.kind, schedule.power, schedule.end_lr_factor) == ("poly", 0.9, 0.0)
    assert (schedule.warmup_steps, schedule.decay_start) == (warmup, decay_start)
    assert recipe.trainer.max_steps == steps
    assert recipe.teacher is not None
    assert recipe.teacher.precision == "fp32"


def test_the_released_preset_is_the_codes_network_and_optimiser() -> None:
    recipe = small("--preset", "released")
    assert (recipe.network.order, recipe.network.aux_from, recipe.network.passes) == ("neck_fmm", "fmm", 2)
    assert recipe.optimizer.decay_vectors
    assert recipe.data.without_replacement
    printed = small("--preset", "printed").network
    assert (printed.order, printed.aux_from, printed.passes) == ("fmm_neck", "fam", 1)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_second_pass_gives_the_transfer_maps_of_its_own(passes: int) -> None:
    encoder = "convnext_atto(drop_path_rate=0.9, ls_init_value=1.0)"
    torch.manual_seed(0)
    network = KtdaNetwork(
        3, 2, encoder=encoder, teacher_channels=[8] * 4, teacher_strides=[16] * 4, fmm_blocks=0, decoder_channels=8,
        passes=passes,
    )  # fmt: skip
    tapped: list[torch.Tensor] = []
    network.aux_head.register_forward_hook(lambda module, args, out: tapped.append(args[0]))
    image = torch.randn(2, 3, 64, 64)
    maps = network.train()(image).features["aligned"]
    assert torch.equal(tapped[0], maps[2]) == (passes == 1)
    assert torch.equal(network.eval()(image).features["aligned"][2], tapped[1])


@pytest.mark.slow
def test_one_scale_is_the_last_level_under_the_last_block_and_makes_the_whole_pyramid() -> None:
    with torch.device("meta"):
        method = build_method(
            load_recipe("ktda-grass", ["--teacher.indices", "[11]", "--network.fmm_blocks", "0",
                                       "--network.encoder_weights", "null", "--teacher.weights", "null"]),
            BuildContext(Spec(Legend(tuple("abcde")), ("r", "g", "b"))),
        )  # fmt: skip
        sizes: list[tuple[int, ...]] = []
        network = method.network
        assert isinstance(network, KtdaNetwork)
        network.neck.register_forward_hook(lambda m, args, out: sizes.extend(tuple(level.shape[1:]) for level in out))
        network(torch.zeros(2, 3, 256, 256))
    assert network.pairs == [(3, 0)]
    assert sizes == [(768, 76, 76), (768, 38, 38), (768, 19, 19), (768, 9, 9)]
    assert count(network.fam) == 1024 * 768 + 768
    # One lateral instead of four: 3 x (768 x 768 + 768) parameters less than with four scales.
    assert count(network.neck) == 23_599_104 - 3 * (768 * 768 + 768)


@pytest.mark.slow
def test_without_transfer_no_teacher_is_built_or_fetched() -> None:
    flags = ["--losses.weights.kt_mse", "0", "--losses.weights.kt_kl", "0", "--teacher.weights", "not/there.pt"]
    method = build_method(small(*flags), BuildContext(SPEC))
    assert method.teachers == {}
    assert method.objective.teacher_module() is None
    batch: Any = {"image": torch.rand(2, 3, 64, 64), "mask": torch.zeros(2, 64, 64, dtype=torch.int64)}
    terms = method.objective(method.network(batch["image"]), batch, 0)
    assert terms["kt_mse"].item() == terms["kt_kl"].item() == 0.0
    assert method.network.fam is not None
    with_teacher = build_method(small(), BuildContext(SPEC))
    assert method.arguments == with_teacher.arguments
    assert TeacherConfig().encoder == "vit_base_patch14_dinov2"


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
