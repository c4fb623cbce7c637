"""The training tasks: a network on labels, with named loss terms; and what a method may train before that."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import lightning
import torch
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError, TrainingError
from geodistill.files import atomic_path
from geodistill.lazy import load
from geodistill.methods.method import Method
from geodistill.methods.schema import OptimizerConfig, ScheduleConfig
from geodistill.metrics import ConfusionMatrix
from geodistill.nn.losses import gradient_norms, weighted_sum
from geodistill.nn.output import Normalised, SegmentationOutput
from geodistill.spec import Spec

if TYPE_CHECKING:
    from geodistill.data.mix_images import Mixing
    from geodistill.methods.freezing import Freezing
    from geodistill.nn.averaging import AveragedNetwork
    from geodistill.nn.encoders import Encoder
    from geodistill.nn.weighting import Weighting

_BLOCK = re.compile(r"(?:^|\.)(?:model\.blocks|positions)\.(\d+)\.")  # BEiT's positions are a block's too


class Phase(lightning.LightningModule):
    """A training task of its own that runs before the main one, on the same data.

    Attributes:
        name: For the progress line.
        steps: Its length in optimiser steps.
    """

    name: str
    steps: int

    def finish(self, run: Path) -> None:
        """Leave in a run's directory what the phase made, beside the checkpoints; nothing here."""


def leave_encoder(run: Path, encoder: Encoder, spec: Spec) -> None:
    """Write the encoder that a phase trained into ``run/encoder``, as `read_weights` reads it, where it is not yet."""
    folder = run / "encoder"
    if not folder.is_dir():
        with atomic_path(folder) as part:
            encoder.write(part, spec.bands, spec.mean, spec.std)


def refuse_infinite(terms: Mapping[str, Tensor], step: str, keys: Sequence[str], mend: str) -> None:
    """Refuse loss terms that are not finite; ``mend`` is what helps beside a look at the samples of these ``keys``.

    Raises:
        TrainingError: One is not; the message names the term, the step and the samples.
    """
    for name, term in terms.items():
        if not torch.isfinite(term):
            raise TrainingError(
                f"loss term '{name}' is {float(term.detach())} at {step} on {', '.join(keys)}",
                "a finite number",
                f"check these samples{mend}",
            )


