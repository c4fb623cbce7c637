"""Parts that are imported when their name is asked for: a table of names to ``module:attribute``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from geodistill.errors import UnknownNameError


def load(target: str) -> Any:
    """Return what ``module:attribute`` names, such as ``geodistill.label.formats.coco:read``."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def choose(kind: str, name: str, table: Mapping[str, str], mend: str = "") -> Any:
    """Return the part of a table that has a name.

    Args:
        kind: What the table holds, such as ``"annotation format"``, for the message.
        name: The name asked for.
        table: ``module:attribute`` of each part by its name.
        mend: Where to see all names.

    Raises:
        UnknownNameError: The table has no such name.
    """
    if name not in table:
        raise UnknownNameError(kind, name, table, mend)
    return load(table[name])
