"""The shared training task: one network, named loss terms, optimiser groups and a learning-rate schedule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn

from geodistill.data.sample import Batch
from geodistill.errors import RecipeError, TrainingError
from geodistill.methods.method import Method
from geodistill.metrics import ConfusionMatrix
from geodistill.nn.losses import gradient_norms
from geodistill.nn.normalise import Normalised
from geodistill.nn.output import SegmentationOutput
from geodistill.nn.weighting import Weighting
from geodistill.spec import Spec

_BLOCK = re.compile(r"(?:^|\.)model\.blocks\.(\d+)\.")


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with parameter groups.

    Attributes:
        lr: Learning rate.
        encoder_lr: Learning rate of the encoder; `lr` where not given.
        weight_decay: Decay of weight matrices and kernels; norms, biases, positions and scales never decay.
        betas: AdamW's two moment factors.
        clip_norm: Largest L2 norm of the whole gradient; no clipping where not given.
        layer_decay: Of a plain vision transformer as encoder: factor of the learning rate from each block to the one
            before it, and to the last from what follows it.
    """

    lr: float = 6e-4
    encoder_lr: float | None = None
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float | None = None
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise RecipeError(f"optimizer.layer_decay {self.layer_decay}", "a factor above 0, at most 1")


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate over the steps: linear warm-up, then decay to `end_lr_factor` of the peak.

    Attributes:
        kind: Shape of the decay.
        warmup_steps: Steps of linear warm-up.
        warmup_start: Factor of the peak at step 0 of the warm-up.
        power: Exponent of the ``poly`` decay.
        end_lr_factor: Factor of the peak at the last step.
        cycles: Times that the decay runs, from the peak each time and twice as long as the time before: cosine with
            warm restarts where the kind is ``cosine``.
        hold_steps: Steps that the decay holds each value: those of an epoch where it was published by epochs.
        encoder_end_lr_factor: As `end_lr_factor`, for the encoder; the same where not given.
    """

    kind: Literal["poly", "cosine", "constant"] = "poly"
    warmup_steps: int = 0
    warmup_start: float = 1e-3
    power: float = 0.9
    end_lr_factor: float = 0.0
    cycles: int = 1
    hold_steps: int = 1
    encoder_end_lr_factor: float | None = None

    def __post_init__(self) -> None:
        if self.cycles < 1 or self.hold_steps < 1:
            raise RecipeError(f"schedule.cycles {self.cycles}, hold_steps {self.hold_steps}", "1 or more")

    def factor(self, step: int, max_steps: int, encoder: bool = False) -> float:
        """Give the learning rate at ``step`` (from 0) as a factor of its peak."""
        if step < self.warmup_steps:
            return self.warmup_start + (1 - self.warmup_start) * step / self.warmup_steps
        held = (step - self.warmup_steps) // self.hold_steps * self.hold_steps
        done = min(held / max(max_steps - self.warmup_steps, 1), 1)
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


def parameter_groups(network: nn.Module, encoder: nn.Module | None, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort trainable parameters by learning rate (encoder or not) and by decay.

    Vectors and scalars (norms, biases, layer scales, temperatures), position embeddings and relative position
    tables never decay.
    """
    in_encoder = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    factors = {} if config.layer_decay is None else layer_factors(encoder, config.layer_decay)
    undecayed = ("pos_embed", "position", "cls_token", "relative_position", "reg_token")
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and not any(word in name for word in undecayed)
            key = (id(parameter) in in_encoder, decays, factors.get(id(parameter), 1.0))
            groups.setdefault(key, []).append(parameter)
    encoder_lr = config.lr if config.encoder_lr is None else config.encoder_lr
    return [
        {
            "params": parameters,
            "lr": factor * (encoder_lr if encoder_side else config.lr),
            "weight_decay": config.weight_decay if decays else 0.0,
            "encoder": encoder_side,
        }
        for (encoder_side, decays, factor), parameters in groups.items()
    ]


def layer_factors(encoder: nn.Module | None, decay: float) -> dict[int, float]:
    """Give the factor of each of an encoder's parameters, by identity (Clark et al. 2020; BEiT's counting).

    The blocks count from 1, what comes before them is 0, and what comes after the last one more than it.

    Raises:
        RecipeError: The encoder has no blocks in a row.
    """
    named = [] if encoder is None else list(encoder.named_parameters())
    blocks = {name: int(found[1]) + 1 for name, _ in named if (found := _BLOCK.search(name))}
    if not blocks:
        raise RecipeError(
            "optimizer.layer_decay without a plain vision transformer", "an encoder such as vit_base_patch16_224"
        )
    last = max(blocks.values()) + 1
    first = ("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")
    layers = {name: blocks.get(name, 0 if any(word in name for word in first) else last) for name, _ in named}
    return {id(parameter): decay ** (last - layers[name]) for name, parameter in named}


