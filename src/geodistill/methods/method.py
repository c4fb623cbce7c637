"""What a method is: the table of all, what one hands to the training task, and the names of its loss terms."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from geodistill.data.manifest import Row
from geodistill.data.sampling import Batch
from geodistill.errors import RecipeError, UnknownNameError, check_name
from geodistill.lazy import choose, load
from geodistill.methods.teacher import FrozenTeacher
from geodistill.nn.encoders import Encoder
from geodistill.nn.feature_losses import MAP_LOSSES
from geodistill.nn.output import SegmentationOutput
from geodistill.spec import Spec

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from geodistill.methods.schema import Recipe  # which names the loss terms of this module
    from geodistill.methods.task import Phase  # Lightning takes seconds to import

METHODS: dict[str, str] = {
    name: f"geodistill.methods.{name}.training:METHOD"
    for name in ("supervised", "ktda", "kda", "maflnet", "metasegnet", "sep")
}
"""The `MethodPlug` of each method, imported when its name is asked for."""

DEFAULT_TEACHER = "teacher"
"""Name of the recipe's ``teacher`` among its teachers."""

LOGIT_LOSSES: dict[str, str] = {
    kind: f"geodistill.methods.distillation:{kind}" for kind in ("kd", "cwd", "dist_inter", "dist_intra")
}
"""Distillation terms on logits that every recipe can name: functions of ``student`` and ``teacher``, ``(B, K, H, W)``
float32 logits, ``mask``, ``(B, H, W)`` int64, and the recipe's ``losses``, which return a scalar."""

FEATURE_LOSSES = ("feature", *MAP_LOSSES, "adversarial")
"""Distillation terms on features."""

PSEUDO = "pseudo"
"""The term on images without labels alone, whose labels are the teacher's: see `geodistill.methods.self_training`."""


