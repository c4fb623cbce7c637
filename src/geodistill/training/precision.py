"""In what precision a run computes where it may choose."""

from __future__ import annotations

from typing import Literal

import torch

Mixed = Literal["32-true", "bf16-mixed", "16-mixed"]
"""Lightning's names."""


def choose_precision(asked: Literal["auto"] | Mixed, accelerator: str) -> Mixed:
    """Return what was asked, or for ``auto`` bfloat16 where the device has instructions for it, else 32 bits.

    Weights, their gradients' sums and the loss terms stay in 32 bits under ``bf16-mixed``, and a checkpoint of either
    precision resumes in the other.

    Args:
        asked: As the recipe says.
        accelerator: The recipe's: ``auto`` is a GPU where there is one.
    """
    if asked != "auto":
        return asked
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    return "bf16-mixed" if accelerator in ("auto", "cpu") and cpu_has_bfloat16() else "32-true"


def cpu_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 by itself; where it only converts, 32 bits are faster.

    x86 processors say so as AVX512_BF16 or AMX-BF16.
    """
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
