"""Names of the files we make: valid on every system, and never two that some system takes for one."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection

from geodistill.files import LONGEST_NAME

TILE_ENDS = 26
"""Bytes that the place of a tile and a suffix may add to a name: two numbers of ten digits, and ``.png``."""
ENDS = 4
"""Bytes that a suffix adds: ``.png``."""

_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?=\.|$)", re.IGNORECASE)
_DIGITS = 8


def output_names(keys: Collection[str], besides: int) -> dict[str, str]:
    """Return the name of each key: the key itself wherever every system takes it.

    Where one does not (Windows forbids ``CON``, ``a:b`` and folders that end in a dot; a name may have 255 bytes;
    systems that do not tell ``a`` from ``A`` would write two keys to one file), what is forbidden becomes ``_`` and a
    digest of the key follows, so that names do not depend on the order of the keys.

    Args:
        keys: Distinct paths without suffix, with forward slashes.
        besides: Bytes that are added to a name.
    """
    cleaned = {key: _clean(key) for key in keys}
    occurrences = Counter(map(_folded, cleaned.values()))
    names = {}
    for key, name in cleaned.items():
        odd = name != key or occurrences[_folded(name)] > 1 or _length(name) + besides > LONGEST_NAME
        names[key] = _with_digest(name, key, besides) if odd else key
    return names


def flat_names(keys: Collection[str], besides: int) -> dict[str, str]:
    """Return a name without folders of each key, as `output_names` gives them; ``a/b`` becomes ``a_b``."""
    flat = {key: key.replace("/", "_") for key in keys}
    occurrences = Counter(flat.values())
    named = output_names({name for name in flat.values() if occurrences[name] == 1}, besides)
    return {
        key: named[name] if name in named else _with_digest(_clean(name), key, besides) for key, name in flat.items()
    }


def _clean(key: str) -> str:
    *folders, last = key.split("/")
    parts = [_part(folder).rstrip(". ") or "_" for folder in folders]
    return "/".join([*parts, _part(last)])


def _part(part: str) -> str:
    readable = part.encode("utf-8", "replace").decode("utf-8")  # bytes of a file's name that are no UTF-8 become ?
    return _RESERVED.sub(r"\1_", _FORBIDDEN.sub("_", readable), count=1) or "_"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _length(name: str) -> int:
    return len(os.fsencode(name.rpartition("/")[2]))


def _with_digest(name: str, key: str, besides: int) -> str:
    folder, slash, last = name.rpartition("/")
    room = LONGEST_NAME - besides - _DIGITS - 1
    kept = last.encode("utf-8")[:room].decode("utf-8", "ignore")
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{folder}{slash}{kept}-{digest}"
