"""Promptable segmenters: SAM and its kin, GrabCut, and filling the box itself."""

from geodistill.label.segmenters.promptable import Embedding, PromptableSegmenter, build_segmenter

__all__ = ["Embedding", "PromptableSegmenter", "build_segmenter"]
