"""KDA's phase 1: a light encoder learns a frozen teacher's features against a discriminator, without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.methods.kda.stability import CollapseWatch, MapStatistics, ScoreStatistics
from geodistill.methods.kda.training import DistilPhase
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.methods.task import Phase, leave_encoder, parameter_groups, refuse_infinite
from geodistill.methods.teacher import FrozenTeacher
from geodistill.nn.alignment import FAM, map_grids, pair_levels
from geodistill.nn.discriminator import FeatureDiscriminator
from geodistill.nn.encoders import Encoder, build_encoder
from geodistill.nn.feature_losses import feature_kd
from geodistill.nn.losses import TargetNormaliser, explained_variance, kl, mse
from geodistill.nn.output import Normalised
from geodistill.nn.weighting import Weighting, build_weighting
from geodistill.spec import Spec


class DistilledEncoder(nn.Module):
    """The student's encoder with what brings its maps to the teacher's.

    The last map passes a 1x1 convolution only where its channels are not the teacher's, then is interpolated to the
    grid at which it is compared. The levels before it pass FAM, where they are asked for.

    Args:
        encoder: The student's encoder.
        teacher_channels: Channels of each teacher level.
        teacher_strides: Stride of each.
        levels: Whether the levels before the last are aligned too.
        grid: Side of the grid of the last map; the teacher's own where not given.

    Raises:
        RecipeError: They are, and none of them meets one of the teacher's.
    """

    def __init__(
        self,
        encoder: Encoder,
        teacher_channels: Sequence[int],
        teacher_strides: Sequence[int],
        levels: bool,
        grid: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self._grid = encoder, grid
        channels, target = encoder.channels[-1], teacher_channels[-1]
        self.project = nn.Identity() if channels == target else nn.Conv2d(channels, target, 1)
        last = len(teacher_strides) - 1
        pairs = pair_levels(encoder.strides, teacher_strides) if levels else []
        self.pairs = [(s, t) for s, t in pairs if t != last]
        if levels and not self.pairs:
            raise RecipeError(
                f"losses.phase.weights.feature with student maps at strides {list(encoder.strides)} and teacher maps "
                f"at {list(teacher_strides)}",
                "levels before the last in common",
                "choose levels with teacher.indices, or set the factor of 'feature' to 0",
            )
        self.fam = (
            FAM([encoder.channels[s] for s, _ in self.pairs], [teacher_channels[t] for _, t in self.pairs])
            if levels
            else None
        )
        self._strides = list(teacher_strides)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``(B, C, H, W)`` normalised -> O_S, the last map like the teacher's, and the levels before it like theirs."""
        maps = self.encoder(image)
        height, width = image.shape[-2:]
        grids = map_grids(height, width, self._strides)
        o_s = to_grid(self.project(maps[-1]), grids[-1] if self._grid is None else (self._grid, self._grid))
        # Zero with a graph, so that every parameter has a gradient at every step, as DDP asks.
        o_s = o_s + 0.0 * torch.stack([level.sum() for level in maps]).sum()
        if self.fam is None:
            return o_s, []
        return o_s, self.fam([maps[s] for s, _ in self.pairs], [grids[t] for _, t in self.pairs])


