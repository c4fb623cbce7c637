"""Encoders: images in, one feature map a level out, whatever the architecture and the image size."""

from __future__ import annotations

import fnmatch
import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from geodistill.errors import ArtifactError, RecipeError, UnknownNameError, first_line
from geodistill.lazy import load
from geodistill.nn.bodies import FIXED_FAMILIES, OWN_OPTIONS, Body, BodyRequest, build_body, timm_family
from geodistill.nn.output import ceil_div, pad_to_multiple

if TYPE_CHECKING:
    from geodistill.nn.encoder_weights import LocalWeights


OPTIONS: dict[str, Callable[[str], Any]] = {
    "pad_type": str,
    "output_stride": int,
    "drop_path_rate": float,
    "ls_init_value": float,
    "adapters": str,
}
"""What may stand in brackets behind a timm name, as in ``resnet50(output_stride=8)``."""

_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
_NAME = re.compile(r"^([^()\s]+)(?:\(([^()]*)\))?$")


class Encoder(nn.Module):
    """A backbone that returns one channel-first map per level, at ``ceil(H / stride) x ceil(W / stride)``.

    Batch norms that its weights have folded are unfolded by the first image of training, see `unfold_norms`.

    The image is padded with zeros at the bottom and right up to a multiple of the strides (it is normalised by
    then, so zero is the mean), and the maps are cropped back.

    Args:
        name: Name that `build_encoder` rebuilds it from.
        body: Returns the maps of an image whose sides are multiples of every stride.
        statistics: Mean and standard deviation of each channel that the pretrained weights expect, for images in
            0..255 or in the sensor units of the Segmenter the weights are from.
        output_norms: Put a layer norm of its own on each map (mmpretrain's convention for ConvNeXt and Swin).
    """

    def __init__(
        self,
        name: str,
        body: Body,
        statistics: tuple[tuple[float, ...], tuple[float, ...]] = _IMAGENET,
        output_norms: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.channels, self.strides = body.channels, body.strides
        self.pretrained_statistics = statistics
        self.body = body
        self.norms = nn.ModuleList(nn.LayerNorm(c, eps=1e-6) for c in body.channels) if output_norms else None
        self._looked_for_folded = False

    @property
    def isotropic(self) -> bool:
        """Whether all maps have one size, as a plain vision transformer's have."""
        return len(set(self.strides)) == 1 and len(self.strides) > 1

    def forward(self, image: Tensor, given: Sequence[Tensor] | None = None) -> list[Tensor]:
        """``(B, C, H, W)`` normalised -> ``(B, Ci, ceil(H / si), ceil(W / si))`` a level, finest first.

        With ``given``, a map for each level in that same shape, each stage runs on the map given for the level
        before it: teacher forcing, which turns matching a teacher into one small regression a stage.

        Raises:
            RecipeError: ``given`` for an encoder whose stages cannot be told apart.
        """
        height, width = image.shape[-2:]
        multiple = math.lcm(*self.strides)
        padded = pad_to_multiple(image, multiple)
        # Without gradients it is a trial, after which all is put back.
        if self.training and torch.is_grad_enabled() and not self._looked_for_folded:
            self._looked_for_folded = True
            if is_folded(self.body):
                unfold_norms(self.body, padded)
        if given is None:
            maps: list[Tensor] = self.body(padded)
        else:
            self.check_given()
            maps = self.body.forward_given(padded, given)
        sizes = [(ceil_div(height, s), ceil_div(width, s)) for s in self.strides]
        cropped = [m[..., :h, :w] for m, (h, w) in zip(maps, sizes, strict=True)]
        if self.norms is not None:
            normed = zip(self.norms, cropped, strict=True)
            cropped = [norm(m.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, m in normed]
        if not (torch.is_grad_enabled() and torch.distributed.is_available() and torch.distributed.is_initialized()):
            return cropped
        # Zero with a graph in each map, so that what makes a map that nobody reads has a gradient too, as DDP asks.
        nothing = torch.stack([m.float().sum() for m in cropped]).sum() * 0.0
        return [m + nothing for m in cropped]

    def check_given(self) -> None:
        """Make sure that `forward` can be given maps.

        Raises:
            RecipeError: The stages cannot be told apart.
        """
        if self.norms is not None:
            raise RecipeError(f"teacher forcing of {self.name}", "a convolutional encoder", "set its share to 0")
        self.body.level_modules()

    def write(self, folder: Path, bands: Sequence[str], mean: Sequence[float], std: Sequence[float]) -> None:
        """Write the weights into a new folder as `read_weights` reads it: ``model.safetensors`` and ``config.json``.

        Their input was normalised by ``mean`` and ``std`` of each band, sensor units.
        """
        folder.mkdir()
        # safetensors refuses layouts such as channels-last, so each tensor is laid out plainly.
        layout = torch.contiguous_format
        plain = {k: v.detach().cpu().clone(memory_format=layout) for k, v in self.state_dict().items()}
        # save_file has an error of its own for a full disk
        (folder / "model.safetensors").write_bytes(save_bytes(plain))
        config = {"encoder": self.name, "bands": list(bands), "mean": list(mean), "std": list(std)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def build_encoder(
    name: str,
    in_channels: int = 3,
    weights: str | Path | None = None,
    *,
    indices: Sequence[int] | None = None,
    output_norms: bool = False,
) -> Encoder:
    """Build an encoder by name.

    Args:
        name: A timm model for images of any size, perhaps with `OPTIONS` in brackets, ``mit_b0`` .. ``mit_b5``,
            ``pvt_kda`` or ``pvt_kda_tiny``.
        in_channels: Bands of the image; pretrained stems are adapted.
        weights: ``None`` (random), ``"pretrained"`` (from the hub), or a path as `read_weights` takes.
        indices: Levels to give, from 0; for a plain vision transformer the blocks to tap. All levels, or the blocks
            that end each quarter of the depth, where not given.
        output_norms: Put a trainable layer norm on each map.

    Raises:
        UnknownNameError: No such encoder; the message lists near names.
        RecipeError: An option, an index or the model is not supported for feature maps.
        ArtifactError: The weights are not available or do not fit.

    Example:
        >>> encoder = gd.build_encoder("mobilenetv2_100", in_channels=4)
        >>> encoder.strides
        (2, 4, 8, 16, 32)
    """
    base, options = parse_name(name)
    hub = weights == "pretrained"
    named = weights is not None and not hub
    local: LocalWeights | None = load("geodistill.nn.encoder_weights:read_weights")(weights) if named else None
    if local is not None and local.architecture not in (None, base.split(".")[0]):
        raise ArtifactError(f"weights {local.path} are of {local.architecture}", base, "name that encoder")
    if local is not None and local.pad_type is not None:
        options.setdefault("pad_type", local.pad_type)
    full_name = format_name(base, options)
    if local is not None and local.encoder not in (None, full_name):
        raise ArtifactError(f"weights {local.path} are of {local.encoder}", full_name, "name that encoder")
    request = BodyRequest(base, in_channels, options, hub, local, None if indices is None else tuple(indices))
    try:
        with load("geodistill.offline:local_where_unreachable")() if hub else nullcontext():
            body = build_body(request)
    except (TypeError, AssertionError, NotImplementedError, IndexError) as error:
        raise RecipeError(f"encoder {name} cannot give these feature maps ({first_line(error)})", "another") from error
    except (RuntimeError, OSError, ValueError) as error:
        if not hub:
            raise RecipeError(f"encoder {name} cannot be built ({first_line(error)})", "another") from error
        raise ArtifactError(
            f"pretrained weights of {name} are not available ({first_line(error)})",
            "weights on the hub and a way to it",
            "give a local weights file",
        ) from error
    normed = output_norms or (local is not None and local.encoder is not None and "norms.0.weight" in local.tensors)
    encoder = Encoder(full_name, body, _statistics(body, local), normed)
    if local is not None and local.encoder is not None:
        load("geodistill.nn.checkpoints:load_own_weights")(encoder, local, strict=indices is None)
    return encoder


def list_encoders(pattern: str = "*") -> list[str]:
    """Return the names that `build_encoder` knows and that match a shell pattern.

    Example:
        >>> gd.list_encoders("mit_b?")
        ['mit_b0', 'mit_b1', 'mit_b2', 'mit_b3', 'mit_b4', 'mit_b5']
    """
    names = [name for name in timm.list_models() if timm_family(name) not in FIXED_FAMILIES]
    return sorted(fnmatch.filter([*names, *OWN_OPTIONS], pattern))


def wants_output_norms(name: str) -> bool:
    """Whether an encoder's maps are raw residual streams that heads expect normed: ConvNeXt's and Swin's."""
    return parse_name(name)[0].startswith(("convnext", "swin"))


def parse_name(name: str) -> tuple[str, dict[str, Any]]:
    """Split ``"resnet50(output_stride=8)"`` into the model's name and its options.

    Raises:
        UnknownNameError: The model or an option is unknown.
        RecipeError: The text has another form, or an option's value is of the wrong kind.
    """
    match = _NAME.match(name.strip())
    if match is None:
        raise RecipeError(f"encoder {name!r}", "a name, or a name(option=value)")
    base, inner = match.group(1), match.group(2) or ""
    if base not in OWN_OPTIONS and not timm.is_model(base):
        raise UnknownNameError("encoder", base, list_encoders(), "see 'geodistill encoders'")
    if "." in base and base not in (tagged := timm.list_pretrained(f"{base.split('.')[0]}.*")):
        raise UnknownNameError("encoder", base, tagged)
    if base not in OWN_OPTIONS and timm_family(base) in FIXED_FAMILIES:
        raise RecipeError(f"encoder {base} takes images of one size only", "another", "see 'geodistill encoders'")
    options: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in inner.split(","))):
        key, _, value = (part.strip() for part in item.partition("="))
        known = OWN_OPTIONS.get(base, tuple(OPTIONS))
        if key not in known:
            raise UnknownNameError("encoder option", key, known or ["none"])
        try:
            options[key] = OPTIONS[key](value)
        except ValueError as error:
            raise RecipeError(f"encoder {name}: {key}={value}", f"a {OPTIONS[key].__name__}") from error
    return base, options


def format_name(base: str, options: dict[str, Any]) -> str:
    """Put a name together that `parse_name` takes apart; options in alphabetical order."""
    inner = ", ".join(f"{key}={options[key]}" for key in sorted(options))
    return f"{base}({inner})" if inner else base


def weights_statistics(name: str, weights: str | Path) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Return what an encoder's weights expect at the input, without building it or reading them.

    Args:
        name: The encoder's.
        weights: ``pretrained``, or a path as `read_weights` takes.

    Returns:
        Mean and standard deviation of each input channel, and whether they are in sensor units: those of a Segmenter or
        of a distilled encoder are, others are for 8-bit images.

    Raises:
        ArtifactError: The weights are missing or wrongly described.
        UnknownNameError: No such encoder.
    """
    base, _ = parse_name(name)
    if weights != "pretrained":
        local: LocalWeights = load("geodistill.nn.encoder_weights:describe_weights")(weights)
        if local.mean is not None and local.std is not None:
            return local.mean, local.std, local.channels is not None
    config = None if base in OWN_OPTIONS else timm.get_pretrained_cfg(base)
    if config is None or not config.mean:
        return *_IMAGENET, False
    return tuple(255.0 * v for v in config.mean), tuple(255.0 * v for v in config.std), False


def _statistics(body: nn.Module, local: LocalWeights | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if local is not None and local.mean is not None and local.std is not None:
        return local.mean, local.std
    config = getattr(getattr(body, "model", None), "pretrained_cfg", None) or {}
    if not config.get("mean"):
        return _IMAGENET
    return tuple(255.0 * v for v in config["mean"]), tuple(255.0 * v for v in config["std"])


def is_folded(network: nn.Module) -> bool:
    """Whether a trained network's batch norms add a bias and nothing else, as in weights made for inference.

    Norms as they are at first have no bias either, and are not meant; nor are those of a network without values.
    """
    norms = _norms(network)
    same = all(
        _all_near(norm.running_mean, 0) and _all_near(norm.running_var, 1) and _all_near(norm.weight, 1)
        for norm in norms
    )
    return same and any(not _all_near(norm.bias, 0) for norm in norms)


@torch.no_grad()
def unfold_norms(network: nn.Module, image: Tensor) -> None:
    """Set each batch norm to the statistics of what it sees, with the scale and bias that leave its results the same.

    A norm that was folded computes ``x + b``. In training it would divide by the batch's deviation ``s`` all the same
    and lose the scale of every channel: the features are then no longer those of the weights. With running mean ``m``
    and variance ``s^2``, scale ``sqrt(s^2 + eps)`` and bias ``b + m`` it computes ``x + b`` in evaluation and, on such
    images, in training.

    Args:
        network: As `is_folded` tells; changed in place.
        image: ``(B, C, H, W)`` normalised, the first batch of training.
    """
    from geodistill.nn.losses import sum_over_processes  # training alone needs it

    norms, sums_of = _norms(network), dict[nn.BatchNorm2d, Tensor]()

    def look(norm: nn.BatchNorm2d, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        maps = inputs[0].float().transpose(0, 1).flatten(1)
        sums_of[norm] = torch.stack([maps.sum(1), maps.square().sum(1), torch.full_like(maps[:, 0], maps.shape[1])])

    hooks = [norm.register_forward_pre_hook(partial(look, norm)) for norm in norms]
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.autocast(image.device.type, enabled=False):
            network(image.float())
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    for norm, sums in sums_of.items():
        total, squares, count = sum_over_processes(sums)
        mean = total / count
        variance = (squares / count - mean.square()).clamp(min=0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d) and module.affine and module.track_running_stats
    ]


def _all_near(values: Tensor | None, value: float) -> bool:
    return values is not None and not values.is_meta and bool((values - value).abs().max() < 1e-3)
