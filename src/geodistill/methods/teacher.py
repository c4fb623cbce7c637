"""A recipe's teacher: what it is, which bands it sees, in which units, and where its outputs are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geodistill.errors import RecipeError, UnknownNameError
from geodistill.methods.cache import Storage
from geodistill.methods.frozen import FrozenTeacher, Precision, SegmenterTeacher, TeacherOutput
from geodistill.nn.encoders import build_encoder
from geodistill.nn.weights import read_weights
from geodistill.spec import Spec

__all__ = ["FrozenTeacher", "SegmenterTeacher", "TeacherConfig", "TeacherOutput", "build_teacher", "teacher_bands"]

RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class TeacherConfig:
    """The frozen model that the student learns from.

    Attributes:
        encoder: Any encoder's name, as ``geodistill encoders`` lists them.
        weights: ``pretrained`` (from the hub), a weights file or directory, or a Segmenter directory; random where
            not given, which is of use in tests only.
        indices: Levels (for a plain vision transformer: blocks) to learn from; all levels, or the blocks that end
            each quarter of the depth, where not given.
        bands: Names, or positions from 0, of the image bands that the teacher sees. Where not given: the bands with
            the names that the teacher knows, else the first ones, or a single band three times.
        statistics: What the teacher's input is normalised by: ``encoder`` (what its weights expect, for 8-bit
            images and for a Segmenter's sensor) or ``data`` (the data's own mean and deviation, for other units).
        segmenter: A Segmenter directory, the run that made it, or a hub id: a teacher for logits and, by its
            encoder, for features. Encoder, weights and statistics are then its own.
        precision: Of the teacher's computation; ``auto`` is half precision on a GPU and 32 bits on a CPU.
        logits_stride: Compare logits at this stride in pixels, averaged: 4 costs a sixteenth of the work and cache.
        cache: Directory that keeps the teacher's outputs, so that each view of an image is computed once.
        cache_gb: Largest size of that cache in GB; views beyond it are computed again each time.
        cache_storage: ``float16``, or ``uint8`` with a range for each channel of each image.
        views: Different crops, flips and turns of each sample while a cache is on; colours still change every time,
            for the student alone.
    """

    encoder: str = "vit_base_patch14_dinov2"
    weights: str | None = "pretrained"
    indices: tuple[int, ...] | None = None
    bands: tuple[int | str, ...] | None = None
    statistics: Literal["encoder", "data"] = "encoder"
    segmenter: str | None = None
    precision: Precision = "auto"
    logits_stride: int = 1
    cache: str | None = None
    cache_gb: float = 20.0
    cache_storage: Storage = "float16"
    views: int = 8


def build_teacher(config: TeacherConfig | FrozenTeacher, spec: Spec) -> FrozenTeacher:
    """Build an encoder as the teacher for images of a Spec; a teacher that is built already is given back.

    A Segmenter as teacher is opened by `geodistill.training.build.open_teacher`, a room that knows Segmenters.

    Raises:
        RecipeError: The bands do not fit, or the data is not in the units that the encoder's statistics are in.
        ArtifactError: The weights cannot be had or do not fit.
        UnknownNameError: No such encoder or band.
    """
    if isinstance(config, FrozenTeacher):
        return config
    if config.segmenter is not None:
        raise RecipeError(f"the Segmenter {config.segmenter} where an encoder is built", "teacher.segmenter not given")
    local = None
    if config.weights is not None and config.weights != "pretrained":
        local = read_weights(config.weights)
    channels = 3 if local is None or local.channels is None else local.channels
    names = RGB if local is None or local.bands is None else local.bands
    bands = teacher_bands(config.bands, spec, channels, names)
    encoder = build_encoder(config.encoder, channels, config.weights, indices=config.indices)
    if config.statistics == "data":
        mean, std = [spec.mean[b] for b in bands], [spec.std[b] for b in bands]
    else:
        if local is None or local.channels is None:
            _check_units(spec, bands)
        mean, std = (list(values) for values in encoder.pretrained_statistics)
    return FrozenTeacher(encoder, mean, std, bands, config.precision)


def teacher_bands(
    given: Sequence[int | str] | None, spec: Spec, channels: int, names: Sequence[str] = ()
) -> tuple[int, ...]:
    """Say which band of the image is which input of the teacher.

    Args:
        given: ``teacher.bands``: names or positions.
        spec: The image's bands.
        channels: Inputs of the teacher.
        names: What the teacher calls them.

    Returns:
        A position in the image for each input: the given ones; else the bands of the teacher's names, in whatever
        order the image has them; else the first ones, or a single band for all.

    Raises:
        RecipeError: There are too few, or a position is outside the image.
        UnknownNameError: No band has that name.
    """
    held = [band.lower() for band in spec.bands]
    if given is not None:
        for band in given:
            if isinstance(band, str) and band.lower() not in held:
                raise UnknownNameError("band", band, spec.bands, "set teacher.bands")
        bands = tuple(held.index(band.lower()) if isinstance(band, str) else band for band in given)
    elif len(names) == channels and all(name.lower() in held for name in names):
        bands = tuple(held.index(name.lower()) for name in names)
    elif spec.channels == 1:
        bands = (0,) * channels
    else:
        bands = tuple(range(channels))
    if len(bands) != channels or not all(0 <= band < spec.channels for band in bands):
        raise RecipeError(
            f"teacher bands {list(given) if given is not None else list(bands)} of an image with {spec.channels}",
            f"{channels} of {', '.join(spec.bands)}, by name or by position in 0..{spec.channels - 1}",
            "set teacher.bands",
        )
    return bands


def _check_units(spec: Spec, bands: Sequence[int]) -> None:
    """Refuse data that is plainly not 8-bit: the teacher would see flat black or white."""
    highest = max(spec.mean[b] for b in bands)
    reach = max(spec.mean[b] + 2 * spec.std[b] for b in bands)
    if highest > 255 or reach < 1.5:
        means = ", ".join(f"{spec.mean[b]:.4g}" for b in bands)
        raise RecipeError(
            f"band means {means} under a teacher that expects 8-bit images", "0..255", "set teacher.statistics: data"
        )
