"""A Segmenter for each of the data sets that a network learnt at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geodistill.data.data_config import DataConfig
from geodistill.nn.set_heads import state_of_set
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec


def save_set_segmenters(
    out: Path,
    whole: Segmenter,
    sources: Mapping[str, DataConfig],
    sets: Mapping[str, Spec],
    miou: Mapping[str, float],
) -> None:
    """Write a Segmenter for every set, in a directory of its name: the shared network with the set's own head.

    Args:
        out: Where the directories go.
        whole: The Segmenter of all sets.
        sources: Each set's own config by its name.
        sets: Spec of each set by its name in the network, in the same order; one alone has none there.
        miou: Validation mIoU in 0..1 of each set that has validation images, by the same names.

    Raises:
        OutputError: They cannot be written.
    """
    state = whole.network.network.state_dict()
    arguments = {key: value for key, value in whole.arguments.items() if key != "sets"}
    for position, ((name, source), (key, spec)) in enumerate(zip(sources.items(), sets.items(), strict=True)):
        about = {"set": name, "manifest": source.manifest, "scores": {"validation_miou": miou.get(key)}}
        parts = (whole.name, arguments, spec, state_of_set(state, position), whole.tile, whole.provenance | about)
        Segmenter.from_network(*parts, whole.scales).save(out / name)