class SegmentationTask(lightning.LightningModule):
    """Trains the network of a `Method` on batches of samples.

    The objective, and with it any frozen teacher, is kept outside the module tree: out of the optimiser, of DDP
    and of the checkpoint (only the objective's own small state, such as running statistics, is saved). Its adapters
    and the weighting of its terms are trained and saved here, beside the network.

    Args:
        method: Network, rebuild arguments and objective.
        spec: Classes, bands and normalisation.
        optimizer: AdamW settings.
        schedule: Of the learning rate.
        max_steps: Length of the run, for the schedule.
        gradient_norms_every: Log each term's gradient norm on the encoder every so many steps; 0 never.
        sets: Spec of each data set by name, where the network learns several at once; batches then say by ``set``
            which they are of.
        average: Makes the average of the weights that follows them, see `AveragedNetwork`; none where not given.
        mixing: How images of a batch are mixed, see `Mixing`.

    Attributes:
        averaged: The network with the averaged weights, or ``None``.
        sets: As given, or the one Spec under an empty name.
        set_miou: Validation mIoU in 0..1 of each set at the last validation, of the better of the two weights.

    Raises:
        RecipeError: The encoder cannot stand still, as `optimizer.freeze` asks.
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
        average: Callable[[nn.Module], AveragedNetwork] | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        super().__init__()
        # Channels-last is the faster layout of convolutions on CPUs and GPUs alike.
        self.network = Normalised(spec.mean, spec.std, method.network).to(memory_format=torch.channels_last)
        self.adapters = method.adapters
        self.weighting = cast("Weighting | None", method.weighting)
        self.spec = spec
        self._method = method
        self._optimizer, self._schedule = optimizer, schedule
        self._max_steps, self._norms_every = max_steps, gradient_norms_every
        self.sets = dict(sets or {"": spec})
        self.averaged = None if average is None else average(self.network)
        # Large, and alike in all processes anyway: DDP need not send it round before every step.
        self._ddp_params_and_buffers_to_ignore = ["averaged.checkpoints"]
        for teacher in method.teachers.values():
            teacher.follow(self.averaged)
        self.set_miou: dict[str, float] = {}
        self._mixing = mixing
        self._freezing: Freezing | None = None
        if frozen := round(optimizer.freeze * max_steps):
            self._freezing = load("geodistill.methods.freezing:Freezing")(method, frozen)
        self._confusions = self._empty_confusions()

    def forward(self, batch: Batch) -> SegmentationOutput:
        """Images in sensor units, with what the network takes beside them -> its output."""
        return self._forward(self.network, batch)

    def _forward(self, network: nn.Module, batch: Batch) -> SegmentationOutput:
        context = {name: value.to(self.device) for name, value in self._method.context(batch).items()}
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        output: SegmentationOutput = network(image, **context)
        return output

    def on_fit_start(self) -> None:
        """Bring the teacher to this process's device."""
        self._method.objective.to(self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Hold the encoder still, or let it go."""
        if self._freezing is not None:
            self._freezing(self.global_step)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Take a step, and move the averaged weights along."""
        super().optimizer_step(*arguments, **options)
        if self.averaged is not None:
            self.averaged.update(self.network)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum the weighted terms of one batch.

        Raises:
            TrainingError: A term is not finite; the message names the term and the samples.
        """
        objective, step = self._method.objective, self.global_step
        batch = objective.prepare(batch)
        batch = batch if self._mixing is None else self._mixing(batch)
        output = self(batch)
        terms = objective(output, batch, step)
        weights = {name: objective.weight(name, step) for name in terms}
        refuse_infinite(terms, f"step {step}", batch["key"], ", lower optimizer.lr or set optimizer.clip_norm")
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), batch_size=len(batch["key"]))
        shared = self._shared_parameters()
        if self.weighting is None:
            total, factors = weighted_sum(terms, weights), dict[str, Any](weights)
        else:
            total, factors = self.weighting(terms, weights, shared), dict[str, Any](self.weighting.factors)
        self.log("train/loss", total.detach(), prog_bar=True, batch_size=len(batch["key"]))
        if self.weighting is not None:
            for name, factor in factors.items():
                self.log(f"weight/{name}", factor)
        if self._norms_every and step % self._norms_every == 0:
            for name, norm in gradient_norms(terms, shared).items():
                self.log(f"gradient/{name}", factors[name] * norm)
        return total

    def network_weights(self, state: Mapping[str, Tensor] | None = None, averaged: bool = False) -> dict[str, Tensor]:
        """Return the network's weights on the CPU, by its own names.

        Args:
            state: Result of `state_dict`, such as a checkpoint's; the task's present one where not given.
            averaged: The averaged weights, which there must be.
        """
        prefix = f"{'averaged.' if averaged else ''}network.network."  # this task's, then `Normalised`'s
        tensors = self.state_dict() if state is None else state
        return {k.removeprefix(prefix): v.detach().cpu() for k, v in tensors.items() if k.startswith(prefix)}

    def _shared_parameters(self) -> list[nn.Parameter]:
        encoder = getattr(self._method.network, "encoder", self._method.network)
        return [parameter for parameter in encoder.parameters() if parameter.requires_grad]

    def _empty_confusions(self) -> list[list[ConfusionMatrix]]:
        """Return a fresh confusion matrix for each set, of the weights and of the averaged ones where there are any."""
        weights = 1 if self.averaged is None else 2
        return [[ConfusionMatrix(spec.classes) for spec in self.sets.values()] for _ in range(weights)]

    def on_validation_epoch_start(self) -> None:
        """Begin a fresh confusion matrix for each set."""
        self._confusions = self._empty_confusions()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Count predictions against labels; return the predictions ``(B, H, W)`` int64 to callbacks.

        Where there are several sets, a batch is of one of them.
        """
        position = int(batch["set"][0]) if "set" in batch else 0
        outputs = [self(batch)]
        if self.averaged is not None:
            outputs.append(self._forward(self.averaged, batch))
        for output, confusions in zip(outputs, self._confusions, strict=True):
            confusions[position].update(output.logits.argmax(1).cpu().numpy(), batch["mask"].cpu().numpy())
        prediction: Tensor = outputs[0].logits.argmax(1)
        return prediction

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and OA over the whole validation split, summed over processes; the means over the sets.

        ``val/miou`` and ``val/oa`` are of the weights as they are, ``val/miou_ema`` and ``val/oa_ema`` of the averaged
        ones.
        """
        scores_by_weights = [self._measured(confusions) for confusions in self._confusions]
        means = [
            [sum(scores[part] for scores in each.values()) / len(each) if each else math.nan for part in (0, 1)]
            for each in scores_by_weights
        ]
        averaged_wins = len(means) > 1 and means[1][0] > means[0][0]
        self.set_miou = {name: miou for name, (miou, _) in scores_by_weights[int(averaged_wins)].items()}
        for name, (miou, _) in scores_by_weights[0].items():
            if name:
                self.log(f"val/{name}.miou", miou, sync_dist=False)
        for mean, suffix in zip(means, ("", "_ema"), strict=False):
            self.log(f"val/miou{suffix}", mean[0], prog_bar=not suffix, sync_dist=False)
            self.log(f"val/oa{suffix}", mean[1], sync_dist=False)

    def _measured(self, confusions: list[ConfusionMatrix]) -> dict[str, tuple[float, float]]:
        """Return mIoU and OA of each set by name, over all processes."""
        measured: dict[str, tuple[float, float]] = {}
        for (name, spec), confusion in zip(self.sets.items(), confusions, strict=True):
            counts = torch.from_numpy(confusion.counts.copy()).to(self.device)
            if self.trainer.world_size > 1:
                counts = self.trainer.strategy.reduce(counts, reduce_op="sum")
            total = ConfusionMatrix(spec.classes)
            total.counts += counts.cpu().numpy()
            scores = total.scores(spec.legend)
            if len(self.sets) == 1 or scores.support.sum():  # a set may have no validation images
                measured[name] = (float(scores.miou), float(scores.oa))
        return measured

    def configure_optimizers(self) -> Any:
        """AdamW over `parameter_groups`, its rate set at every step by the schedule."""
        trained = nn.ModuleList([self.network, *([] if self.adapters is None else [self.adapters])])
        groups = parameter_groups(trained, getattr(self._method.network, "encoder", None), self._optimizer)
        groups += [] if self.weighting is None else self.weighting.parameter_groups()
        optimizer = torch.optim.AdamW(groups, betas=self._optimizer.betas)
        rate = partial(self._schedule.factor, max_steps=self._max_steps)
        shapes: list[Any] = [partial(rate, encoder=bool(group.get("encoder"))) for group in groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shapes)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the objective's own state, and each set's score, which the best weights keep."""
        checkpoint["objective"] = self._method.objective.state_dict()
        checkpoint["set_miou"] = dict(self.set_miou)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the objective's own state back."""
        self._method.objective.load_state_dict(checkpoint["objective"])


def parameter_groups(network: nn.Module, encoder: nn.Module | None, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort trainable parameters by learning rate (encoder or not) and by decay.

    Vectors and scalars (norms, biases, layer scales, temperatures) decay only under ``decay_vectors``, and layer norms,
    position embeddings and relative position tables never.
    """
    in_encoder = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    if encoder is not None and "adapters=" in str(getattr(encoder, "name", "")):
        adapters = load("geodistill.nn.adapters:adapters_of")(encoder)
        in_encoder -= {id(p) for adapter in adapters for p in adapter.parameters()}
    in_encoder -= {id(p) for name, p in network.named_parameters() if ".lora_" in name}  # as new as an adapter
    layer_norms = {
        id(p) for module in network.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()
    }
    factors = {} if config.layer_decay is None else layer_factors(encoder, config.layer_decay)
    for module in network.modules():  # a decoder with a rate of its own
        if (rate := getattr(module, "lr_factor", None)) is not None:
            factors |= {id(parameter): rate for parameter in module.parameters()}
    undecayed = ("pos_embed", "position", "cls_token", "relative_position", "reg_token")
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            vector = parameter.ndim <= 1 and not (config.decay_vectors and id(parameter) not in layer_norms)
            decays = not vector and not any(word in name for word in undecayed)
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
    """Return the factor of each of an encoder's parameters, by identity (Clark et al. 2020; BEiT's counting).

    The blocks count from 1, what comes before them is 0, and what comes after the last one more than it.

    Raises:
        RecipeError: The encoder has no blocks in a row.
    """
    named = [] if encoder is None else list(encoder.named_parameters())
    blocks = {name: int(match[1]) + 1 for name, _ in named if (match := _BLOCK.search(name))}
    if not blocks:
        raise RecipeError(
            "optimizer.layer_decay without a plain vision transformer", "an encoder such as vit_base_patch16_224"
        )
    last = max(blocks.values()) + 1
    first = ("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")
    layers = {name: blocks.get(name, 0 if any(word in name for word in first) else last) for name, _ in named}
    return {id(parameter): decay ** (last - layers[name]) for name, parameter in named}
