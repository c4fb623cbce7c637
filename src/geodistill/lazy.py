"""Parts that are imported when their name is asked for: a table of names to ``module:attribute``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from geodistill.errors import check_name


def load(target: str) -> Any:
    """Return what ``module:attribute`` names, such as ``geodistill.label.formats.coco:read``."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def choose(kind: str, name: str, table: Mapping[str, str], mend: str = "") -> Any:
    """Return the part that has a name in a table; ``kind`` says what it holds, such as ``annotation format``.

    Raises:
        UnknownNameError: The table has no such name.
    """
    check_name(kind, name, table, mend)
    return load(table[name])
