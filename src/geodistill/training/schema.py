"""What a recipe of each method holds: typed, flat, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from geodistill.data.data_config import DataConfig, SetsConfig
from geodistill.methods import kda, ktda, maflnet, metasegnet, sep, supervised
from geodistill.methods.task import OptimizerConfig, ScheduleConfig
from geodistill.methods.teacher import TeacherConfig


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
class BaseRecipe:
    """What recipes of every method hold, in this order; each method narrows what is its own."""

    method: str = ""
    init: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    network: Any = None
    losses: Any = None
    teacher: TeacherConfig | None = None
    teachers: dict[str, TeacherConfig] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


@dataclass(frozen=True)
class SupervisedRecipe(BaseRecipe):
    """A network trained on labels alone."""

    method: Literal["supervised"] = "supervised"
    network: supervised.NetworkConfig = field(default_factory=supervised.NetworkConfig)
    losses: supervised.LossConfig = field(default_factory=supervised.LossConfig)


@dataclass(frozen=True)
class KtdaRecipe(BaseRecipe):
    """KTDA: a frozen encoder's features transferred into a student."""

    method: Literal["ktda"] = "ktda"
    preset: Literal["coherent", "reference"] = "coherent"
    network: ktda.NetworkConfig = field(default_factory=ktda.NetworkConfig)
    losses: ktda.LossConfig = field(default_factory=ktda.LossConfig)
    teacher: ktda.TeacherConfig = field(default_factory=ktda.TeacherConfig)


@dataclass(frozen=True)
class KdaRecipe(BaseRecipe):
    """KDA: an encoder that learns a teacher's features against a discriminator, then a decoder on labels."""

    method: Literal["kda"] = "kda"
    preset: Literal["coherent", "printed"] = "coherent"
    network: kda.NetworkConfig = field(default_factory=kda.NetworkConfig)
    losses: kda.LossConfig = field(default_factory=kda.LossConfig)


@dataclass(frozen=True)
class MaflnetRecipe(BaseRecipe):
    """SAM2-MAFLNet, teacher or student."""

    method: Literal["maflnet"] = "maflnet"
    preset: Literal["coherent", "reference"] = "coherent"
    network: maflnet.NetworkConfig = field(default_factory=maflnet.NetworkConfig)
    losses: maflnet.LossConfig = field(default_factory=maflnet.LossConfig)


@dataclass(frozen=True)
class MetaSegNetRecipe(BaseRecipe):
    """MetaSegNet: where an image was taken becomes text, which helps to say what is in it."""

    method: Literal["metasegnet"] = "metasegnet"
    network: metasegnet.NetworkConfig = field(default_factory=metasegnet.NetworkConfig)
    text: metasegnet.TextConfig = field(default_factory=metasegnet.TextConfig)
    losses: metasegnet.LossConfig = field(default_factory=metasegnet.LossConfig)


@dataclass(frozen=True)
class SepRecipe(BaseRecipe):
    """SEP: one network learns several data sets at once, a head for each; or is fine-tuned on one."""

    method: Literal["sep"] = "sep"
    data: SetsConfig = field(default_factory=SetsConfig)
    network: sep.NetworkConfig = field(default_factory=sep.NetworkConfig)
    losses: sep.LossConfig = field(default_factory=sep.LossConfig)


Recipe = SupervisedRecipe | KtdaRecipe | KdaRecipe | MaflnetRecipe | MetaSegNetRecipe | SepRecipe
"""A recipe of any method.

``init`` names a trained Segmenter whose weights the run begins with, all but the heads; see `geodistill.training.init`.
"""

METHODS: dict[str, tuple[type[Any], ModuleType]] = {
    "supervised": (SupervisedRecipe, supervised),
    "ktda": (KtdaRecipe, ktda),
    "kda": (KdaRecipe, kda),
    "maflnet": (MaflnetRecipe, maflnet),
    "metasegnet": (MetaSegNetRecipe, metasegnet),
    "sep": (SepRecipe, sep),
}
