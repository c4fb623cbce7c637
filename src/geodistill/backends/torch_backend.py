"""Torch as it is, under autocast where the precision is lower, or compiled."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from geodistill.backends import Precision
from geodistill.segmenter import Segmenter

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend:
    """The Segmenter on its device, under autocast where the precision is lower.

    It is compiled for one batch size, to which a smaller batch is filled up.
    """

    name = "torch"
    packages: tuple[str, ...] = ()

    @staticmethod
    def precisions(kind: str) -> tuple[Precision, ...]:
        """Return the precisions on a kind of device, fastest first."""
        return ("fp16", "bf16", "fp32") if kind == "cuda" else ("bf16", "fp32")

    def __init__(self, segmenter: Segmenter, precision: Precision, batch: int, compile: bool) -> None:
        self.precision, self._compiled = precision, compile
        self._batch, self._device = batch, next(segmenter.parameters()).device
        self._run = torch.compile(segmenter, dynamic=False) if compile else segmenter

    @torch.inference_mode()
    def __call__(self, images: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Segment ``(B, C, H, W)`` float32 sensor units, with each one's prompt (MetaSegNet) -> float32 logits."""
        count = len(images)
        images = images.to(self._device).contiguous(memory_format=torch.channels_last)
        if self._compiled and count < self._batch:
            images = torch.cat([images, images[:1].expand(self._batch - count, -1, -1, -1)])
            prompt = None if prompt is None else torch.cat([prompt, prompt[:1].expand(self._batch - count)])
        lower = self.precision != "fp32"
        with torch.autocast(self._device.type, _TYPES[self.precision]) if lower else nullcontext():
            logits: Tensor = self._run(images, prompt)
        return logits[:count].float()
