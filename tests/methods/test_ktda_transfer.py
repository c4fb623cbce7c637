"""The transfer phase before the labels."""

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from built import build_ktda
from geodistill.errors import RecipeError, TrainingError, UnknownNameError
from geodistill.methods.ktda.network import KtdaNetworkConfig
from geodistill.methods.ktda.training import KtdaLossConfig, KtdaObjective, TransferPhase
from geodistill.methods.ktda.transfer import mix_up
from geodistill.methods.method import Method
from geodistill.methods.teacher import TeacherConfig
from geodistill.nn.losses import explained_variance
from geodistill.nn.phi_s import MEASURED_BATCHES
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("a", "b")), ("r", "g", "b"), (120.0,) * 3, (60.0,) * 3)


def build(
    steps: int,
    forced: float = 0.5,
    align: Any = "none",
    teacher: str = "test_efficientnet",
    norm: Any = "standardised",
    **phase: Any,
) -> Method:
    torch.manual_seed(0)
    network = KtdaNetworkConfig("test_efficientnet", None, "encoder", align, decoder="unet", decoder_channels=16)
    losses = KtdaLossConfig(
        {"kt_mse": 0.0, "kt_kl": 0.0},
        norm,
        phase=TransferPhase(**{"steps": steps, "lr": 2e-2, "forced": forced} | phase),
    )
    return build_ktda(SPEC, network, TeacherConfig(teacher, None), losses)


def batches(count: int) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        coarse = torch.rand(4, 3, 8, 8, generator=generator)
        image = 255 * torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
        mask = torch.full((4, 64, 64), 255)
        found.append({"image": image, "mask": mask, "valid": mask > 0, "key": ["x"] * 4})
    return found


