"""`fit --init`: a run begins with a trained Segmenter's weights, all but its heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from geodistill.errors import ArtifactError
from geodistill.methods.method import Method
from geodistill.nn.encoders import parse_name
from geodistill.nn.set_heads import named_by_set
from geodistill.segmenter import Segmenter, inference_network
from geodistill.spec import Spec

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class WarmStart:
    """What was taken over, each as tensors' names and numbers of parameters (0 for running statistics).

    Attributes:
        source: The Segmenter.
        loaded: Taken into the new network.
        skipped: Its heads, left behind.
        fresh: New parts of the network: its heads, and parts that only training has.
    """

    source: str
    loaded: dict[str, int]
    skipped: dict[str, int]
    fresh: dict[str, int]

    def lines(self) -> list[str]:
        """Return what `fit` prints."""
        return [
            f"from {self.source}: loaded {_counted(self.loaded, modules=False)}",
            f"  skipped {_counted(self.skipped)}",
            f"  fresh {_counted(self.fresh)}",
        ]


def warm_start(path: str, method: Method, spec: Spec) -> WarmStart:
    """Load a trained Segmenter's weights into a method's network, in place; heads stay as they were initialised.

    A head is every tensor whose shape depends on the number of classes. All others must be the same in both networks.

    Args:
        path: Segmenter directory, run directory or hub id.
        method: Its network takes the weights.
        spec: Of the new data.

    Raises:
        ArtifactError: There is no such Segmenter, or it differs from the network in more than heads.
    """
    segmenter = Segmenter.load(path)
    weights_given = {key: value.detach().cpu() for key, value in segmenter.network.network.state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in weights_given.items()}
    old_heads = heads(segmenter.name, segmenter.arguments, segmenter.spec)
    # The form that a Segmenter of the new run would have; what else is in the network only training uses.
    expected = _blank_shapes(method.name, method.arguments, spec.channels, spec.classes)
    new_heads = heads(method.name, method.arguments, spec)
    old = {key: shape for key, shape in theirs.items() if key not in old_heads}
    new = {key: shape for key, shape in expected.items() if key not in new_heads}
    if old != new:
        what = f"init {path}, a {_named(segmenter.name, segmenter.arguments)}"
        raise ArtifactError(
            f"{what}, differs in more than its heads: {_differences(old, new)}",
            f"the network of this recipe, a {_named(method.name, method.arguments)}",
            "set the recipe's network as it was trained, or take its encoder alone with --network.encoder_weights",
        )
    _refuse_other_padding(path, segmenter.arguments.get("encoder"), method.arguments.get("encoder"))
    state = method.network.state_dict()
    method.network.load_state_dict({**state, **{key: weights_given[key] for key in new}})
    old_sizes, new_sizes = (
        {key: value.numel() for key, value in network.named_parameters()}
        for network in (segmenter.network.network, method.network)
    )
    old_sets, new_sets = (list(each.arguments.get("sets", ())) for each in (segmenter, method))
    return WarmStart(
        path,
        {key: new_sizes.get(key, 0) for key in new},
        {named_by_set(key, old_sets): old_sizes.get(key, 0) for key in theirs if key in old_heads},
        {named_by_set(key, new_sets): new_sizes.get(key, 0) for key in state if key not in new},
    )


def heads(name: str, arguments: Mapping[str, Any], spec: Spec) -> set[str]:
    """Return the names of the tensors whose shapes depend on the number of classes, of a network as a Segmenter's."""
    sets = arguments.get("sets", {})  # a head each, and the number of classes is their sum
    more = {**arguments, "sets": {name: count + 1 for name, count in sets.items()}} if sets else arguments
    first = _blank_shapes(name, arguments, spec.channels, spec.classes)
    second = _blank_shapes(name, more, spec.channels, spec.classes + max(len(sets), 1))
    return {key for key in first if first[key] != second.get(key)}


def _blank_shapes(name: str, arguments: Mapping[str, Any], channels: int, classes: int) -> Shapes:
    with torch.device("meta"):
        network = inference_network(name, arguments, channels, classes)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def _refuse_other_padding(path: str, old: str | None, new: str | None) -> None:
    """Refuse an encoder whose weights fit and which would compute something else with them.

    Raises:
        ArtifactError: Padding or stride differ.
    """
    if old is None or new is None:
        return
    options = [{key: parse_name(name)[1].get(key) for key in ("pad_type", "output_stride")} for name in (old, new)]
    if options[0] != options[1]:
        raise ArtifactError(
            f"init {path}, with the encoder {old}", f"the recipe's, {new}", f"use --network.encoder '{old}'"
        )


def _differences(old: Shapes, new: Shapes) -> str:
    """Return the first tensors that are not the same, in the order of the new network."""
    differences = [
        f"{key} is {old[key]}, not {new[key]}" if key in old and key in new else f"{key} is missing"
        for key in new
        if old.get(key) != new[key]
    ]
    differences += [f"{key} is left over" for key in old if key not in new]
    return ", ".join(differences[:3]) + (f" and {len(differences) - 3} more" if len(differences) > 3 else "")


def _named(name: str, arguments: Mapping[str, Any]) -> str:
    described = [str(arguments[key]) for key in ("architecture", "encoder") if key in arguments]
    return " ".join([name, "network", *(["of", " on ".join(described)] if described else [])])


def _counted(tensors: Mapping[str, int], modules: bool = True) -> str:
    """Return how many tensors and parameters there are, and the modules that hold them."""
    text = f"{len(tensors)} tensors, {sum(tensors.values()):,} parameters"
    names = list(dict.fromkeys(key.rpartition(".")[0] for key in tensors)) if modules else []
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{text} ({', '.join(names[:4])}{more})" if names else text
