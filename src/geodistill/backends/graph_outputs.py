"""What an ONNX file's network gives, as logits: logits, probabilities, one channel of two classes, or classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import ArtifactError
from geodistill.spec import Legend

_LEAST = 1e-12
"""A probability of 0, as a logit that softmax takes."""

_SLACK = 1e-3
"""By how much rounding brings probabilities beyond 0 and 1, at most."""

_SURE = 20.0
"""Logit of a class that a graph names without a probability."""

_MASK = (0, 255)
"""Values of a mask, as pictures have them."""

_BINARY = ("yes", "yes-logit", "mask")
"""Kinds of one channel for two classes."""


def as_maps(values: NDArray[Any], batch: int) -> NDArray[Any]:
    """Return the values for a batch as ``(B, K, h, w)``: a graph may leave out one channel's axis, or one image's."""
    if values.ndim != 3:
        return values
    return values[:, None] if len(values) == batch else values[None]


@dataclass(frozen=True)
class OutputReader:
    """How a graph's values become logits of ``classes`` classes.

    Attributes:
        kind: ``logits`` and ``probabilities`` have a channel per class; ``yes`` and ``yes-logit`` have one channel, the
            probability or logit of the second of two classes; ``mask`` has 255 there and else 0; ``classes`` names
            the class of each pixel.
        classes: Number of classes.
        size: Side of the maps to give: coarser ones are enlarged bilinearly.
        threshold: Where no probability reaches it, the pixel is of the first class; of two classes, what the
            second's must reach.
    """

    kind: Literal["logits", "probabilities", "yes", "yes-logit", "mask", "classes"]
    classes: int
    size: int
    threshold: float = 0.0

    @classmethod
    def of(
        cls, probes: Sequence[Any], legend: Legend | None, threshold: float | None, size: int, path: Path, *, batch: int
    ) -> OutputReader:
        """Tell from the values for batches of noise what they are; only those for the first must be finite.

        Raises:
            ArtifactError: They are no map of classes, or it is open of which kind.
        """
        values = probes[0]
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            what = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise ArtifactError(f"{path} gives values of the type {what}", "numbers of a map of classes")
        shapes = {as_maps(probe, batch).shape for probe in probes}
        shape = shapes.pop()
        channels = shape[1] if len(shape) == 4 and shape[0] == batch and not shapes else 0
        given = np.concatenate([probe.ravel() for probe in probes])
        mask = channels == 1 and len(legend or ()) <= 2 and bool(np.isin(given, _MASK).all() and given.any())
        whole = not mask and (
            np.issubdtype(values.dtype, np.integer)
            # Classes that were made floats.
            or (channels == 1 and bool((given == np.rint(given)).all() and (given > 1).any()))
        )
        square = channels > 0 and values.shape[-1] == values.shape[-2] <= size
        finite = whole or bool(np.isfinite(values).all())
        if not square or not finite or not 1 <= channels <= 255 or (whole and (channels > 1 or legend is None)):
            raise ArtifactError(
                f"{path} gives {tuple(values.shape)} of {values.dtype} for images of {size} x {size}",
                "a map with a channel per class; or the class of each pixel, with the classes named",
                "" if legend is not None or not whole else "give --classes",
            )
        if threshold is not None and not 0 <= threshold < 1:
            raise ArtifactError(f"{path} with the threshold {threshold}", "a probability, 0 to below 1")
        if whole:
            reader = cls("classes", len(legend or ()), size)
            reader.check(given, path)
            return reader
        beyond = _beyond(given, -_SLACK, 1 + _SLACK)
        if channels > 1:
            return cls("logits" if beyond.size else "probabilities", channels, size, threshold or 0.0)
        if not mask and beyond.size and not _beyond(values, -_SLACK, 1 + _SLACK).size:
            raise ArtifactError(
                f"{path} gives 0 to 1 for some noise, and {beyond[0]:.5g} for brighter noise",
                "one channel of probabilities throughout, or of logits throughout",
                "let it end in a sigmoid where these are logits, else in a clip to 0 to 1",
            )
        return cls("mask" if mask else "yes-logit" if beyond.size else "yes", 2, size, threshold or 0.5)

    def legend(self, named: Legend, path: Path) -> Legend:
        """Return the classes as many as there are; the background of one channel's two need not be named.

        Raises:
            ArtifactError: Others are named.
        """
        if self.kind in _BINARY and len(named) == 1:
            return replace(named, names=("background", *named.names), colours=(), values=())
        if len(named) != self.classes:
            raise ArtifactError(
                f"{path} gives {self.classes} classes, and {len(named)} are named", "as many", "give --classes"
            )
        return named

    def check(self, values: NDArray[Any], path: Path) -> None:
        """Refuse values that are not of the kind: noise shows some of what a graph gives, and images more.

        Raises:
            ArtifactError: They are classes that nothing names, or no probabilities.
        """
        if self.kind == "classes":
            others = np.append(_beyond(values, 0, self.classes - 1), values[values != np.rint(values)])
            if others.size:
                raise ArtifactError(
                    f"{path} gives the class {others[0]:g}",
                    f"0 to {self.classes - 1}, as {self.classes} are named",
                    "name all that it gives, with --classes",
                )
        elif self.kind == "mask":
            others = values[~np.isin(values, _MASK)]
            if others.size:
                raise ArtifactError(f"{path} gives {others[0]:.5g}, and for noise 0 and 255 alone", "a mask throughout")
        elif self.kind in ("probabilities", "yes"):
            others = _beyond(values, -_SLACK, 1 + _SLACK)
            if others.size:
                raise ArtifactError(
                    f"{path} gives {others[0]:.5g}, and for noise 0 to 1 alone",
                    "probabilities throughout, or logits for noise too",
                    "let it end in a softmax, or with one channel in a sigmoid",
                )

    def logits(self, maps: NDArray[Any], path: Path) -> Tensor:
        """Return a graph's values, see `as_maps`, as ``(B, K, size, size)`` float32 logits.

        Raises:
            ArtifactError: They are not of the kind.
        """
        self.check(maps, path)
        values = torch.from_numpy(maps)
        if self.kind == "classes":
            classes = torch.nn.functional.one_hot(values[:, 0].long(), self.classes)
            return self._enlarged(_SURE * classes.movedim(3, 1).float())
        values = self._enlarged(values.float() / (_MASK[1] if self.kind == "mask" else 1))
        if self.kind in _BINARY:
            # In double precision: the float32 nearest to 1 - _LEAST is 1, of which there is no logit.
            logit = values if self.kind == "yes-logit" else torch.logit(values.double(), _LEAST).float()
            # So that half stands where the probability reaches the threshold.
            return torch.cat([torch.zeros_like(logit), logit - log(self.threshold / (1 - self.threshold))], 1)
        if self.kind == "logits" and not self.threshold:
            return values
        shares = values.softmax(1) if self.kind == "logits" else values
        if self.threshold:
            shares = shares * (shares >= self.threshold)
            shares[:, :1] += (shares.sum(1, keepdim=True) == 0).float()
        return shares.clamp(min=_LEAST).log()

    def _enlarged(self, values: Tensor) -> Tensor:
        if values.shape[-1] == self.size:
            return values
        return torch.nn.functional.interpolate(values, size=(self.size, self.size), mode="bilinear")


def _beyond(values: NDArray[Any], least: float, most: float) -> NDArray[Any]:
    """Return the values that are below one bound or above the other: none of those that are no numbers."""
    return values[(values < least) | (values > most)]
