"""Promptable segmenters: SAM and its kin, GrabCut, and filling the box itself."""

from geodistill.label.segmenters.base import CroppedMask, Embedding, PromptableSegmenter
from geodistill.label.segmenters.build import build_segmenter

__all__ = ["CroppedMask", "Embedding", "PromptableSegmenter", "build_segmenter"]