class Objective:
    """The named loss terms of a method, with any frozen teacher they need.

    It is no part of the network, so a teacher stays out of the optimiser, of DDP and of checkpoints. A method has
    terms of its own; all else has a default: factors that stay the same, nothing to move, no teacher, no state.

    Attributes:
        weights: The factor of each term before any schedule.
        label_free: The terms that images without labels serve as well.
        wants_plain: Whether it needs each image as it was before its colours were changed, too.
    """

    label_free: frozenset[str] = frozenset()
    wants_plain: bool = False

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights = weights

    def prepare(self, batch: Batch) -> Batch:
        """Return what the network is to see of a batch, with what its terms need beside; the same batch here."""
        return batch

    def lines(self) -> list[str]:
        """Return what a user should know at the end of a run, one line each."""
        return []

    @abstractmethod
    def __call__(self, output: SegmentationOutput, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch: scalars with a graph, under the same names at every step."""

    def weight(self, name: str, step: int) -> float:
        """Return the factor of a term at ``step`` (from 0); the same at every step here."""
        return self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Move the teacher, if any."""

    def teacher_module(self) -> nn.Module | None:
        """Return the frozen teacher's module, for counting; ``None`` where there is none."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs, such as running statistics; no teacher weights."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""


class WrappedObjective(Objective):
    """An objective around another, which it asks at every hook: a subclass overrides only what it changes.

    Args:
        inner: The other.
        added: Factors of terms beside its own, which images without labels serve as well; ``__call__`` adds the terms.
        teachers: Whom they ask.
    """

    def __init__(
        self, inner: Objective, added: Mapping[str, float] | None = None, teachers: Collection[FrozenTeacher] = ()
    ) -> None:
        added = added or {}
        super().__init__({**inner.weights, **added})
        self.inner, self.teachers = inner, tuple(teachers)
        self.label_free = inner.label_free | frozenset(added)
        self.wants_plain = inner.wants_plain

    def prepare(self, batch: Batch) -> Batch:
        """Return what the inner one makes of a batch."""
        return self.inner.prepare(batch)

    def lines(self) -> list[str]:
        """Return the inner one's lines."""
        return self.inner.lines()

    def weight(self, name: str, step: int) -> float:
        """Return the factor of a term; of an added one, the same at every step."""
        return self.inner.weight(name, step) if name in self.inner.weights else self.weights[name]

    def to(self, device: torch.device | str) -> None:
        """Move all teachers."""
        self.inner.to(device)
        for teacher in self.teachers:
            teacher.to(device)

    def teacher_module(self) -> nn.Module | None:
        """Return all teachers' modules together, each once; ``None`` where there is none."""
        every = (self.inner.teacher_module(), *(teacher.module for teacher in self.teachers))
        modules = [module for module in every if module is not None]
        return nn.ModuleList(modules) if modules else None

    def state_dict(self) -> dict[str, Any]:
        """Return the inner one's state."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take `state_dict`'s result back."""
        self.inner.load_state_dict(state)


Context = Callable[[Batch], dict[str, Tensor]]
"""What a network takes beside the images of a batch."""


def no_context(batch: Batch) -> dict[str, Tensor]:
    """Return nothing: the network takes images alone."""
    return {}


@dataclass
class Method:
    """A method ready to train.

    Attributes:
        name: Key of the network's class in ``geodistill.segmenter.NETWORKS``.
        arguments: JSON-able keyword arguments that rebuild the network for inference, with ``auxiliary=False``; an
            ``encoder`` among them is called as the network's own is.
        network: The training form; takes normalised images.
        objective: Its loss terms.
        phase: What to train before the network, sharing its modules; ``None`` where there is nothing.
        context: What the network takes beside the images, tensors by the name of its argument.
        adapters: Modules trained beside the network that only the losses use; no Segmenter holds them.
        weighting: The `Weighting` that turns terms and factors into one number; their sum where not given.
        teachers: The frozen teachers that the objective asks, by their names in the recipe.
        notes: What a user should know before the first step, one line each.
        complete: Turns the trained network's state into that of the finished one.
        callbacks: Lightning's callbacks of the steps on labels.
    """

    name: str
    arguments: dict[str, Any]
    network: nn.Module
    objective: Objective
    phase: Phase | None = None
    context: Context = no_context
    adapters: nn.Module | None = None
    weighting: nn.Module | None = None
    teachers: dict[str, FrozenTeacher] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    complete: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    callbacks: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        encoder = getattr(self.network, "encoder", None)
        if "encoder" in self.arguments and isinstance(encoder, Encoder):
            # The encoder's own name may hold more: the padding that its weights were trained with.
            self.arguments = {**self.arguments, "encoder": encoder.name}

    def uses_unlabelled(self) -> bool:
        """Whether images without labels change anything in the labelled steps."""
        return any(self.objective.weights.get(name, 0.0) != 0 for name in self.objective.label_free)


@dataclass(frozen=True)
class BuildContext:
    """What a method is built for, beside its recipe.

    Attributes:
        spec: Classes and bands of the data, and the normalisation of the network's input.
        data_spec: The same with the data's own normalisation, where that is another.
        teachers: The recipe's teachers that are asked for, by name; ``teacher`` among them where the method needs one.
        rows: The images that will be seen, with labels or without, for a method that needs the place of each.
        sets: Spec of each data set by name, where the network learns several at once.
        class_pixels: Training pixels of each class, as the manifest counted them; empty where it did not.
    """

    spec: Spec
    teachers: Mapping[str, FrozenTeacher] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    sets: Mapping[str, Spec] = field(default_factory=dict)
    class_pixels: Sequence[int] = ()
    data_spec: Spec | None = None


@dataclass(frozen=True)
class MethodPlug:
    """A method as `METHODS` names it.

    Attributes:
        recipe: Its recipe, a dataclass whose defaults are the method's.
        build: Returns the method of such a recipe, whose ``losses.weights`` hold the method's own terms alone.
        presets: Choices of form by preset, laid under the recipe's values, none for a preset that is not here; rates,
            batch sizes and lengths belong in recipes.
    """

    recipe: type[Recipe]
    build: Callable[[Any, BuildContext], Method]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def find_method(name: str) -> MethodPlug:
    """Return the plug of a method.

    Raises:
        UnknownNameError: No method has that name.
    """
    plug: MethodPlug = choose("method", name, METHODS)
    return plug


def choose_preset(
    flags: Mapping[str, str], data: Mapping[str, Any], blocks: Mapping[str, Any], plug: MethodPlug, method: str
) -> str:
    """Return the preset's name.

    Raises:
        RecipeError: A flag asks for a preset that neither the method nor the file says anything of.
        UnknownNameError: There is no such preset.
    """
    known = dict.fromkeys([*get_args(load("geodistill.methods.schema:Preset")), *plug.presets])
    preset = str(flags.get("preset", data.get("preset", "coherent")))
    for name in (*blocks, preset):
        check_name("preset", name, known)
    valued = dict.fromkeys(["coherent", *plug.presets, *blocks])
    if "preset" in flags and preset not in valued:
        raise RecipeError(f"preset {preset} of method {method}, which has no values for it", f"{', '.join(valued)}")
    return preset


def all_weights(known: Mapping[str, float], given: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of every loss term: the given one, or the default.

    Raises:
        UnknownNameError: A weight of no such term.
    """
    for name in given:
        check_name("loss term", name, known)
    return {**known, **given}


def network_arguments(config: DataclassInstance, *of_training: str) -> dict[str, Any]:
    """Return the arguments that a network is rebuilt by: all fields but its weights and those ``of_training`` alone."""
    return {key: value for key, value in asdict(config).items() if key not in ("encoder_weights", *of_training)}


@dataclass(frozen=True)
class Term:
    """A distillation term: its name in ``losses.weights``, its teacher's, and a kind that recipes can name."""

    name: str
    teacher: str
    kind: str


def split_weights(
    weights: Mapping[str, float], method_terms: Collection[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Part a recipe's ``losses.weights`` into the method's own terms and the distillation terms.

    Raises:
        UnknownNameError: A term is neither.
    """
    kinds = (*LOGIT_LOSSES, *FEATURE_LOSSES, PSEUDO)
    distilled = {name: weight for name, weight in weights.items() if name not in method_terms}
    for name in distilled:
        if name.rpartition(".")[2] not in kinds:
            raise UnknownNameError("loss term", name, [*method_terms, *kinds])
    return {name: weight for name, weight in weights.items() if name in method_terms}, distilled


def parse_term(name: str, teachers: Sequence[str]) -> Term:
    """Read a term's name.

    Raises:
        RecipeError: Its teacher is not in the recipe.
    """
    prefix, _, kind = name.rpartition(".")
    teacher = prefix or DEFAULT_TEACHER
    if teacher not in teachers:
        where = f"teachers.{prefix}" if prefix else "teacher"
        raise RecipeError(f"loss term {name} in a recipe without {where}", "that teacher", f"set {where}.segmenter")
    return Term(name, teacher, kind)
