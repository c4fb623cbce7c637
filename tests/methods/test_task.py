"""Optimiser groups and the learning-rate schedule."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed, nn

from built import build_supervised
from geodistill.errors import RecipeError
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.methods.supervised.network import SupervisedNetworkConfig
from geodistill.methods.task import SegmentationTask, parameter_groups
from geodistill.nn.averaging import choose_average
from geodistill.nn.encoders import build_encoder
from geodistill.spec import Legend, Spec

SPEC = Spec(Legend(("a", "b")), ("r", "g", "b"), (120.0,) * 3, (60.0,) * 3)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 8))
        self.head = nn.Conv2d(4, 2, 1)
        self.frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)


def test_checkpoints_that_are_averaged_are_not_sent_round_by_ddp() -> None:
    network = SupervisedNetworkConfig("unet", "test_resnet", None, decoder_channels=16)
    method = build_supervised(SPEC, network, None)
    task = SegmentationTask(
        method, SPEC, OptimizerConfig(), ScheduleConfig(), 4, average=choose_average(None, 10, 2, 1)
    )
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        sent = {id(buffer) for buffer in nn.parallel.DistributedDataParallel(task).modules_buffers}
    finally:
        distributed.destroy_process_group()
    kept = {name for name, buffer in task.named_buffers() if id(buffer) not in sent}
    assert kept == {"averaged.checkpoints"}


def test_norms_biases_and_positions_never_decay_and_frozen_parameters_are_left_out() -> None:
    network = Tiny()
    groups = parameter_groups(network, network.encoder, OptimizerConfig(lr=1e-3, encoder_lr=1e-4, weight_decay=0.05))
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found[id(network.encoder[0].weight)] == (1e-4, 0.05)
    assert found[id(network.encoder[0].bias)] == (1e-4, 0.0)
    assert found[id(network.encoder[1].weight)] == (1e-4, 0.0)
    assert found[id(network.head.weight)] == (1e-3, 0.05)
    assert found[id(network.head.bias)] == (1e-3, 0.0)
    assert found[id(network.pos_embed)] == (1e-3, 0.0)
    assert id(network.frozen.weight) not in found
    assert len(found) == sum(1 for p in network.parameters() if p.requires_grad)


def test_layers_of_a_transformer_learn_more_slowly_the_earlier_they_are() -> None:
    network = nn.Module()
    network.encoder = build_encoder("test_vit")
    network.head = nn.Conv2d(4, 2, 1)
    groups = parameter_groups(network, network.encoder, OptimizerConfig(lr=1e-3, layer_decay=0.5))
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    found = {name: rates[id(p)] for name, p in network.named_parameters()}
    depth = len(network.encoder.body.model.blocks)
    for block in range(depth):
        assert found[f"encoder.body.model.blocks.{block}.norm1.weight"] == pytest.approx(1e-3 * 0.5 ** (depth - block))
    assert found["encoder.body.model.patch_embed.proj.weight"] == pytest.approx(1e-3 * 0.5 ** (depth + 1))
    assert found["encoder.body.model.pos_embed"] == pytest.approx(1e-3 * 0.5 ** (depth + 1))
    assert found["encoder.body.norm.weight"] == found["head.weight"] == 1e-3
    with pytest.raises(RecipeError, match="without a plain vision transformer"):
        parameter_groups(Tiny(), Tiny().encoder, OptimizerConfig(layer_decay=0.9))
    with pytest.raises(RecipeError, match=r"layer_decay 1\.5"):
        OptimizerConfig(layer_decay=1.5)


def test_the_encoder_takes_the_common_rate_where_none_is_given() -> None:
    network = Tiny()
    assert {g["lr"] for g in parameter_groups(network, network.encoder, OptimizerConfig(lr=2e-3))} == {2e-3}


def test_poly_follows_the_papers_numbers() -> None:
    schedule = ScheduleConfig(kind="poly", warmup_steps=1150, warmup_start=1e-3, power=0.9)
    assert schedule.factor(0, 23000) == pytest.approx(1e-3)
    assert schedule.factor(575, 23000) == pytest.approx(0.5005)
    assert schedule.factor(1150, 23000) == pytest.approx(1.0)
    halfway = 1150 + (23000 - 1150) // 2
    assert schedule.factor(halfway, 23000) == pytest.approx(0.5**0.9, rel=1e-3)
    assert schedule.factor(23000, 23000) == 0.0


def test_cosine_ends_at_the_given_factor() -> None:
    schedule = ScheduleConfig(kind="cosine", end_lr_factor=1e-3)
    assert schedule.factor(0, 100) == pytest.approx(1.0)
    assert schedule.factor(50, 100) == pytest.approx(0.5005)
    assert schedule.factor(100, 100) == pytest.approx(1e-3)


def test_an_epochs_rate_is_held_and_the_encoder_may_end_elsewhere() -> None:
    schedule = ScheduleConfig(kind="cosine", end_lr_factor=1e-2, encoder_end_lr_factor=1e-3, hold_steps=25)
    held = [schedule.factor(step, 100) for step in range(100)]
    assert len(set(held)) == 4
    assert held[25] == held[49] == ScheduleConfig(kind="cosine", end_lr_factor=1e-2).factor(25, 100)
    assert (schedule.factor(100, 100), schedule.factor(100, 100, encoder=True)) == pytest.approx((1e-2, 1e-3))
    with pytest.raises(RecipeError, match="hold_steps 0"):
        ScheduleConfig(hold_steps=0)


@given(
    kind=st.sampled_from(["poly", "cosine", "constant"]),
    warmup=st.integers(0, 50),
    end=st.floats(0, 0.9),
    length=st.integers(60, 500),
)
def test_every_schedule_rises_then_never_rises_again(kind: str, warmup: int, end: float, length: int) -> None:
    schedule = ScheduleConfig(kind=kind, warmup_steps=warmup, end_lr_factor=end)
    factors = [schedule.factor(step, length) for step in range(length + 20)]
    assert all(math.isfinite(f) and 0 <= f <= 1 + 1e-12 for f in factors)
    rising, falling = factors[: warmup + 1], factors[warmup:]
    assert all(a <= b + 1e-12 for a, b in pairwise(rising))
    assert all(a >= b - 1e-12 for a, b in pairwise(falling))


def test_a_decay_may_begin_inside_the_warm_up_whose_factor_it_multiplies() -> None:
    # mmengine chains LinearLR over 0-2000 and PolyLR over 1000-80000: each multiplies the rate that it finds.
    schedule = ScheduleConfig("poly", warmup_steps=2000, decay_start=1000)
    for step in (0, 500, 1000, 1500, 2000, 40_000, 79_999):
        warmup = 1e-3 + 0.999 * min(step, 2000) / 2000
        decay = (1 - max(step - 1000, 0) / 79_000) ** 0.9
        assert schedule.factor(step, 80_000) == pytest.approx(warmup * decay, rel=1e-9)
    assert schedule.factor(80_000, 80_000) == 0.0


def test_vectors_decay_where_asked_for_but_layer_norms_and_positions_do_not() -> None:
    network = Tiny()
    network.norm = nn.LayerNorm(4)
    groups = parameter_groups(network, network.encoder, OptimizerConfig(weight_decay=0.05, decay_vectors=True))
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decays[id(network.encoder[1].weight)] == decays[id(network.head.bias)] == 0.05
    assert decays[id(network.norm.weight)] == decays[id(network.norm.bias)] == decays[id(network.pos_embed)] == 0.0
