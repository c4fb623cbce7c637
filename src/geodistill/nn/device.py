"""The device that a network runs on, by its name."""

from __future__ import annotations

import torch

from geodistill.errors import RecipeError


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
    try:
        device = torch.device(device_name(name))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"device {name!r} ({first})", "auto, cpu, or an accelerator of this machine") from error
    return device
