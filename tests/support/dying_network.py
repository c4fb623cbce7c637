"""A network that kills its own process once, in the middle of its work, for tests of workers that die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from torch import Tensor

from geodistill.nn.output import SegmentationOutput
from geodistill.segmenter import Segmenter
from tiny import ContextNetwork, tiny_segmenter


class DyingNetwork(ContextNetwork):
    """As `ContextNetwork`; the first process of all that has seen some windows dies.

    Args:
        folder: Where it is noted that one has died.
        after: How many windows it sees before.
    """

    def __init__(self, folder: Path, after: int) -> None:
        super().__init__(3, 3)
        self.folder, self.after, self.seen = folder, after, 0

    def forward(self, image: Tensor) -> SegmentationOutput:
        """``(B, C, H, W)`` normalised -> logits ``(B, K, H, W)``."""
        self.seen += image.shape[0]
        died = self.folder / "died"
        if self.seen > self.after and not died.exists():
            died.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(image)


def dying_segmenter(folder: Path, after: int) -> Segmenter:
    """Return a Segmenter of the tiny ``context`` with such a network, to be pickled into workers."""
    segmenter = tiny_segmenter("context", tile=32)
    segmenter.network.network = DyingNetwork(folder, after).eval()
    return segmenter
