"""What every method holds: an objective heard at every hook whatever is around it, and the encoder's full name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.methods.distillation import add_distillation
from geodistill.methods.method import Method, Objective, WrappedObjective
from geodistill.methods.schema import CommonLosses
from geodistill.methods.self_training import StudentTeacher, add_self_training
from geodistill.methods.supervised.head_rates import EachHead
from geodistill.nn.encoders import build_encoder
from geodistill.nn.output import SegmentationOutput

CLASSES = ["field", "forest"]


class Attentive(Objective):
    """An objective that overrides every hook and says what it was asked."""

    label_free = frozenset({"own"})
    wants_plain = True

    def __init__(self) -> None:
        super().__init__({"own": 2.0})
        self.teacher, self.device, self.state = nn.Linear(1, 1), "", 7

    def prepare(self, batch: Batch) -> Batch:
        """Mark the batch."""
        return cast(Batch, {**batch, "prepared": True})

    def lines(self) -> list[str]:
        """Return a line."""
        return ["a line"]

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return ``own``."""
        return {"own": output.logits.mean() + step}

    def weight(self, name: str, step: int) -> float:
        """Return a factor that grows."""
        return self.weights[name] * step

    def to(self, device: torch.device | str) -> None:
        """Keep the name."""
        self.device = str(device)

    def teacher_module(self) -> nn.Module | None:
        """Return one."""
        return self.teacher

    def state_dict(self) -> dict[str, Any]:
        """Return a number."""
        return {"number": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.state = state["number"]


def each_head(inner: Objective) -> Objective:
    return EachHead(inner, 1)


def distilled(inner: Objective) -> Objective:
    return add_distillation(plain(inner), {"kd": 1.0}, teachers(), CommonLosses()).objective


def self_trained(inner: Objective) -> Objective:
    return add_self_training(plain(inner), {"pseudo": 1.0}, teachers(), CommonLosses(), CLASSES).objective


def all_three(inner: Objective) -> Objective:
    return self_trained(distilled(each_head(inner)))


def plain(objective: Objective) -> Method:
    return Method("plain", {}, nn.Identity(), objective)


class Answering(nn.Module):
    """The same logits for every pixel."""

    def forward(self, image: Tensor) -> SegmentationOutput:
        """Return them."""
        return SegmentationOutput(image.new_zeros(len(image), len(CLASSES), *image.shape[-2:]))


def teachers() -> Mapping[str, StudentTeacher]:
    teacher = StudentTeacher(1)
    teacher.follow(Answering())
    return {"teacher": teacher}


def batch() -> Batch:
    given = {"image": torch.zeros(1, 1, 4, 4), "mask": torch.zeros(1, 4, 4, dtype=torch.int64), "key": ["tile"]}
    return cast(Batch, {**given, "unlabelled": torch.zeros(1, 4, 4, dtype=torch.bool)})


def test_a_wrapper_forwards_every_hook_there_is() -> None:
    hooks = {name for name, value in vars(Objective).items() if callable(value) and not name.startswith("_")}
    assert {"prepare", "lines", "weight", "to", "teacher_module", "state_dict", "load_state_dict"} <= hooks
    assert hooks <= set(vars(WrappedObjective))


@pytest.mark.parametrize("wrap", [each_head, distilled, self_trained, all_three])
def test_the_inner_objective_is_asked_at_every_hook(wrap: Callable[[Objective], Objective]) -> None:
    inner = Attentive()
    outer = wrap(inner)
    assert outer.weights["own"] == 2
    assert [outer.weight("own", step) for step in (0, 3)] == [0, 6]
    assert [outer.weight(name, 3) for name in outer.weights if name != "own"] == [1] * (len(outer.weights) - 1)
    assert outer.label_free == set(outer.weights)
    assert outer.wants_plain

    prepared = outer.prepare(batch())
    assert cast(dict[str, Any], prepared)["prepared"]
    terms = outer(SegmentationOutput(torch.ones(1, len(CLASSES), 4, 4)), prepared, 4)
    assert set(terms) == set(outer.weights)
    assert terms["own"] == 5
    assert "a line" in outer.lines()

    outer.to("cpu")
    assert inner.device == "cpu"
    module = outer.teacher_module()
    assert module is not None
    assert inner.teacher in set(module.modules())
    state = outer.state_dict()
    inner.state = 0
    outer.load_state_dict(state)
    assert inner.state == 7


def test_a_method_calls_the_encoder_as_the_network_does() -> None:
    network = nn.Module()
    network.encoder = build_encoder("test_efficientnet(pad_type=same)")  # as weights of such a padding name it
    given = {"architecture": "unet", "encoder": "test_efficientnet", "width": 8}
    method = Method("mine", given, network, Attentive())
    assert method.arguments == {**given, "encoder": "test_efficientnet(pad_type=same)"}
    assert list(method.arguments) == list(given)
    assert given["encoder"] == "test_efficientnet"
    assert replace(method, notes=("a note",)).arguments == method.arguments
    assert Method("mine", {"width": 8}, network, Attentive()).arguments == {"width": 8}
    assert Method("mine", given, nn.Identity(), Attentive()).arguments == given


def test_without_any_teacher_there_is_no_module_to_count() -> None:
    class Silent(Objective):
        def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
            return {"own": output.logits.mean()}

    outer = each_head(Silent({"own": 1.0}))
    assert outer.teacher_module() is None
    assert not outer.label_free
    assert not outer.wants_plain
