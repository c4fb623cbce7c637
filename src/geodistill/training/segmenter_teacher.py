"""A trained model as the teacher: logits in the student's order of classes, and its encoder's maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from geodistill.errors import RecipeError
from geodistill.methods.teacher import FrozenTeacher, Precision, TeacherConfig, teacher_bands
from geodistill.nn.alignment import FeatureTap
from geodistill.nn.encoders import Encoder
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec


class SegmenterTeacher(FrozenTeacher):
    """Returns the logits of a trained model in the student's order of classes, and its encoder's maps.

    Args:
        model: Called with ``(B, C, H, W)`` float32 sensor units it returns ``(B, K, H, W)`` logits; it normalises for
            itself.
        known: The model's Spec.
        spec: The student's Spec.
        bands: Position in the student's image of each of the model's bands.
        network: The network inside the model, for the maps of its encoder; without one there are no features.
        indices: The encoder's levels to return; all where not given.
        logits_stride: Stride in pixels of the logits returned.
        precision: Of the computation.
        about: What else, JSON-able, the model's outputs depend on besides its weights and Spec.
    """

    def __init__(
        self,
        model: nn.Module,
        known: Spec,
        spec: Spec,
        bands: Sequence[int],
        network: nn.Module | None,
        indices: Sequence[int] | None = None,
        logits_stride: int = 1,
        precision: Precision = "auto",
        about: Mapping[str, object] | None = None,
    ) -> None:
        encoder = getattr(network, "encoder", None)
        encoder = encoder if isinstance(encoder, Encoder) else None
        channels, strides = (encoder.channels, encoder.strides) if encoder is not None else ((), ())
        chosen = tuple(range(len(channels))) if indices is None else tuple(indices)
        if not all(0 <= level < len(channels) for level in chosen):
            raise RecipeError(f"teacher.indices {list(chosen)}", f"levels below {len(channels)}")
        super().__init__(model, encoder, [(channels[level], strides[level]) for level in chosen], bands, precision)
        self.logits_stride, self._chosen = logits_stride, chosen
        self._known, self._classes = known.legend.names, spec.legend.names
        self._about = {"spec": known.to_dict(), **(about or {})}
        self._columns = [self._known.index(name) for name in self._classes if name in self._known]
        self._tap = None if network is None or encoder is None else FeatureTap(network)
        # Of several sizes of the image the tap would keep the last one's maps.
        self._at_scale_1: Segmenter | None = None
        if isinstance(model, Segmenter) and model.scales != (1.0,):
            self._at_scale_1 = model.with_scales((1.0,))

    def description(self, device: torch.device) -> dict[str, object]:
        """Return what its outputs on a device depend on besides its weights, JSON-able."""
        return {
            "kind": "SegmenterTeacher",
            "model": self._about,
            # Caches of before held the maps of the last of several sizes.
            **({} if self._at_scale_1 is None else {"maps": "at scale 1"}),
            "levels": [self._chosen[level] for level in self.levels],
            "strides": list(self.strides),
            "bands": self.bands,
            "classes": self._columns if self.asked_logits else None,
            "logits_stride": self.logits_stride,
            "precision": str(self._dtype(device)),
        }

    def _check_logits(self) -> None:
        if missing := [name for name in self._classes if name not in self._known]:
            raise RecipeError(
                f"a teacher of the classes {', '.join(self._known)} for a student of {', '.join(self._classes)}",
                f"a teacher that knows {', '.join(missing)} by that name",
                "rename the classes in the data's legend, or learn from its features alone",
            )

    def logits(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` float32 sensor units -> ``(B, K, H, W)`` float32, the student's classes that it knows."""
        with torch.no_grad(), self._autocast(image.device):
            logits: Tensor = self.module(image[:, self.bands].float())[:, self._columns].float()
        return logits

    def _outputs(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        logits = self.logits(image)
        if self._tap is None:
            return [], logits
        if self._at_scale_1 is not None:
            if self.asked_logits and not self.levels:
                return [], logits  # one more pass for nothing
            with torch.no_grad(), self._autocast(image.device):
                self._at_scale_1(image[:, self.bands].float())
        maps = self._tap.take(*image.shape[-2:])
        return [maps[level].float() for level in self._chosen], logits


class MeanTeacher(FrozenTeacher):
    """Returns the logarithm of the mean of several models' probabilities: their softmax is that mean.

    Args:
        members: What is averaged, all asked alike and without features.
    """

    def __init__(self, members: Sequence[SegmenterTeacher]) -> None:
        first = members[0]
        super().__init__(nn.ModuleList(member.module for member in members), None, (), first.bands, "auto")
        self.logits_stride, self._members = first.logits_stride, members

    def description(self, device: torch.device) -> dict[str, object]:
        """Return what its outputs on a device depend on besides its weights, JSON-able."""
        return {"kind": "MeanTeacher", "members": [member.description(device) for member in self._members]}

    def _check_logits(self) -> None:
        for member in self._members:
            member.ask(logits=True)

    def _outputs(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        every = [member.logits(image).log_softmax(1) for member in self._members]
        return [], torch.stack(every).logsumexp(0) - math.log(len(every))


def open_segmenter_teacher(config: TeacherConfig, spec: Spec) -> FrozenTeacher:
    """Return the trained Segmenter that a recipe's teacher names, or the mean of several, for images of a Spec.

    Raises:
        RecipeError: Bands or settings do not fit.
        ArtifactError: There is no such Segmenter.
        UnknownNameError: No such band.
    """
    if not config.segmenters:
        raise RecipeError("teacher.segmenter []", "a Segmenter, or several")
    if len(config.segmenters) == 1:
        return _open_one(config, config.segmenters[0], spec)
    if config.indices is not None:
        raise RecipeError("teacher.indices beside several teacher.segmenter", "one of them: a mean has no levels")
    return MeanTeacher([_open_one(config, name, spec, features=False) for name in config.segmenters])


def _open_one(config: TeacherConfig, name: str, spec: Spec, features: bool = True) -> SegmenterTeacher:
    """Return one trained Segmenter as the teacher that a recipe describes.

    Without features no map of its encoder is kept from one batch to the next.

    Raises:
        RecipeError: Bands or settings do not fit.
        ArtifactError: There is no such Segmenter.
        UnknownNameError: No such band.
    """
    if config.statistics == "data":
        raise RecipeError("teacher.statistics data beside teacher.segmenter", "encoder: a Segmenter has its own")
    segmenter = Segmenter.load(name)
    if len(segmenter.prompts) > 1:
        raise RecipeError(
            f"a teacher with a prompt for each of {', '.join(segmenter.prompts)}",
            "one that takes images alone",
            "save Segmenter.for_prompt of one of them, and name that",
        )
    known = segmenter.spec
    if config.bands is None and known.channels != spec.channels and not set(known.bands) <= set(spec.bands):
        raise RecipeError(
            f"a teacher of the bands {', '.join(known.bands)} for images of {', '.join(spec.bands)}",
            "bands by the same names",
            "say which of the image's bands those are with teacher.bands",
        )
    bands = teacher_bands(config.bands, spec, known.channels, known.bands)
    return SegmenterTeacher(
        segmenter,
        known,
        spec,
        bands,
        segmenter.network.network if features else None,
        config.indices if features else None,
        config.logits_stride,
        config.precision,
        {"network": segmenter.name, "arguments": segmenter.arguments, **segmenter.settings.to_dict()},
    )
