"""Where a directory of an exported model may be made."""

from __future__ import annotations

from pathlib import Path

from geodistill.errors import OutputError
from geodistill.segmenter import DESCRIPTION


def model_folder(path: Path) -> Path:
    """Give the whole path of a directory to make; its name is the model's.

    Raises:
        OutputError: Something else lies there: only an earlier export or Segmenter is replaced.
    """
    whole = path.absolute().resolve()
    free = not whole.exists() or (whole.is_dir() and (not any(whole.iterdir()) or (whole / DESCRIPTION).is_file()))
    if not whole.name or not free:
        raise OutputError(f"{path} is no place for a model", "a new directory, or an earlier export", "choose another")
    return whole
