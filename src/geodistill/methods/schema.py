"""What a recipe of any method can set, with all defaults; a method narrows `Recipe` and `CommonLosses`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from geodistill.data.data_config import DataConfig
from geodistill.errors import RecipeError
from geodistill.methods.method import DEFAULT_TEACHER, LOGIT_LOSSES, PSEUDO
from geodistill.methods.teacher import TeacherConfig
from geodistill.spec import check_scales

Preset = Literal["coherent", "printed", "released"]
"""Where paper and released code differ: the variant that makes sense, the paper as printed, the code as released.

A method's presets are choices of form, as of network and losses; rates, batch sizes and lengths stand in recipes.
"""

OF_CACHE = ("cache_gb", "cache_storage", "views")
"""Fields of a teacher that only its cache looks at."""

Stage = Literal["phase", "labels"]
"""A part of a run: the method's own phase without labels, or the steps on labels."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with parameter groups.

    Attributes:
        lr: Learning rate.
        encoder_lr: Learning rate of the encoder, adapters in it excepted, which are new; `lr` where not given.
        weight_decay: Decay of weight matrices and kernels; norms, biases, positions and scales never decay.
        decay_vectors: Decay biases, layer scales and batch norms too, as mmseg's recipes do; layer norms and positions
            never do.
        betas: AdamW's two moment factors.
        clip_norm: Largest L2 norm of the whole gradient; no clipping where not given.
        lr_batch: Samples of a step, of all processes, that the rates go with; they stay as they are where not given.
        layer_decay: Of a plain vision transformer as encoder: factor of the learning rate from each block to the one
            before it, and to the last from what follows it.
        freeze: Share of the steps on labels, the first ones, in which the encoder stands still, batch norm statistics
            too; then it learns at `encoder_lr`.
    """

    lr: float = 6e-4
    encoder_lr: float | None = None
    weight_decay: float = 0.01
    decay_vectors: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None
    lr_batch: int | None = None
    layer_decay: float | None = None
    freeze: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.freeze <= 1:
            raise RecipeError(f"optimizer.freeze {self.freeze}", "a share from 0 to 1")
        least = {"lr": 0, "encoder_lr": 0, "weight_decay": 0, "clip_norm": 0, "lr_batch": 1}
        for name, bound in least.items():
            if (number := getattr(self, name)) is not None and number < bound:
                raise RecipeError(f"optimizer.{name} {number}", f"a number from {bound}")
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise RecipeError(f"optimizer.layer_decay {self.layer_decay}", "a factor above 0, at most 1")

    def for_batch(self, samples: int) -> OptimizerConfig:
        """Return the rates of steps of so many samples, as they stand: without `lr_batch`."""
        if self.lr_batch is None:
            return self
        encoder_lr = None if self.encoder_lr is None else self.encoder_lr * samples / self.lr_batch
        return replace(self, lr=self.lr * samples / self.lr_batch, encoder_lr=encoder_lr, lr_batch=None)


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the steps: linear warm-up, then decay to `end_lr_factor` of the peak.

    Attributes:
        kind: Shape of the decay.
        warmup_steps: Steps of linear warm-up.
        warmup_start: Factor of the peak at step 0 of the warm-up.
        power: Exponent of the ``poly`` decay.
        end_lr_factor: Factor of the peak once all steps are done; the last ones, held by `hold_steps`, are above it.
        cycles: Times that the decay runs, from the peak each time and twice as long as the time before: cosine with
            warm restarts where the kind is ``cosine``.
        decay_start: Step at which the decay begins, where that is not the end of the warm-up; inside the warm-up the
            two factors are multiplied.
        hold_steps: Steps that the decay holds each value: those of an epoch where it was published by epochs.
        encoder_end_lr_factor: As `end_lr_factor`, for the encoder; the same where not given.
    """

    kind: Literal["poly", "cosine", "constant"] = "poly"
    warmup_steps: int = 0
    warmup_start: float = 1e-3
    power: float = 0.9
    end_lr_factor: float = 0.0
    cycles: int = 1
    decay_start: int | None = None
    hold_steps: int = 1
    encoder_end_lr_factor: float | None = None

    def __post_init__(self) -> None:
        if self.cycles < 1 or self.hold_steps < 1:
            raise RecipeError(f"schedule.cycles {self.cycles}, hold_steps {self.hold_steps}", "1 or more")

    def idle_keys(self) -> dict[str, str]:
        """Return the recipe keys of the schedule that do nothing beside its other values, each with the reason."""
        idle = {} if self.warmup_steps else {"schedule.warmup_start": "schedule.warmup_steps is 0"}
        if self.kind != "poly":
            idle["schedule.power"] = f"schedule.kind is {self.kind}, not poly"
        if self.kind == "constant":
            of_decay = ("end_lr_factor", "encoder_end_lr_factor", "cycles", "decay_start", "hold_steps")
            idle |= {f"schedule.{name}": "schedule.kind is constant" for name in of_decay}
        return idle

    def factor(self, step: int, max_steps: int, encoder: bool = False) -> float:
        """Return the learning rate at ``step`` (from 0) as a factor of its peak."""
        warmed = min(step / self.warmup_steps, 1) if self.warmup_steps else 1.0
        warmup = self.warmup_start + (1 - self.warmup_start) * warmed
        start = self.warmup_steps if self.decay_start is None else self.decay_start
        reached = max(step - start, 0) // self.hold_steps * self.hold_steps
        done = min(reached / max(max_steps - start, 1), 1)
        return warmup * self._decay(done, encoder)

    def _decay(self, done: float, encoder: bool) -> float:
        """Return the decay's factor where a share of it is done."""
        left = 1 - (done if self.cycles == 1 else self._within_cycle(done))
        if self.kind == "poly":
            shape = float(left**self.power)
        elif self.kind == "cosine":
            shape = (1 - math.cos(math.pi * left)) / 2
        else:
            return 1.0
        end = self.encoder_end_lr_factor if encoder and self.encoder_end_lr_factor is not None else self.end_lr_factor
        return float(end + (1 - end) * shape)

    def _within_cycle(self, done: float) -> float:
        """Share of the running cycle that is done, of the whole decay's share."""
        first = 1 / (2**self.cycles - 1)  # lengths are first, 2 first, 4 first ... and fill the run
        # Rounding must not put a restart's first step at the end of the cycle before it.
        index = min(int(math.log2(done / first + 1 + 1e-9)), self.cycles - 1)
        return float(min(max((done / first + 1) / 2**index - 1, 0.0), 1.0))


