"""What a recipe or a Segmenter weighs: parameters, multiply-adds, shapes and activation memory, without training it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from geodistill.data.manifest import Manifest, make_spec, without_labels
from geodistill.data.several_sets import join_specs
from geodistill.errors import RecipeError
from geodistill.methods.method import DEFAULT_TEACHER, PSEUDO, BuildContext, Method, parse_term, split_weights
from geodistill.methods.schema import Recipe
from geodistill.methods.teacher import TeacherConfig
from geodistill.segmenter import inference_network, read_description
from geodistill.spec import Legend, Spec
from geodistill.training.build import build_method, teacher_configs
from geodistill.training.recipe import load_recipe


@dataclass(frozen=True)
class Inspection:
    """The figures of one network.

    Attributes:
        name: Recipe or Segmenter.
        size: Side of the square input in pixels.
        channels: Bands of the input.
        classes: Classes of the output.
        parameters: All that training holds, with the frozen teacher.
        trainable: Parameters that training changes.
        inference_parameters: Parameters of the network as a Segmenter.
        macs: Multiply-adds of one image at inference (convolutions, linear layers and attention).
        output: Shape of the logits.
        activation_bytes: Peak memory of live activations for one image, at inference and in training.
        modules: Parameters of each part of the training network, and of the teacher.
    """

    name: str
    size: int
    channels: int
    classes: int
    parameters: int
    trainable: int
    inference_parameters: int
    macs: int
    output: tuple[int, ...]
    activation_bytes: dict[str, int]
    modules: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)

    def to_text(self) -> str:
        """Return an aligned table."""
        mib = {key: value / 2**20 for key, value in self.activation_bytes.items()}
        rows = [
            ("parameters", f"{self.parameters:,}"),
            ("trainable", f"{self.trainable:,}"),
            ("trainable share", f"{100 * self.trainable / max(self.parameters, 1):.1f} %"),
            ("at inference", f"{self.inference_parameters:,}"),
            *((f"  {name}", f"{count:,}") for name, count in self.modules.items()),
            (f"multiply-adds at {self.size} px", f"{self.macs / 1e9:,.2f} G"),
            ("input", f"1 x {self.channels} x {self.size} x {self.size}"),
            ("logits", " x ".join(map(str, self.output))),
            ("activations, inference", f"{mib['inference']:,.1f} MiB"),
            ("activations, training", f"{mib['training']:,.1f} MiB"),
        ]
        width = max(len(label) for label, _ in rows)
        return "\n".join([self.name, *(f"  {label:<{width}}  {value:>16}" for label, value in rows)])


_FILLING = {"uniform_", "normal_", "erfinv_", "mul_", "div_", "add_", "sub_", "clamp_", "fill_", "zero_", "copy_"}
"""Functions in place that initialisers are made of."""


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows how many bytes of tensors made inside the mode are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count the storages it makes."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._seen:
                    self._seen.add(key)
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._free, key, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size


def inspect(target: str | Path, size: int = 512, channels: int | None = None, classes: int | None = None) -> Inspection:
    """Weigh a recipe (file or shipped name), a run or a Segmenter directory. Nothing is trained or downloaded.

    Args:
        target: The recipe, run or directory.
        size: Side of the square input in pixels.
        channels: Bands, for a recipe whose manifest is not there; 3 where not given.
        classes: Classes, for a recipe whose manifest is not there; where not given, those that the recipe was
            written for, or 2.

    Raises:
        GeodistillError: The target is no recipe and no Segmenter.
        RecipeError: Bands or classes are given for what has its own; or a number is below 1.
    """
    check_counts(size, channels, classes)
    path = Path(target)
    if (path / "segmenter").is_dir():
        path = path / "segmenter"
    given = channels is not None or classes is not None
    if path.is_dir():
        if given:
            raise RecipeError(f"channels or classes for the trained model {path}", "none: it has its own")
        name, arguments, spec = read_description(path)
        network = blank_network(name, arguments, spec)
        return _weigh(str(path), network, network, spec, size, _count(network))
    recipe = load_recipe(target)
    known = _known_spec(recipe)
    if known is not None and given:
        raise RecipeError("channels or classes for a recipe whose manifest is there", "none: the manifest has them")
    bands = tuple(f"band{i + 1}" for i in range(3 if channels is None else channels))
    count = (recipe.data.classes or 2) if classes is None else classes
    legend = Legend(tuple(f"class{i}" for i in range(count)))
    spec, sets = known or (Spec(legend, bands), {})
    method = blank_method(recipe, spec, sets)
    teacher = method.objective.teacher_module()
    frozen = (0 if teacher is None else _count(teacher)) + _trained_teachers(recipe)
    stands_in = teacher is not None and recipe.teacher is not None and _is_missing(recipe.teacher)
    beside = {"stand-in for the teacher" if stands_in else "teacher (frozen, not kept)": frozen} if frozen else {}
    beside |= {f"{name} (frozen, not kept)": count for name, count in recipe.frozen_parts().items()}
    adapters = 0 if method.adapters is None else _count(method.adapters)
    if adapters:
        beside["for losses alone (not kept)"] = adapters
    trainable = sum(p.numel() for p in method.network.parameters() if p.requires_grad) + adapters
    inference = blank_network(method.name, method.arguments, spec)
    return _weigh(str(target), method.network, inference, spec, size, trainable, beside)


def check_counts(size: int, channels: int | None, classes: int | None) -> None:
    """Refuse an input that no network takes.

    Raises:
        RecipeError: A number is below 1.
    """
    for name, value in (("size", size), ("channels", channels), ("classes", classes)):
        if value is not None and value < 1:
            raise RecipeError(f"{name} {value}", "at least 1")


def _weigh(
    name: str,
    network: nn.Module,
    inference: nn.Module,
    spec: Spec,
    size: int,
    trainable: int,
    beside: Mapping[str, int] = MappingProxyType({}),
) -> Inspection:
    """Weigh a network, with the parameters of what training has ``beside`` it."""
    image = torch.zeros(1, spec.channels, size, size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as flops, LiveMemory() as memory:
        logits = inference.eval()(image, **_context(inference, 1)).logits
    with LiveMemory() as training_memory:
        network.train()(image.expand(2, -1, -1, -1), **_context(network, 2))
    return Inspection(
        name=name,
        size=size,
        channels=spec.channels,
        classes=spec.classes,
        parameters=_count(network) + sum(beside.values()),
        trainable=trainable,
        inference_parameters=_count(inference),
        macs=flops.get_total_flops() // 2,
        output=tuple(logits.shape),
        activation_bytes={"inference": memory.peak, "training": training_memory.peak // 2},
        modules={child: _count(module) for child, module in network.named_children()} | dict(beside),
    )


def count_flops(network: nn.Module, channels: int, size: int) -> int:
    """Count the floating point operations of a blank network on one square image; a multiply-add is two."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        network.eval()(torch.zeros(1, channels, size, size, device="meta"), **_context(network, 1))
    return int(flops.get_total_flops())


