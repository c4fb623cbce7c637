"""Promptable segmenters: SAM and its kin, GrabCut, and filling the box itself."""

from geodistill.label.segmenters.build import build_segmenter
from geodistill.label.segmenters.protocol import CroppedMask, Embedding, PromptableSegmenter

__all__ = ["CroppedMask", "Embedding", "PromptableSegmenter", "build_segmenter"]
