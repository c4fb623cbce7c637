"""The file of a manifest at hand, for what is begun by a recipe, which names files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from geodistill.data.manifest import Manifest
from geodistill.errors import RecipeError


def written_file(manifest: Manifest) -> Path:
    """Return the file that a manifest was loaded from or saved to, and that still holds it.

    Raises:
        RecipeError: It was not written, or was altered since, or its file by another.
        DataError: Its file is missing or unreadable.
    """
    mend = "manifest.save('manifest.parquet')"
    if manifest.path is None:
        raise RecipeError("a manifest that was not written", "one with a file", mend)
    if _content(manifest) != _content(Manifest.load(manifest.path)):
        received = f"a manifest of {len(manifest.entries):,} rows, where {manifest.path} holds another one by now"
        raise RecipeError(received, "a manifest as its file has it", f"write it to a name of its own, as by {mend}")
    return manifest.path


def _content(manifest: Manifest) -> tuple[Any, ...]:
    """Return what training reads of a manifest; files by their absolute paths."""
    rows = [
        replace(row, image=_absolute(row.image), mask=None if row.mask is None else _absolute(row.mask))
        for row in manifest.entries
    ]
    return rows, manifest.bands, manifest.legend, manifest.ignore_unknown, manifest.problems


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - a link stays one
