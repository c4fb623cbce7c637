"""What a model and its teacher make of one image, as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.errors import ArtifactError, RecipeError
from geodistill.explain.feature_maps import class_activation
from geodistill.inference.sliding import check_bands
from geodistill.methods.teacher import OWN_STUDENT, FrozenTeacher, TeacherConfig
from geodistill.nn.encoders import Encoder
from geodistill.raster import Window
from geodistill.raster.raster import open_image
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec
from geodistill.training.build import open_teacher
from geodistill.training.segmenter_teacher import SegmenterTeacher

SIDE = 512
"""Side in pixels of the part of an image that is looked at, at most."""

_FINE = 16
"""The last map of at most this stride is shown: deeper ones are too coarse to see places in."""

_MULTIPLE = 32


@dataclass(frozen=True)
class Explanation:
    """What a model makes of an image.

    Attributes:
        image: ``(C, H, W)`` float32, sensor units.
        window: What of the file it is.
        features: ``(C, h, w)`` of the model's encoder, and of the teacher's where there is one.
        strides: Of these.
        classes: ``(H, W)`` uint8.
        doubt: ``(H, W)`` float32: entropy of the probabilities, 0 (sure) to 1 (all classes alike).
        evidence: ``(K, H, W)`` float32, 0 to 1: Grad-CAM of each class.
    """

    image: NDArray[np.float32]
    window: Window
    features: tuple[Tensor, ...]
    strides: tuple[int, ...]
    classes: NDArray[np.uint8]
    doubt: NDArray[np.float32]
    evidence: NDArray[np.float32]


def read_part(image: Path | str, spec: Spec, window: Window | None) -> tuple[NDArray[np.float32], Window]:
    """Read a part of an image, by default its middle, of at most `SIDE` pixels a side and a multiple of 32 of them.

    Raises:
        DataError: It cannot be read, or has other bands than the model.
        RecipeError: The part lies outside the image, or the image is smaller than 32 pixels.
    """
    with open_image(image, spec.bands) as raster:
        check_bands(raster, spec.bands)
        grid = raster.grid
        if window is None:
            height, width = (min(side, SIDE) // _MULTIPLE * _MULTIPLE for side in (grid.height, grid.width))
            window = Window((grid.height - height) // 2, (grid.width - width) // 2, height, width)
        if window.intersection(grid.height, grid.width) != window or min(window.height, window.width) < _MULTIPLE:
            raise RecipeError(
                f"the part {window.height} x {window.width} of {raster.source} ({grid.height} x {grid.width} pixels)",
                f"a part inside the image, of {_MULTIPLE} pixels a side at least",
            )
        pixels, valid = raster.read(window)
    return np.where(valid, pixels, 0).astype(np.float32), window


def teacher_of(segmenter: Segmenter, named: str | None) -> FrozenTeacher | str:
    """Return the teacher that is named, else the one that the model's recipe names, or why none of it can be shown.

    A model that taught itself has none.

    Raises:
        ArtifactError: It is not at hand.
        RecipeError: It does not fit the model's bands.
    """
    if named is not None:
        return open_teacher(TeacherConfig(segmenter=(named,)), segmenter.spec)
    recipe = segmenter.provenance.get("recipe")
    config = recipe.get("teacher") if isinstance(recipe, Mapping) else None
    if not isinstance(config, Mapping) or config.get("segmenter") == OWN_STUDENT:
        return "the recipe names none"
    known = {field.name for field in fields(TeacherConfig)} - {"cache", "cache_gb", "cache_storage", "views"}
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in config.items() if key in known
    }
    teachers = TeacherConfig(**values)
    if len(teachers.segmenters) > 1:
        return f"the model learned from {', '.join(teachers.segmenters)}: name one with --teacher"
    try:
        teacher = open_teacher(teachers, segmenter.spec)
    except ArtifactError as error:
        raise ArtifactError(
            error.received, error.expected, "name it with --teacher, or leave it out with --no-with-teacher"
        ) from error
    return teacher if teacher.channels else f"{', '.join(teachers.segmenters)} has no features to show"


def explain_image(
    segmenter: Segmenter, teacher: FrozenTeacher | None, image: NDArray[np.float32], window: Window
) -> Explanation:
    """Run a model and its teacher on an image.

    Raises:
        RecipeError: The model has no encoder.
    """
    network = segmenter.network.network
    if not isinstance(getattr(network, "encoder", None), Encoder):
        raise RecipeError(f"features of {segmenter.name}", "a network with an encoder")
    spec = segmenter.spec
    student = SegmenterTeacher(segmenter, spec, spec, range(spec.channels), network, precision="fp32")
    pixels = torch.from_numpy(image)[None]
    models: Sequence[FrozenTeacher] = (student,) if teacher is None else (student, teacher)
    features, strides = [], []
    for model in models:
        levels = model(pixels)
        if not levels:
            raise RecipeError("a teacher without an encoder", "one whose features can be shown")
        level = max((k for k, stride in enumerate(model.strides) if stride <= _FINE), default=len(levels) - 1)
        features.append(levels[level][0])
        strides.append(model.strides[level])
    with torch.no_grad():
        probabilities = segmenter(pixels)[0].softmax(0)
    entropy = -(probabilities * probabilities.clamp(min=1e-12).log()).sum(0) / np.log(max(len(probabilities), 2))
    evidence = np.stack([class_activation(segmenter, image, k) for k in range(spec.classes)])
    return Explanation(
        image,
        window,
        tuple(features),
        tuple(strides),
        probabilities.argmax(0).byte().numpy(),
        entropy.clamp(0, 1).float().numpy(),
        evidence,
    )
