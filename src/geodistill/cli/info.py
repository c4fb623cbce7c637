"""``geodistill info``: what a report of a bug needs to say of the machine and of what is installed."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from geodistill.cli.arguments import VerbParser, parse
from geodistill.cli.terminal import print_result
from geodistill.extras import EXTRAS, installed_versions
from geodistill.version import __version__

PACKAGES = ("torch", "numpy", "rasterio", "timm", "lightning", "transformers", "onnxruntime", "openvino", "ray")
"""Packages whose versions explain most."""

DRIVERS = ("GTiff", "COG", "VRT", "JP2OpenJPEG", "PNG", "JPEG", "GPKG", "Parquet", "FlatGeobuf")
"""GDAL drivers that geodistill reads or writes with."""


def info_parser() -> VerbParser:
    """Return the parser of ``info``."""
    description = "Versions, devices, GDAL, free memory and disk, and extras: what a report of a bug needs."
    parser = VerbParser("info", description, "geodistill info --json")
    parser.add_group("output").switch("--json", "print JSON")
    return parser


def info(argv: Sequence[str]) -> None:
    """Print what is installed, and on what machine."""
    args = parse(info_parser(), argv)
    about = collect_info()
    width = max(map(len, about))
    text = "\n".join(f"{name:<{width}}  {_in_words(value)}" for name, value in about.items())
    print_result(args.json, about, text)


def collect_info() -> dict[str, Any]:
    """Return what is known of this machine and installation, JSON-ready; sizes are in GiB."""
    import rasterio
    import torch

    memory = free_memory()
    with rasterio.Env() as environment:
        drivers = {*environment.drivers(), *_vector_drivers()}
    return {
        "geodistill": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "packages": installed_versions(*PACKAGES),
        "devices": [f"cpu, {os.cpu_count()} cores", *_accelerators(torch)],
        "gdal": rasterio.__gdal_version__,
        "gdal_drivers": [name for name in DRIVERS if name in drivers],
        "free_memory_gib": None if memory is None else round(memory / 2**30, 1),
        "free_disk_gib": round(shutil.disk_usage(".").free / 2**30, 1),
        "extras": [name for name, modules in EXTRAS.items() if all(find_spec(module) for module in modules)],
    }


def free_memory() -> int | None:
    """Return the bytes of memory that are free for programs; ``None`` where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - no file of the user's
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _accelerators(torch: Any) -> list[str]:
    gpus = [f"cuda:{i}, {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    return gpus + (["mps"] if torch.backends.mps.is_available() else [])


def _vector_drivers() -> set[str]:
    try:
        import pyogrio
    except ImportError:
        return set()
    return set(pyogrio.list_drivers())


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(value) or "none" if isinstance(value, list) else "unknown" if value is None else str(value)