def train(method: Method, data: list[Any], out: Path, **options: Any) -> lightning.Trainer:
    assert method.phase is not None
    trainer = lightning.Trainer(
        default_root_dir=out,
        accelerator="cpu",
        max_steps=method.phase.steps,
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    trainer.fit(method.phase, DataLoader(data, batch_size=None))
    return trainer


def variance(method: Method, data: Any) -> list[float]:
    assert isinstance(method.objective, KtdaObjective)
    network = method.network.eval()
    with torch.no_grad():
        own = network((data["image"] - 120) / 60).features["aligned"]
    targets = method.objective.targets(data)
    return [explained_variance(s, t).item() for s, t in zip(own, targets, strict=True)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("forced", [0.5, 1.0])
def test_it_brings_the_students_features_to_the_teachers(forced: float, tmp_path: Path) -> None:
    method, data = build(60, forced), batches(60)
    decoder = {k: v.clone() for k, v in method.network.unet.state_dict().items()}
    before = variance(method, data[0])
    trainer = train(method, data, tmp_path)
    after = variance(method, data[0])
    assert all(b > a for a, b in zip(before, after, strict=True))
    assert after[0] > 0.5
    assert {"transfer/kt_mse", "transfer/loss", "transfer/r2_0"} <= set(trainer.callback_metrics)
    assert all(torch.equal(v, decoder[k]) for k, v in method.network.unet.state_dict().items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_trains_fam_too_where_student_and_teacher_differ(tmp_path: Path) -> None:
    method, data = build(30, 0.0, "conv", "test_vit"), batches(30)
    fam = [p.clone() for p in method.network.fam.parameters()]
    before = variance(method, data[0])
    train(method, data, tmp_path)
    # FAM's maps meet standardised targets, so against raw ones only their change can be seen.
    assert variance(method, data[0]) != before
    assert not any(torch.equal(a, b) for a, b in zip(fam, method.network.fam.parameters(), strict=True))


class TheGoals(nn.Module):
    """A student that has learnt all: its maps are the targets as they are compared."""

    def __init__(self, objective: KtdaObjective, targets: list[torch.Tensor]) -> None:
        super().__init__()
        # PHI-S turns anew with each batch that it measures, until it stands still.
        for _ in range(MEASURED_BATCHES):
            self._goals = objective.matched(targets, targets)[1]

    def forward(self, image: torch.Tensor, given: Any = None) -> list[torch.Tensor]:
        return self._goals


@pytest.mark.parametrize("norm", ["layernorm", "standardised", "phi_s"])
def test_what_is_learnt_is_measured_against_the_targets_that_are_taught(norm: str) -> None:
    method, batch = build(1, 0.0, "conv", norm=norm), batches(1)[0]
    phase: Any = method.phase
    assert isinstance(method.objective, KtdaObjective)
    phase.network = TheGoals(method.objective, method.objective.targets(batch))
    logged: dict[str, float] = {}
    phase.log = lambda name, value, **_: logged.setdefault(name, float(value))
    phase.training_step(batch, 0)
    learnt = [value for name, value in logged.items() if name.startswith("transfer/r2_")]
    assert learnt == pytest.approx([1.0] * len(phase._student[0].pairs), abs=1e-3)


def test_the_rate_warms_up_and_falls_to_zero() -> None:
    phase: Any = build(100).phase
    (factor,) = phase.configure_optimizers()["lr_scheduler"]["scheduler"].lr_lambdas
    factors = [factor(step) for step in range(101)]
    assert factors[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.0)
    assert factors[55] == pytest.approx(0.5)


def test_no_steps_means_no_phase() -> None:
    assert build(0).phase is None


@pytest.mark.filterwarnings("ignore")
def test_a_term_that_is_not_finite_names_itself_and_the_samples(tmp_path: Path) -> None:
    method = build(1)
    with torch.no_grad():
        next(method.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"kt_mse.*step 0 on x, x"):
        train(method, batches(1), tmp_path)


ALL = {"kt_mse": 0.5, "cosine": 1.0, "relation": 0.5, "query": 0.5, "masked": 0.5}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("term", ["cosine", "relation", "query", "masked"])
def test_each_term_alone_falls_by_training_on_it(term: str, tmp_path: Path) -> None:
    method, data = build(8, 0.0, "conv", norm="phi_s", weights={"kt_mse": 0.0, term: 1.0}), batches(1) * 8
    losses: list[float] = []
    phase: Any = method.phase
    phase.on_train_batch_start = lambda batch, index: torch.manual_seed(0)  # each step hides the same patches
    phase.on_train_batch_end = lambda outputs, batch, index: losses.append(float(outputs["loss"]))
    train(method, data, tmp_path)
    assert len(losses) == 8
    assert losses[-1] < 0.97 * losses[0], losses


@pytest.mark.filterwarnings("ignore")
def test_all_terms_go_together_with_mixup_and_their_own_weights_are_trained(tmp_path: Path) -> None:
    method = build(2, 0.0, norm="phi_s", weights=ALL, mixup=1.0, hidden=0.25)
    phase: Any = method.phase
    before = {name: value.clone() for name, value in phase.more.state_dict().items()}
    trainer = train(method, batches(2), tmp_path)
    assert {f"transfer/{name}" for name in ALL} <= set(trainer.callback_metrics)
    assert before
    assert not any(torch.equal(before[name], value) for name, value in phase.more.state_dict().items())


def test_mixup_blends_each_image_with_the_one_before_it_and_what_the_teacher_sees_alike() -> None:
    torch.manual_seed(0)
    batch = batches(1)[0] | {"plain": batches(1)[0]["image"].clone()}
    mixed = mix_up(batch, 1.0)
    for index in range(4):
        own, other = batch["image"][index], batch["image"][index - 1]
        factor = ((mixed["image"][index] - other) / (own - other)).median()
        assert 0 < float(factor) < 1
        torch.testing.assert_close(mixed["image"][index], factor * own + (1 - factor) * other, rtol=1e-3, atol=1e-2)
    assert torch.equal(mixed["plain"], mixed["image"])
    assert mix_up(batch, 0.0) is batch


def test_unknown_terms_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="cosin"):
        build(1, weights={"cosin": 1.0})
    with pytest.raises(RecipeError, match="mixup 2"):
        build(1, mixup=2.0)
    with pytest.raises(RecipeError, match=r"losses\.phase\.lr -1"):
        build(1, lr=-1.0)
