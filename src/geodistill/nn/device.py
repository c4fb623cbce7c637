"""The device that a network runs on, by its name."""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from geodistill.errors import RecipeError

T = TypeVar("T", bound=Tensor | nn.Module)


def device_name(name: str) -> str:
    """Return the name of the device that ``auto`` stands for on this machine (its GPU, if it has one), or the name."""
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def resolve_device(name: str) -> torch.device:
    """Return a device of this machine.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...

    Raises:
        RecipeError: The device does not exist here.
    """
    return to_device(torch.empty(0), name).device


def to_device(moved: T, name: str) -> T:
    """Return a network or tensor on a device of this machine, named as for `resolve_device`.

    Raises:
        RecipeError: The device does not exist here, or has no room for it.
    """
    try:
        return cast(T, moved.to(torch.device(device_name(name))))
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"device {name!r} ({first})", "auto, cpu, or an accelerator of this machine") from error
