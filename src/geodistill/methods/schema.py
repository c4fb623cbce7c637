"""What a method plugs in: its recipe with all defaults, and how its network and losses are built from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from geodistill.data.data_config import DataConfig
from geodistill.data.manifest import Row
from geodistill.errors import UnknownNameError
from geodistill.lazy import choose
from geodistill.methods.method import Method
from geodistill.methods.optimiser import OptimizerConfig, ScheduleConfig
from geodistill.methods.teacher import FrozenTeacher, TeacherConfig
from geodistill.spec import Spec

METHODS: dict[str, str] = {
    "supervised": "geodistill.methods.supervised.training:METHOD",
    "ktda": "geodistill.methods.ktda.training:METHOD",
    "kda": "geodistill.methods.kda.training:METHOD",
    "maflnet": "geodistill.methods.maflnet.training:METHOD",
    "metasegnet": "geodistill.methods.metasegnet.training:METHOD",
    "sep": "geodistill.methods.sep.training:METHOD",
}
"""The `MethodPlug` of each method, imported when its name is asked for."""

DEFAULT_TEACHER = "teacher"
"""Name of the recipe's ``teacher`` among its teachers."""

Preset = Literal["coherent", "printed", "released"]
"""Where paper and released code differ: the variant that makes sense, the paper as printed, the code as released."""

Stage = Literal["phase", "labels"]
"""A part of a run: the method's own phase without labels, or the steps on labels."""


@dataclass(frozen=True)
class TrainerConfig:
    """How long, how exact and on what.

    Attributes:
        max_steps: Optimiser steps on labels; 0 ends the run after the phase before them.
        val_every_steps: Steps between two looks at the validation split.
        patience: Looks without a better validation mIoU before the run stops early; never where not given.
        precision: Lightning's name: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        accelerator: ``auto``, ``cpu``, ``gpu`` ...
        devices: Number of processes, each with its device and its share of the batch.
        seed: Seed of weights, crops and dropout.
        gradient_norms_every: Log each loss term's gradient norm on the encoder every so many steps; 0 never.
        save_every_steps: Steps between two resume points.
        pictures: Validation images in the picture grid; 0 none.
    """

    max_steps: int = 2000
    val_every_steps: int = 200
    patience: int | None = None
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    seed: int = 42
    gradient_norms_every: int = 0
    save_every_steps: int = 100
    pictures: int = 4


@dataclass(frozen=True)
class Recipe:
    """What recipes of every method hold, in this order; each method narrows what is its own.

    ``preset`` chooses the method's own values where its paper and the released code differ. ``init`` names a trained
    Segmenter whose weights the run begins with, all but the heads; see `geodistill.training.warm_start`.
    """

    method: str = ""
    preset: str = "coherent"
    init: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    network: Any = None
    losses: Any = None
    teacher: TeacherConfig | None = None
    teachers: dict[str, TeacherConfig] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    @property
    def needs_teacher(self) -> bool:
        """Whether the method itself asks ``teacher`` at these values, beside what loss terms do."""
        return False

    @property
    def phase_steps(self) -> int:
        """Optimiser steps of the method's phase before the labels; 0 where it has none."""
        return 0

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of the run, in order."""
        steps: tuple[tuple[Stage, int], ...] = (("phase", self.phase_steps), ("labels", self.trainer.max_steps))
        return tuple(stage for stage, count in steps if count > 0)

    def idle_keys(self) -> dict[str, str]:
        """Return the dotted keys that do nothing beside the recipe's other values, each with the reason."""
        return {}

    def without_weights(self) -> Self:
        """Return the recipe with every part of the method randomly initialised, for figures that weights do not change.

        Teachers keep theirs: whoever opens them decides.
        """
        return replace(self, network=replace(self.network, encoder_weights=None))

    def frozen_parts(self) -> dict[str, int]:
        """Return the parameters of models that run before training alone, by what they are called."""
        return {}


@dataclass(frozen=True)
class BuildContext:
    """What a method is built for, beside its recipe.

    Attributes:
        spec: Classes and bands of the data, and the normalisation of the network's input.
        data_spec: The same with the data's own normalisation, where that is another.
        teachers: The recipe's teachers that are asked for, by name; ``teacher`` among them where the method needs one.
        rows: The labelled images that will be seen, for a method that looks at the place of each.
        sets: Spec of each data set by name, where the network learns several at once.
    """

    spec: Spec
    teachers: Mapping[str, FrozenTeacher] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    sets: Mapping[str, Spec] = field(default_factory=dict)
    data_spec: Spec | None = None


@dataclass(frozen=True)
class MethodPlug:
    """A method as `METHODS` names it.

    Attributes:
        recipe: Its recipe, a dataclass whose defaults are the method's.
        build: Returns the method of such a recipe, whose ``losses.weights`` hold the method's own terms alone.
        presets: Recipe values by preset, laid under the recipe's own; none for a preset that is not here.
    """

    recipe: type[Recipe]
    build: Callable[[Any, BuildContext], Method]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def find_method(name: str) -> MethodPlug:
    """Return the plug of a method.

    Raises:
        UnknownNameError: No method has that name.
    """
    plug: MethodPlug = choose("method", name, METHODS)
    return plug


def all_weights(known: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of every loss term: the given one, or the default.

    Args:
        known: Default of each term.
        given: A recipe's.

    Raises:
        UnknownNameError: A weight of no such term.
    """
    for name in given:
        if name not in known:
            raise UnknownNameError("loss term", name, known)
    return {**known, **given}