class SegmentationTask(lightning.LightningModule):
    """Trains the network of a `Method` on batches of samples.

    The objective, and with it any frozen teacher, is kept outside the module tree: out of the optimiser, of DDP
    and of the checkpoint (only the objective's own small state, such as running statistics, is saved). Its adapters
    and the weighting of its terms are trained and saved here, beside the network.

    Args:
        method: Network, rebuild arguments and objective.
        spec: Classes, bands and normalisation.
        optimizer: AdamW settings.
        schedule: Learning-rate schedule.
        max_steps: Length of the run, for the schedule.
        gradient_norms_every: Log each term's gradient norm on the encoder every so many steps; 0 never.
        sets: Spec of each data set by name, where the network learns several at once; batches then say by ``set``
            which they are of.

    Attributes:
        sets: As given, or the one Spec under an empty name.
        set_miou: Validation mIoU in 0..1 of each set at the last validation.
    """

    def __init__(
        self,
        method: Method,
        spec: Spec,
        optimizer: OptimizerConfig,
        schedule: ScheduleConfig,
        max_steps: int,
        gradient_norms_every: int = 0,
        sets: Mapping[str, Spec] | None = None,
    ) -> None:
        super().__init__()
        # Channels-last is the faster layout of convolutions on CPUs and GPUs alike.
        self.network = Normalised(spec.mean, spec.std, method.network).to(memory_format=torch.channels_last)
        self.adapters = method.adapters
        self.weighting = method.weighting or Weighting(tuple(method.objective.weights))
        self.spec = spec
        self._method = method
        self._optimizer, self._schedule = optimizer, schedule
        self._max_steps, self._norms_every = max_steps, gradient_norms_every
        self.sets = dict(sets or {"": spec})
        self.set_miou: dict[str, float] = {}
        self._confusions = [ConfusionMatrix(own.classes) for own in self.sets.values()]

    def forward(self, batch: Batch) -> SegmentationOutput:
        """Images in sensor units, with what the network takes beside them -> its output."""
        context = {name: value.to(self.device) for name, value in self._method.context(batch).items()}
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        output: SegmentationOutput = self.network(image, **context)
        return output

    def on_fit_start(self) -> None:
        """Bring the teacher to this process's device."""
        self._method.objective.to(self.device)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum the weighted terms of one batch.

        Raises:
            TrainingError: A term is not finite; the message names the term and the samples.
        """
        objective, step = self._method.objective, self.global_step
        output = self(batch)
        terms = objective(output, batch, step)
        weights = {name: objective.weight(name, step) for name in terms}
        for name, term in terms.items():
            if not torch.isfinite(term):
                raise TrainingError(
                    f"loss term '{name}' is {float(term)} at step {step} on {', '.join(batch['key'])}",
                    "a finite number",
                    "check these samples, lower optimizer.lr or set optimizer.clip_norm",
                )
            self.log(f"train/{name}", term.detach(), batch_size=len(batch["key"]))
        shared = self._shared_parameters()
        total: Tensor = self.weighting(terms, weights, shared)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch["key"]))
        factors = self.weighting.factors
        if type(self.weighting) is not Weighting:
            for name, factor in factors.items():
                self.log(f"weight/{name}", factor)
        if self._norms_every and step % self._norms_every == 0:
            for name, norm in gradient_norms(terms, shared).items():
                self.log(f"gradient/{name}", factors[name] * norm)
        return total

    def _shared_parameters(self) -> list[nn.Parameter]:
        encoder = getattr(self._method.network, "encoder", self._method.network)
        return [parameter for parameter in encoder.parameters() if parameter.requires_grad]

    def on_validation_epoch_start(self) -> None:
        """Begin a fresh confusion matrix a set."""
        self._confusions = [ConfusionMatrix(spec.classes) for spec in self.sets.values()]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Count predictions against labels; gives the predictions ``(B, H, W)`` int64 to callbacks.

        Where there are several sets, a batch is of one of them.
        """
        prediction: Tensor = self(batch).logits.argmax(1)
        position = int(batch["set"][0]) if "set" in batch else 0
        self._confusions[position].update(prediction.cpu().numpy(), batch["mask"].cpu().numpy())
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and OA over the whole validation split, summed over processes; the means over the sets."""
        found: dict[str, tuple[float, float]] = {}
        for (name, spec), confusion in zip(self.sets.items(), self._confusions, strict=True):
            counts = torch.from_numpy(confusion.counts.copy()).to(self.device)
            if self.trainer.world_size > 1:
                counts = self.trainer.strategy.reduce(counts, reduce_op="sum")
            total = ConfusionMatrix(spec.classes)
            total.counts += counts.cpu().numpy()
            scores = total.scores(spec.legend)
            if len(self.sets) == 1 or scores.support.sum():  # a set may have no validation images
                found[name] = (float(scores.miou), float(scores.oa))
        self.set_miou = {name: miou for name, (miou, _) in found.items()}
        for name, miou in self.set_miou.items():
            if name:
                self.log(f"val/{name}.miou", miou, sync_dist=False)
        for position, name in enumerate(("val/miou", "val/oa")):
            mean = sum(scores[position] for scores in found.values()) / len(found) if found else math.nan
            self.log(name, mean, prog_bar=position == 0, sync_dist=False)

    def configure_optimizers(self) -> Any:
        """AdamW over `parameter_groups`, its rate set at every step by the schedule."""
        trained = nn.ModuleList([self.network, *([] if self.adapters is None else [self.adapters])])
        groups = parameter_groups(trained, getattr(self._method.network, "encoder", None), self._optimizer)
        groups += self.weighting.parameter_groups()
        optimizer = torch.optim.AdamW(groups, betas=self._optimizer.betas)
        shapes: list[Any] = [partial(self._rate_factor, encoder=bool(group.get("encoder"))) for group in groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shapes)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate_factor(self, step: int, encoder: bool) -> float:
        return self._schedule.factor(step, self._max_steps, encoder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the objective's own state, and each set's score, which the best weights keep."""
        checkpoint["objective"] = self._method.objective.state_dict()
        checkpoint["set_miou"] = dict(self.set_miou)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the objective's own state back."""
        self._method.objective.load_state_dict(checkpoint["objective"])