@dataclass(frozen=True)
class TrainerConfig:
    """How long, how exact and on what.

    Attributes:
        max_steps: Optimiser steps on labels; 0 ends the run after the phase before them.
        val_every_steps: Steps between two looks at the validation split, of which one more is at the last step.
        patience: Looks without a better validation mIoU, as is or of `ema`, before the end; never where not given.
        precision: Lightning's name: ``32-true``, ``bf16-mixed`` or ``16-mixed``; ``auto`` is ``bf16-mixed`` where the
            device is faster in bfloat16, else ``32-true``.
        accelerator: ``auto``, ``cpu``, ``gpu`` ...
        devices: Number of processes, each with its device and its share of the batch.
        seed: Seed of weights, crops and dropout.
        gradient_norms_every: Log each loss term's gradient norm on the encoder every so many steps; 0 never.
        save_every_steps: Steps between two resume points.
        pictures: Validation images in the picture grid; 0 none.
        ema: Share of an average of the weights that stays at each step, such as 0.99: it follows the weights, is
            validated beside them, and the better of the two is kept. No average where not given.
        ema_warmup: The share that stays after ``t`` steps is at most ``(1 + t) / (ema_warmup + t)``: with 10 the
            average is of about the last ninth of the steps so far, with 4 of the last third, with 2 of all.
        average_last: In its place, the mean of the weights at so many resume points, in so many times their memory.
        accumulate: Batches whose gradients make one step; their mean counts each batch alike.
        predict_scales: Factors of an image's sides that the trained model, which keeps them, averages over: 0.75, 1 and
            1.5 take 3.8 times the time. Validation in the run has the image's own size alone.
        calibrate: Fit a temperature on the validation images at the end, which the model keeps: its confidence is then
            about how often it is right. Classes stay as they are. Class sets of a stated coverage are fitted too.
        max_hours: Longest time for the steps on labels, over all calls; the run ends with the weights it has then.
    """

    max_steps: int = 2000
    val_every_steps: int = 200
    patience: int | None = None
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    seed: int = 42
    gradient_norms_every: int = 0
    save_every_steps: int = 100
    pictures: int = 4
    ema: float | None = None
    ema_warmup: float = 10.0
    average_last: int | None = None
    accumulate: int = 1
    predict_scales: tuple[float, ...] = (1.0,)
    calibrate: bool = False
    max_hours: float | None = None

    def __post_init__(self) -> None:
        if self.ema_warmup < 2 or (self.ema is not None and not 0 < self.ema < 1):
            given = f"trainer.ema {self.ema}, ema_warmup {self.ema_warmup}"
            raise RecipeError(given, "a share above 0 and below 1, such as 0.99, and a number from 2")
        if self.average_last is not None and (self.average_last < 1 or self.ema is not None):
            raise RecipeError(f"trainer.average_last {self.average_last}, ema {self.ema}", "one of them, at least 1")
        check_scales(self.predict_scales, "trainer.predict_scales")
        if self.max_steps < 0 or self.accumulate < 1 or (self.max_hours is not None and self.max_hours <= 0):
            given = f"trainer.max_steps {self.max_steps}, accumulate {self.accumulate}, max_hours {self.max_hours}"
            raise RecipeError(given, "at least 0, at least 1, and above 0")


