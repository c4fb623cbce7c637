"""Commands that the documents show, for tests that run them as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def shown_blocks(document: Path) -> list[list[list[str]]]:
    """Return the commands of each of a document's shell blocks that call geodistill, as words behind the program."""
    blocks = re.findall(r"```sh\n(geodistill.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    return [[shlex.split(line)[1:] for line in block.replace("\\\n", " ").splitlines()] for block in blocks]
