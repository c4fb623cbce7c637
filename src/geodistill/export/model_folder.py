"""Where a directory of an exported model may be made."""

from __future__ import annotations

from pathlib import Path

from geodistill.errors import OutputError
from geodistill.files import named_path
from geodistill.folders import refuse_foreign


def model_folder(path: Path, kind: str) -> Path:
    """Return the whole path of a directory to make, of a ``kind`` as `atomic_path` marks it; its name is the model's.

    Raises:
        OutputError: Something else lies there: only an earlier export of the kind is replaced.
    """
    whole = named_path(path).resolve()
    if whole.exists() and not whole.is_dir():
        raise OutputError(f"{path} is no place for a model", "a new directory, or an earlier export", "choose another")
    if whole.is_dir():
        refuse_foreign(whole, kind)
    return whole