@dataclass(frozen=True, kw_only=True)
class CommonLosses:
    """What the losses of every method share; a method's own `LossConfig` adds its ``weights`` and choices.

    Attributes:
        weighting: What the factors of `weights` mean: ``fixed`` as they are; ``uncertainty`` learns each term's
            scale; ``gradient_balance`` brings each term's gradient on the encoder to the share its factor asks for.
        kd_temperature: Softmax temperature of the term ``kd``.
        cwd_temperature: Of ``cwd``.
        dist_temperature: Of ``dist_inter`` and ``dist_intra``.
        pseudo_labels: What the term ``pseudo`` learns of a teacher's classes of images without labels: its
            probabilities, ``soft``, or its class, ``hard``.
        pseudo_confidence: Least probability of a pixel's class for that, lower for classes of which the teacher is
            less sure; 0 takes every pixel.
        dist_warmup_steps: Steps in which the factors of these two rise from 0: correlations weigh most on a student
            whose probabilities hardly differ yet.
    """

    weighting: Literal["fixed", "uncertainty", "gradient_balance"] = "fixed"
    kd_temperature: float = 1.0
    cwd_temperature: float = 4.0
    dist_temperature: float = 1.0
    pseudo_labels: Literal["soft", "hard"] = "soft"
    pseudo_confidence: float = 0.0
    dist_warmup_steps: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.pseudo_confidence < 1:
            raise RecipeError(f"losses.pseudo_confidence {self.pseudo_confidence}", "a probability from 0, below 1")
        for name in ("kd_temperature", "cwd_temperature", "dist_temperature"):
            if getattr(self, name) <= 0:
                raise RecipeError(f"losses.{name} {getattr(self, name)}", "a number above 0")

    def idle_keys(self, weights: Mapping[str, float]) -> dict[str, str]:
        """Return the recipe keys of distillation terms that have no factor, each with the reason."""
        terms = {
            "kd_temperature": ("kd",),
            "cwd_temperature": ("cwd",),
            "dist_temperature": ("dist_inter", "dist_intra"),
            "dist_warmup_steps": ("dist_inter", "dist_intra"),
            "pseudo_labels": ("pseudo",),
            "pseudo_confidence": ("pseudo",),
        }
        used = {name.rpartition(".")[2] for name, weight in weights.items() if weight != 0}
        return {
            f"losses.{key}": f"losses.weights has no {' or '.join(names)}"
            for key, names in terms.items()
            if used.isdisjoint(names)
        }


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
        idle = {} if self.trainer.ema else {"trainer.ema_warmup": "trainer.ema is not given"}
        idle |= self.schedule.idle_keys() | self._idle_of_teacher()
        return idle | self.data.idle_keys() | dict(self.losses.idle_keys(self.losses.weights))

    def _idle_of_teacher(self) -> dict[str, str]:
        """Return what was changed of the teacher: a recipe without one has no values to compare with."""
        if self.teacher is None:
            return {}
        idle = {} if self.teacher.cache else dict.fromkeys(OF_CACHE, "teacher.cache is not given")
        asked = {name.removeprefix(f"{DEFAULT_TEACHER}.") for name, weight in self.losses.weights.items() if weight}
        if asked.isdisjoint({*LOGIT_LOSSES, PSEUDO}):
            idle["logits_stride"] = "losses.weights has no term on the teacher's logits"
        changed = [name for name in idle if getattr(self.teacher, name) != getattr(TeacherConfig, name)]
        return {f"{DEFAULT_TEACHER}.{name}": idle[name] for name in changed}

    def check_teachers(self, taught: str | None, cached: bool) -> None:
        """Refuse what the method cannot do beside a loss term that asks a teacher, or a cached teacher; nothing here.

        Raises:
            RecipeError: It is asked to.
        """

    def idle_of_encoder(self, reason: str) -> dict[str, str]:
        """Return the keys that do nothing for an encoder that never learns."""
        changed = {
            "optimizer.encoder_lr": self.optimizer.encoder_lr is not None,  # a rate may be taken away
            "optimizer.freeze": self.optimizer.freeze > 0,
            "optimizer.layer_decay": self.optimizer.layer_decay is not None,
            "schedule.encoder_end_lr_factor": self.schedule.encoder_end_lr_factor is not None,
            "losses.weighting": self.losses.weighting == "gradient_balance",
        }
        return {key: reason for key, given in changed.items() if given}

    def without_weights(self) -> Self:
        """Return the recipe with all but teachers randomly initialised, for figures that weights do not change."""
        return replace(self, network=replace(self.network, encoder_weights=None))

    def terms(self) -> list[str]:
        """Return the names of the method's own loss terms."""
        return list(type(self.losses)().weights)

    def frozen_parts(self) -> dict[str, int]:
        """Return the parameters of models that run before training alone, by what they are called."""
        return {}
