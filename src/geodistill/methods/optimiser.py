"""AdamW's parameter groups and the learning rate over the steps."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from geodistill.errors import RecipeError
from geodistill.nn.adapters import adapters_of

_BLOCK = re.compile(r"(?:^|\.)model\.blocks\.(\d+)\.")


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
        layer_decay: Of a plain vision transformer as encoder: factor of the learning rate from each block to the one
            before it, and to the last from what follows it.
    """

    lr: float = 6e-4
    encoder_lr: float | None = None
    weight_decay: float = 0.01
    decay_vectors: bool = False
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


def parameter_groups(network: nn.Module, encoder: nn.Module | None, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Sort trainable parameters by learning rate (encoder or not) and by decay.

    Vectors and scalars (norms, biases, layer scales, temperatures) decay only under ``decay_vectors``, and layer norms,
    position embeddings and relative position tables never.
    """
    in_encoder = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    if encoder is not None:
        in_encoder -= {id(p) for adapter in adapters_of(encoder) for p in adapter.parameters()}
    layer_norms = {
        id(p) for module in network.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()
    }
    factors = {} if config.layer_decay is None else layer_factors(encoder, config.layer_decay)
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
    blocks = {name: int(found[1]) + 1 for name, _ in named if (found := _BLOCK.search(name))}
    if not blocks:
        raise RecipeError(
            "optimizer.layer_decay without a plain vision transformer", "an encoder such as vit_base_patch16_224"
        )
    last = max(blocks.values()) + 1
    first = ("patch_embed", "pos_embed", "cls_token", "reg_token", "norm_pre")
    layers = {name: blocks.get(name, 0 if any(word in name for word in first) else last) for name, _ in named}
    return {id(parameter): decay ** (last - layers[name]) for name, parameter in named}
