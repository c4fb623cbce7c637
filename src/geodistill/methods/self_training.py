"""Self-training: a teacher's classes of images without labels, as far as it is sure of them, are learnt like labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError
from geodistill.methods.method import Method, WrappedObjective, parse_term
from geodistill.methods.schema import CommonLosses
from geodistill.methods.teacher import FrozenTeacher, TeacherConfig
from geodistill.nn.decoders import resize
from geodistill.nn.losses import mean_over_processes, sum_over_processes
from geodistill.nn.output import SegmentationOutput
from geodistill.spec import IGNORE_INDEX, Spec

_KEPT = 0.99
"""Share of the running confidence of a class that stays at each step."""


class SelfTrainingObjective(WrappedObjective):
    """A method's own terms, and ``pseudo`` on images without labels; arguments as for `add_self_training`.

    The teacher sees each as it is, the student with other colours, and mixed with others where the recipe mixes::

        image as it is -> teacher -> probabilities, sure or not ---+
             |                                                     v
             +-> colours -> [mixed, with labels] -> student -> pseudo, on the pixels that are sure

    A pixel is sure where its highest probability reaches ``pseudo_confidence`` times ``m_c / max m``: ``m_c`` is the
    running mean of that probability over the pixels of its class (FreeMatch, Wang et al. 2023, Eq. 6-8), so that a
    class of which the teacher is rarely certain is not left out. ``soft`` compares probabilities (cross-entropy under
    the teacher's), ``hard`` takes its class. The term is the mean over all valid pixels without labels, sure or not
    (FixMatch, Sohn et al. 2020, Eq. 4): it weighs little while the teacher is sure of little.

    Attributes:
        unlabelled_pixels: Pixels without labels so far, by the teacher's class, ``(K,)`` int64.
        learnt_pixels: Those that were sure.
        held_pixels: Of the labelled pixels that `check` saw: all, the sure ones, and those of them that were right.
    """

    def __init__(
        self, method: Method, name: str, weight: float, teacher: FrozenTeacher, losses: CommonLosses, names: list[str]
    ) -> None:
        super().__init__(method.objective, {name: weight}, [teacher])
        self._name, self._teacher, self._losses, self._names = name, teacher, losses, names
        self.wants_plain = True
        teacher.ask(logits=True)
        self.unlabelled_pixels, self.learnt_pixels = (torch.zeros(len(names), dtype=torch.int64) for _ in range(2))
        self._confidence = torch.ones(len(names))
        self.held_pixels = torch.zeros(3, dtype=torch.int64)

    def prepare(self, batch: Batch) -> Batch:
        """Return the batch with ``soft``, the teacher's probabilities, and ``confident``, where they are learnt."""
        batch = super().prepare(batch)
        unlabelled = batch["unlabelled"]
        soft = self._probabilities(batch, unlabelled.flatten(1).any(1).nonzero()[:, 0])
        highest, classes = soft.max(1)
        confident = unlabelled & (highest >= self._thresholds(highest, classes, unlabelled)[classes])
        for counts, pixels in ((self.unlabelled_pixels, unlabelled), (self.learnt_pixels, confident)):
            counts += sum_over_processes(torch.bincount(classes[pixels], minlength=len(counts))).to(counts)
        prepared: dict[str, Any] = {**batch, "soft": soft, "confident": confident}
        prepared["pseudo_pixels"] = unlabelled.sum().float()
        return cast(Batch, prepared)

    def _probabilities(self, batch: Batch, rows: Tensor) -> Tensor:
        """Ask the teacher for some images of a batch; others have probabilities of 0 ``(B, K, H, W)``."""
        soft = batch["image"].new_zeros(len(batch["key"]), len(self._names), *batch["mask"].shape[-2:])
        if len(rows):
            tensors = {name: value[rows] for name, value in batch.items() if isinstance(value, Tensor)}
            keys = [batch["key"][row] for row in rows.tolist()]
            logits = self._teacher.targets(cast(Batch, {**tensors, "key": keys})).logits
            assert logits is not None  # they were asked for
            soft[rows] = resize(logits.float(), soft.shape[-2:]).softmax(1)
        return soft

    def _thresholds(self, highest: Tensor, classes: Tensor, counted: Tensor) -> Tensor:
        """Take a batch's probabilities into the running means, and return the threshold of each class ``(K,)``."""
        count = torch.bincount(classes[counted], minlength=len(self._names)).float()
        sums = torch.bincount(classes[counted], highest[counted].double(), len(self._names)).float()
        count, sums = (sum_over_processes(value).cpu() for value in (count, sums))
        mean = torch.where(count > 0, sums / count.clamp(min=1), self._confidence)
        self._confidence = _KEPT * self._confidence + (1 - _KEPT) * mean
        return self._least(highest.device)

    def _least(self, device: torch.device) -> Tensor:
        """Return the least probability of each class that is sure, ``(K,)``."""
        return (self._losses.pseudo_confidence * self._confidence / self._confidence.max()).to(device)

    @torch.no_grad()
    def check(self, batch: Batch) -> None:
        """Count on which of a batch's labelled pixels, none of them learnt from, the teacher is sure, and right."""
        soft = resize(self._teacher.compute(batch)[-1].float(), batch["mask"].shape[-2:]).softmax(1)
        highest, classes = soft.max(1)
        labelled = batch["mask"] != IGNORE_INDEX
        sure = labelled & (highest >= self._least(highest.device)[classes])
        right = sure & (classes == batch["mask"])
        counts = torch.stack([part.sum() for part in (labelled, sure, right)])
        self.held_pixels = self.held_pixels.to(counts) + counts

    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch."""
        terms = self.inner(output, batch, step)
        logits = resize(output.logits, batch["mask"].shape[-2:]).float()
        soft, confident = batch["soft"], batch["confident"]
        if self._losses.pseudo_labels == "hard":
            per_pixel = F.cross_entropy(logits, soft.argmax(1), reduction="none")
        else:
            per_pixel = -(soft * logits.log_softmax(1)).sum(1)
        terms[self._name] = (per_pixel * confident).sum() / mean_over_processes(batch["pseudo_pixels"])
        return terms

    def lines(self) -> list[str]:
        """Return what share of the pixels without labels was learnt from, and where it is not all, by class."""
        total, learnt = self.unlabelled_pixels.tolist(), self.learnt_pixels.tolist()
        if not sum(total):
            return [*super().lines(), "self-training saw no pixel without labels"]
        line = f"self-training used {100 * sum(learnt) / sum(total):.1f} % of {sum(total):,} pixels without labels"
        if learnt != total:
            counts = zip(self._names, total, learnt, strict=True)
            line += ": " + ", ".join(f"{name} {100 * part / of:.0f} %" for name, of, part in counts if of)
        lines = [*super().lines(), line]
        labelled, sure, right = self.held_pixels.tolist()
        if sure:
            where = f"on the validation images the teacher was sure of {100 * sure / labelled:.1f} % of the pixels"
            lines.append(f"{where}, and right on {100 * right / sure:.1f} % of those")
        return lines

    def state_dict(self) -> dict[str, Any]:
        """Return the method's own state, the running confidences and the counts."""
        counters = {
            "unlabelled_pixels": self.unlabelled_pixels,
            "learnt_pixels": self.learnt_pixels,
            "confidence": self._confidence,
            "held_pixels": self.held_pixels,
        }
        return {"inner": super().state_dict(), **counters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        super().load_state_dict(state["inner"])
        self.unlabelled_pixels, self.learnt_pixels, self._confidence = (
            state[key].clone() for key in ("unlabelled_pixels", "learnt_pixels", "confidence")
        )
        if "held_pixels" in state:  # else of an earlier version; the last validation counts them anew
            self.held_pixels = state["held_pixels"].clone()


class HeldAgreement(lightning.Callback):
    """Asks a self-training objective at the end how its teacher agrees with the labels of the validation images.

    That is behind the last validation and before it is saved, so that a run killed then has the answer.
    """

    def __init__(self, objective: SelfTrainingObjective) -> None:
        self._objective = objective

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go through the validation images once more, where the run is to stop."""
        if not trainer.should_stop:
            return
        self._objective.held_pixels = torch.zeros(3, dtype=torch.int64)
        for batch in trainer.val_dataloaders or ():
            moved = {name: batch[name].to(pl_module.device) for name in ("image", "mask")}
            self._objective.check(cast(Batch, {**batch, **moved}))
        counts = self._objective.held_pixels.to(pl_module.device)
        self._objective.held_pixels = sum_over_processes(counts).cpu()  # each process has a part of the images


class StudentTeacher(FrozenTeacher):
    """The student itself with averaged weights, as a teacher for logits (Tarvainen and Valpola 2017)."""

    def __init__(self, bands: int) -> None:
        super().__init__(nn.Identity(), None, (), range(bands), "fp32")

    def description(self, device: torch.device) -> dict[str, object]:
        """Refuse: its outputs change at every step, so that nothing of them can be kept.

        Raises:
            RecipeError: Always.
        """
        raise RecipeError("teacher.cache under teacher.segmenter student", "no cache: that teacher learns along")

    def follow(self, averaged: nn.Module | None) -> None:
        """Take the student's averaged weights.

        Raises:
            RecipeError: There are none.
        """
        if averaged is None:
            raise RecipeError("teacher.segmenter student without trainer.ema", "a decay such as 0.99")
        self.module = averaged

    def to(self, device: torch.device | str) -> None:
        """Stay: the task moves its averaged weights."""

    def _check_logits(self) -> None:
        """Every class is the student's own."""

    def _outputs(self, image: Tensor) -> tuple[list[Tensor], Tensor | None]:
        with torch.no_grad():
            return [], self.module(image).logits.float()


def open_student_teacher(config: TeacherConfig, spec: Spec) -> StudentTeacher:
    """Return the student itself as the teacher for images of a Spec.

    Raises:
        RecipeError: The recipe sets what only another teacher has.
    """
    for key in ("logits_stride", "precision", "bands"):
        if getattr(config, key) != getattr(TeacherConfig, key):
            doing = f"recipe key teacher.{key}, which does nothing: teacher.segmenter is student"
            raise RecipeError(doing, "keys that change the run")
    return StudentTeacher(spec.channels)


def add_self_training(
    method: Method,
    weights: Mapping[str, float],
    teachers: Mapping[str, FrozenTeacher],
    losses: CommonLosses,
    names: list[str],
) -> Method:
    """Return a method that learns from images without labels too.

    Args:
        method: With its own terms.
        weights: Factor of the one term ``pseudo``, or ``NAME.pseudo`` of the teacher called NAME.
        teachers: The recipe's, by name.
        losses: Which labels, and how sure.
        names: The classes.

    Raises:
        RecipeError: The teacher does not know the classes.
    """
    ((name, weight),) = weights.items()
    teacher = teachers[parse_term(name, list(teachers)).teacher]
    objective = SelfTrainingObjective(method, name, weight, teacher, losses, names)
    callbacks = (*method.callbacks, HeldAgreement(objective))
    return replace(method, objective=objective, teachers={**method.teachers, **teachers}, callbacks=callbacks)