def _context(network: nn.Module, count: int) -> dict[str, Tensor]:
    """Return what a network takes beside images."""
    return {"prompt": torch.zeros(count, dtype=torch.int64, device="meta")} if hasattr(network, "prompts") else {}


class _NoInitialValues(TorchFunctionMode):
    """Leaves out what would write values into tensors without memory: most of the time that a blank network takes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor that an in-place function would fill, or the function's result."""
        name = getattr(func, "__name__", "")
        if name in _FILLING and args and isinstance(args[0], Tensor) and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def blank_method(recipe: Recipe, spec: Spec, sets: Mapping[str, Spec] = MappingProxyType({})) -> Method:
    """Build a recipe's method without weights and without memory, on the meta device."""
    with torch.device("meta"), _NoInitialValues():
        return build_method(_without_weights(recipe), BuildContext(spec, sets=sets))


def blank_network(name: str, arguments: dict[str, Any], spec: Spec) -> nn.Module:
    """Build a network of `geodistill.segmenter.NETWORKS` as it is at inference, on the meta device."""
    with torch.device("meta"), _NoInitialValues():
        return inference_network(name, arguments, spec.channels, spec.classes)


def _known_spec(recipe: Recipe) -> tuple[Spec, dict[str, Spec]] | None:
    """Return the Spec of the recipe's data, and of each of its sets, where the manifests are there."""
    sources = recipe.data.sources()
    if not all(Path(source.manifest).is_file() for source in sources.values()):
        return None
    manifests = {name: Manifest.load(source.manifest) for name, source in sources.items()}
    if (manifest := manifests.get("")) is not None:
        return make_spec(without_labels(manifest) if "labels" not in recipe.stages else manifest), {}
    images = {name: len(manifest.rows("train")) for name, manifest in manifests.items()}
    return join_specs({name: make_spec(manifest) for name, manifest in manifests.items()}, images)


def _without_weights(recipe: Recipe) -> Recipe:
    """Return the recipe without initial weights: figures do not depend on them and they may not be on this machine.

    Trained teachers are dropped for the same reason, with the terms that ask them. Where the method cannot be built
    without one that is not on this machine, an encoder stands for it: the one that its block names.
    """
    configs = teacher_configs(recipe)
    kept = {name: replace(config, weights=None) for name, config in configs.items() if not _is_dropped(recipe, name)}
    missing = {name for name, config in kept.items() if _is_missing(config)}
    kept |= {name: replace(kept[name], segmenter=None) for name in missing}
    weights, distilled = split_weights(recipe.losses.weights, recipe.terms())
    for name, weight in distilled.items():
        term = parse_term(name, list(configs))
        if term.teacher in kept.keys() - missing and term.kind != PSEUDO:  # which has no parameters
            weights[name] = weight
    blank = recipe.without_weights()
    losses = replace(blank.losses, weights=weights)
    return replace(blank, losses=losses, teacher=kept.pop(DEFAULT_TEACHER, None), teachers=kept)


def _is_dropped(recipe: Recipe, teacher: str) -> bool:
    """Whether a teacher is a trained model, but where the method cannot be built without it."""
    required = teacher == DEFAULT_TEACHER and type(recipe)().teacher is not None
    return teacher_configs(recipe)[teacher].segmenter is not None and not required


def _is_missing(config: TeacherConfig) -> bool:
    """Whether a teacher is a trained model that is not on this machine, or the student itself."""
    return config.kind == "student" or not all(Path(folder).is_dir() for folder in config.segmenters)


def _trained_teachers(recipe: Recipe) -> int:
    """Parameters of the teachers that `_without_weights` drops and that are on this machine."""
    dropped = [config for name, config in teacher_configs(recipe).items() if _is_dropped(recipe, name)]
    names = {name for config in dropped if config.kind != "student" for name in config.segmenters}
    folders = [name for name in names if Path(name).is_dir()]
    return sum(_count(blank_network(*read_description(folder))) for folder in folders)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
