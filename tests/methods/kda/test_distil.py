"""Phase 1: alignment across architectures, both sides' learning, rates, terms, and that collapses are named."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from built import build_kda
from geodistill.errors import GeodistillWarning, RecipeError, TrainingError, UnknownNameError
from geodistill.methods.kda.distil import DistilledEncoder, DistilTask
from geodistill.methods.kda.network import KdaNetworkConfig
from geodistill.methods.kda.stability import CollapseWatch, MapStatistics, ScoreStatistics
from geodistill.methods.kda.training import DiscriminatorConfig, DistilPhase, KdaLossConfig
from geodistill.methods.teacher import TeacherConfig
from geodistill.nn.encoders import build_encoder
from geodistill.spec import Legend, Spec

pytestmark = pytest.mark.slow

SPEC = Spec(Legend(("a", "b")), ("r", "g", "b"), (120.0,) * 3, (60.0,) * 3)
DISCRIMINATOR = DiscriminatorConfig("patch", "test_vit", None, 16)


def task(student: str = "test_resnet", teacher: str = "test_vit", **phase: Any) -> DistilTask:
    torch.manual_seed(0)
    values: dict[str, Any] = {"steps": 20, "lr": 1e-3, "discriminator_lr": 1e-4, "discriminator": DISCRIMINATOR} | phase
    network = KdaNetworkConfig(student, decoder_channels=16)
    losses = KdaLossConfig(phase=DistilPhase(**values))
    method = build_kda(SPEC, network, losses, TeacherConfig(teacher, None))
    assert isinstance(method.phase, DistilTask)
    return method.phase


def batches(count: int, size: int = 32) -> list[Any]:
    torch.manual_seed(1)
    image = torch.randn(4, 3, size, size) * 60 + 120
    mask = torch.full((4, size, size), 255)
    one = {"image": image, "mask": mask, "valid": mask < 256, "key": list("abcd"), "source": list("abcd")}
    return [one] * count


def train(phase: DistilTask, steps: int) -> dict[str, list[float]]:
    """Run some steps and give every figure that was logged, step by step."""
    history: dict[str, list[float]] = {}

    class Keep(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            for name, value in trainer.callback_metrics.items():
                history.setdefault(name, []).append(float(value))

    loader = DataLoader(batches(steps), batch_size=None)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer = lightning.Trainer(
            accelerator="cpu", max_steps=steps, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[Keep()],
        )  # fmt: skip
        trainer.fit(phase, loader)
    return history


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("test_resnet", "test_vit"),  # a transformer teaches a convolutional student
        ("test_vit", "test_resnet"),  # and the reverse
        ("mit_b0", "test_convnext"),
        ("test_convnext", "mit_b0"),
    ],
)
def test_every_level_of_one_architecture_can_learn_from_another(student: str, teacher: str) -> None:
    phase = task(student, teacher, weights={"feature": 1.0}, lr=3e-3)
    history = train(phase, 12)
    assert history["distil/feature"][-1] < 0.96 * history["distil/feature"][0]
    assert history["distil/kl"][-1] < history["distil/kl"][0]
    assert all(p.grad is not None for p in phase.parameters())


def test_the_last_map_is_projected_only_where_channels_differ_and_brought_to_the_teachers_grid() -> None:
    encoder = build_encoder("test_resnet").eval()
    same = DistilledEncoder(encoder, [encoder.channels[-1]], [14], levels=False)
    assert isinstance(same.project, nn.Identity)
    other = DistilledEncoder(encoder, [24], [14], levels=False)
    with torch.no_grad():
        image = torch.randn(1, 3, 65, 97)
        top, levels = other(image)
        own = other.project(encoder(image)[-1])
        expected = nn.functional.interpolate(own, (5, 7), mode="bilinear", align_corners=True)
    assert top.shape == (1, 24, 5, 7)
    torch.testing.assert_close(top, expected)
    assert levels == []


def test_a_convolutional_teachers_map_is_compared_at_the_grid_that_is_given() -> None:
    phase = task("test_resnet", "test_convnext", grid=5)
    shapes: list[tuple[int, ...]] = []
    assert phase.discriminator is not None
    phase.discriminator.draw.register_forward_hook(lambda m, args, out: shapes.append(tuple(args[0].shape[2:])))
    sizes: list[tuple[int, ...]] = []
    encoder = phase.discriminator.encoder
    encoder.register_forward_hook(lambda m, args, out: sizes.append(tuple(args[0].shape[2:])))
    batch = batches(1)[0]
    phase.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    phase.training_step(batch, 0)
    stride = encoder.strides[-1]
    assert (shapes, sizes) == ([(5, 5)], [(5 * stride, 5 * stride)])
    with pytest.raises(RecipeError, match=r"losses\.phase\.grid 0"):
        task(grid=0)


def test_the_two_sides_pull_against_each_other() -> None:
    frozen_student = train(task(lr=1e-12, end_lr=1e-12, discriminator_lr=3e-3, weights={"kl": 0.0}), 20)
    assert frozen_student["distil/adversarial"][-1] > 1.5 * frozen_student["distil/adversarial"][0]
    frozen_discriminator = train(task(lr=3e-3, discriminator_lr=1e-12, weights={"kl": 0.0}), 20)
    assert frozen_discriminator["distil/adversarial"][-1] < 0.7 * frozen_discriminator["distil/adversarial"][0]


def test_teacher_and_discriminators_encoder_stay_out_of_state_and_optimiser() -> None:
    phase = task()
    frozen = {id(p) for p in phase._teacher.module.parameters()}
    assert phase.discriminator is not None
    frozen |= {id(p) for p in phase.discriminator.encoder.parameters()}
    before = [p.clone() for p in phase.discriminator.encoder.parameters()]
    assert not frozen & {id(p) for p in phase.parameters()}
    train(phase, 2)
    assert all(torch.equal(a, b) for a, b in zip(before, phase.discriminator.encoder.parameters(), strict=True))


def test_rates_fall_by_a_cosine_a_step_or_an_epoch() -> None:
    def factor(phase: DistilTask) -> Any:
        return phase.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas[0]

    each = factor(task(lr=4e-3, end_lr=4e-6, steps=11))
    assert each(0) == 1.0
    assert each(5) == pytest.approx(0.5005)
    assert each(10) == pytest.approx(1e-3)
    epochs = factor(task(end_lr=0.0, steps=12, epoch_steps=4))
    assert [epochs(step) for step in range(12)] == pytest.approx([1.0] * 4 + [0.5] * 4 + [0.0] * 4)


def test_both_sides_have_their_own_rates_and_norms_never_decay() -> None:
    phase = task(lr=1e-3, discriminator_lr=1e-4, weight_decay=0.1, weighting="uncertainty")
    groups = phase.configure_optimizers()["optimizer"].param_groups
    assert [(g["initial_lr"], g["weight_decay"]) for g in groups] == [
        (1e-3, 0.1), (1e-3, 0.0), (1e-4, 0.1), (1e-4, 0.0), (1e-2, 0.0),
    ]  # fmt: skip
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in phase.parameters())


@pytest.mark.parametrize("weighting", ["uncertainty", "gradient_balance"])
def test_factors_adapt_and_are_logged(weighting: Any) -> None:
    history = train(task(weighting=weighting), 4)
    start = 0.6 if weighting == "uncertainty" else None
    assert start is None or history["distil/weight_kl"][0] == pytest.approx(start)
    assert history["distil/weight_kl"][-1] != pytest.approx(0.6, rel=1e-3)


@pytest.mark.parametrize("norm", ["raw", "standardised", "layernorm"])
def test_targets_may_be_normalised(norm: Any) -> None:
    history = train(task(target_norm=norm), 2)
    if norm != "raw":
        assert history["distil/teacher_size"][0] == pytest.approx(1.0, rel=0.05)


def test_without_an_adversary_there_is_no_discriminator() -> None:
    phase = task(weights={"adversarial": 0.0})
    assert phase.discriminator is None
    history = train(phase, 2)
    assert "distil/adversarial" not in history
    assert "distil/discriminator_accuracy" not in history


def test_gradients_of_each_side_are_clipped_apart() -> None:
    phase = task(clip_norm=1e-3)
    train(phase, 1)
    assert phase.discriminator is not None
    for side in (phase.network, phase.discriminator):
        norm = torch.stack([p.grad.norm() for p in side.parameters() if p.grad is not None]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)


def test_features_that_are_alike_everywhere_are_a_collapse() -> None:
    phase = task(patience=3)
    projection = phase.network.network.project
    nn.init.zeros_(projection.weight)
    nn.init.ones_(projection.bias)
    phase.configure_optimizers = lambda: torch.optim.SGD(phase.parameters(), lr=0.0)  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match=r"collapsed at step 2: they are alike.*adversarial"):
        train(phase, 5)


def test_a_collapse_has_to_last() -> None:
    watch = CollapseWatch(patience=3)
    good, alike = MapStatistics(0.0, 1.0, 1.0, 0.5), MapStatistics(1.0, 0.0, 1.0, 0.0)
    for figures in (alike, alike, good, alike, alike):
        watch.look(0, figures, good, None)
    resumed = CollapseWatch(patience=3)
    resumed.load_state_dict(watch.state_dict())
    with pytest.raises(TrainingError, match="alike"):
        resumed.look(0, alike, good, None)


@pytest.mark.parametrize(("size", "word"), [(1e-6, "vanished"), (1e6, "burst")])
def test_features_without_size_or_without_bound_are_named(size: float, word: str) -> None:
    good = MapStatistics(0.0, 1.0, 1.0, 0.5)
    with pytest.raises(TrainingError, match=word):
        CollapseWatch(1).look(0, MapStatistics(0.0, size, size, 0.5), good, None)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (ScoreStatistics(0.5, 0.0, 1e-5), "scores everything alike"),
        (ScoreStatistics(1.0, 0.99, 0.5), "has won"),
    ],
)
def test_a_discriminator_out_of_play_is_named_once(scores: ScoreStatistics, words: str) -> None:
    good = MapStatistics(0.0, 1.0, 1.0, 0.5)
    watch = CollapseWatch(2)
    watch.look(0, good, good, scores)
    with pytest.warns(GeodistillWarning, match=words):
        watch.look(1, good, good, scores)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        watch.look(2, good, good, scores)


def test_statistics_of_maps_and_scores() -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 8, 5, 5) + 3
    figures = MapStatistics.of(maps)
    assert figures.mean == pytest.approx(3, abs=0.1)
    assert figures.deviation == pytest.approx(1, abs=0.1)
    # Each position's mean over the channels is no part of what a divergence over channels can see.
    assert figures.diversity == pytest.approx(1.0, abs=0.02)
    per_channel = torch.arange(8.0).view(1, 8, 1, 1)
    assert MapStatistics.of(maps + 10 * per_channel).diversity == pytest.approx(1 / (1 + 525), rel=0.2)
    assert MapStatistics.of(torch.ones(2, 3, 4, 4)).diversity == 0.0
    scores = ScoreStatistics.of(torch.full((4, 1), 0.9), torch.full((4, 1), 0.2))
    assert (scores.accuracy, scores.distance) == (1.0, pytest.approx(0.7))


def test_a_term_that_is_not_finite_names_the_samples() -> None:
    phase = task()
    nn.init.constant_(phase.network.network.project.weight, float("nan"))
    with pytest.raises(TrainingError, match=r"'kl' is nan at distillation step 0 on a, b"):
        train(phase, 1)


def test_the_encoder_is_left_once_it_is_learnt(tmp_path: Path) -> None:
    phase = task()
    phase.finish(tmp_path)
    loaded = build_encoder("test_resnet", 3, tmp_path / "encoder")
    own = phase.network.network.encoder
    assert all(torch.equal(a, b) for a, b in zip(own.parameters(), loaded.parameters(), strict=True))
    assert loaded.pretrained_statistics == ((120.0,) * 3, (60.0,) * 3)


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ({"weights": {"kl": 0.0, "adversarial": 0.0}}, "one of them above"),
        ({"weights": {"kl": -1.0}}, "at least 0"),
        ({"epoch_steps": 0}, "epoch_steps 0"),
        ({"temperature": 0.0}, "temperature"),
        ({"clip_norm": 0.0}, "clip_norm 0"),
        ({"end_lr": -1.0}, "end_lr -1"),
        ({"discriminator_end_lr": -1.0}, "discriminator_end_lr -1"),
    ],
)
def test_settings_that_do_not_do_are_refused(phase: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        task(**phase)


def test_maps_that_cannot_be_aligned_are_refused_with_their_shapes() -> None:
    encoder = build_encoder("test_resnet")
    with pytest.raises(RecipeError, match=r"at \[3, 5\].*teacher\.indices"):
        DistilledEncoder(encoder, [8, 8], [3, 5], levels=True)
    with pytest.raises(RecipeError, match="before the last in common"):
        DistilledEncoder(encoder, [8], [encoder.strides[-1]], levels=True)
    with pytest.raises(UnknownNameError, match="adversarial"):
        task(weights={"adversary": 1.0})
    with pytest.raises(RecipeError, match="without a teacher"):
        build_kda(SPEC, KdaNetworkConfig("test_resnet"), KdaLossConfig(phase=DistilPhase(steps=1)))