def to_grid(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, C, *grid)``, bilinear with aligned corners, as the released code has it."""
    if maps.shape[-2:] == grid:
        return maps
    return F.interpolate(maps, grid, mode="bilinear", align_corners=True)


class DistilTask(Phase):
    """Trains a `DistilledEncoder` against a discriminator.

    The student S and the discriminator D share the loss of Eq. 3, 0.4 MSE(D_T, D_S) + 0.6 KL(O_T, O_S), of which D
    raises the first term (Eq. 2) and has no part in the second. One backward pass serves both sides: the gradients of
    D's parameters are reversed, see `FeatureDiscriminator`. AdamW treats each parameter by itself, so one optimiser
    with a group for each side is the published pair; a step also stays a step, for the resume point and for the draws.

    The teacher and the discriminator's frozen encoder are kept outside the module tree.

    Args:
        encoder: The student's encoder; shared with the network that labels train later.
        teacher: Gives the targets.
        config: Length, rates and terms.
        spec: Bands and normalisation.

    Raises:
        RecipeError: Student and teacher cannot be aligned, or a setting is out of its range.
        UnknownNameError: No such term, form, encoder or weighting.
        ArtifactError: The discriminator's weights are not available.
    """

    def __init__(self, encoder: Encoder, teacher: FrozenTeacher, config: DistilPhase, spec: Spec) -> None:
        super().__init__()
        self.name, self.steps = "distil", config.steps
        self.factors = config.factors()
        self.spec = spec
        self._config, self._teacher = config, teacher
        self._encoder = (encoder,)  # in a tuple: it is registered once, inside the network
        levels = self.factors["feature"] > 0
        part = DistilledEncoder(encoder, teacher.channels, teacher.strides, levels, config.grid)
        self.network = Normalised(spec.mean, spec.std, part)
        self.pairs, self._last = part.pairs, len(teacher.channels) - 1
        teacher.ask([*(t for _, t in part.pairs), self._last])
        self.discriminator: FeatureDiscriminator | None = None
        if self.factors["adversarial"] > 0:
            other = config.discriminator
            frozen = build_encoder(other.encoder, 3, other.weights)
            self.discriminator = FeatureDiscriminator(teacher.channels[-1], frozen, other.form, other.width)
        self._norm = TargetNormaliser(config.target_norm, teacher.channels[-1])
        self.statistics = self._norm.statistics if self._norm.measures else None  # a submodule: saved and moved
        self.weighting = build_weighting(config.weighting, tuple(self.factors))
        self._watch = CollapseWatch(config.patience)

    def on_fit_start(self) -> None:
        """Bring what is frozen to this process's device."""
        self._teacher.to(self.device)
        if self.discriminator is not None:
            self.discriminator.place(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Match one batch's targets (Eq. 2-3).

        Raises:
            TrainingError: A term is not finite, or the student's features have collapsed.
        """
        targets = self._teacher.targets(batch).features
        self._norm.update(targets[self._last])
        o_t = self._norm(targets[self._last])
        if self._config.grid is not None:
            o_t = to_grid(o_t, (self._config.grid, self._config.grid))
        o_s, aligned = self.network(batch["image"].contiguous(memory_format=torch.channels_last))
        # Eq. 3, whose factors are `DISTIL_WEIGHTS`: L_KLDiv(O_T, O_S) ...
        terms = {"kl": kl(o_s, o_t, self._config.kl_axis, "mean", self._config.temperature)}
        scores: ScoreStatistics | None = None
        if self.discriminator is not None:
            d_t, d_s = self.discriminator.compare(o_t, o_s)
            terms["adversarial"] = mse(d_t, d_s)  # ... and L_MSE(D_T, D_S), which D raises (Eq. 2) and S lowers
            scores = ScoreStatistics.of(d_t, d_s)
        if aligned:
            terms["feature"] = feature_kd(aligned, [targets[t] for _, t in self.pairs])
        mend = ", lower losses.phase.lr or set losses.phase.clip_norm"
        refuse_infinite(terms, f"distillation step {self.global_step}", batch["key"], mend)
        self._watch_over(o_s, o_t, scores, len(batch["key"]))
        shared = [p for p in self._encoder[0].parameters() if p.requires_grad]
        total: Tensor = self.weighting(terms, self.factors, shared)
        self._log_terms(terms, total, len(batch["key"]))
        return total

    def _watch_over(self, o_s: Tensor, o_t: Tensor, scores: ScoreStatistics | None, size: int) -> None:
        """Log the state of both sides, and call a collapse by its name."""
        student, teacher = MapStatistics.of(o_s), MapStatistics.of(o_t)
        figures = {
            "student_mean": student.mean,
            "student_deviation": student.deviation,
            "student_size": student.size,
            "student_diversity": student.diversity,
            "teacher_deviation": teacher.deviation,
            "teacher_size": teacher.size,
            "teacher_diversity": teacher.diversity,
            # Of what differs between channels: a divergence over channels leaves each position's mean free.
            "r2": float(explained_variance(_centred(o_s.detach()), _centred(o_t))),
        }
        if scores is not None:
            figures |= {
                "discriminator_accuracy": scores.accuracy,
                "score_distance": scores.distance,
                "score_spread": scores.spread,
            }
        for name, value in figures.items():
            self.log(f"distil/{name}", value, batch_size=size)
        self._watch.look(self.global_step, student, teacher, scores)

    def _log_terms(self, terms: dict[str, Tensor], total: Tensor, size: int) -> None:
        for name, term in terms.items():
            self.log(f"distil/{name}", term.detach(), batch_size=size)
        if type(self.weighting) is not Weighting:
            for name, factor in self.weighting.factors.items():
                self.log(f"distil/weight_{name}", factor, batch_size=size)
        self.log("distil/loss", total.detach(), prog_bar=True, batch_size=size)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Log each side's gradient norm, and clip each for itself where asked for."""
        for name, side in (("student", self.network), ("discriminator", self.discriminator)):
            if side is not None:
                most = math.inf if self._config.clip_norm is None else self._config.clip_norm
                norm = torch.nn.utils.clip_grad_norm_(side.parameters(), most)
                self.log(f"distil/gradient_{name}", norm)

    def configure_optimizers(self) -> Any:
        """AdamW over both sides and the weighting, each with its rate and a cosine to its end at the last step."""
        config, epoch = self._config, self._config.epoch_steps
        sides: list[tuple[nn.Module, float, float]] = [(self.network, config.lr, config.end_lr)]
        if self.discriminator is not None:
            sides.append((self.discriminator, config.discriminator_lr, config.discriminator_end_lr))
        groups: list[dict[str, Any]] = []
        shapes: list[Any] = []
        for side, start, end in sides:
            of_side = parameter_groups(side, None, OptimizerConfig(lr=start, weight_decay=config.weight_decay))
            groups += of_side
            cosine = ScheduleConfig("cosine", hold_steps=epoch, end_lr_factor=end / start).factor
            shapes += [partial(cosine, max_steps=self.steps - epoch)] * len(of_side)  # the last epoch has the end
        factors = self.weighting.parameter_groups()
        optimizer = torch.optim.AdamW(groups + factors)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shapes + [lambda step: 1.0] * len(factors))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def finish(self, run: Path) -> None:
        """Leave the encoder in ``run/encoder``, as `read_weights` reads it."""
        leave_encoder(run, self._encoder[0], self.spec)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add how long a collapse has lasted."""
        checkpoint["watch"] = self._watch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self._watch.load_state_dict(checkpoint["watch"])


def _centred(maps: Tensor) -> Tensor:
    return maps.float() - maps.float().mean(1, keepdim=True)
