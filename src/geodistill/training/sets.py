"""What a run on several data sets leaves beside its Segmenter: one for each set, to be used like any other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from geodistill.data.data_config import SetsConfig
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec


def save_set_segmenters(
    folder: Path, whole: Segmenter, sets: Mapping[str, Spec], miou: Mapping[str, float], data: SetsConfig
) -> None:
    """Write a Segmenter for every set: the shared encoder and decoder with the set's own head.

    Args:
        folder: Each goes into a directory of its set's name.
        whole: The Segmenter of all sets.
        sets: Spec of each set by name.
        miou: Validation mIoU in 0..1 of each set that has validation images.
        data: The recipe's, which names the manifests.

    Raises:
        OutputError: They cannot be written.
    """
    state = whole.network.network.state_dict()
    manifests = {name: own.manifest for name, own in data.by_set().items()}
    arguments = {key: value for key, value in whole.arguments.items() if key != "sets"}
    for position, (name, spec) in enumerate(sets.items()):
        own, prefix = f"heads.{position}.", "heads."
        shared = {key: value for key, value in state.items() if not key.startswith(prefix)}
        head = {f"heads.0.{key.removeprefix(own)}": value for key, value in state.items() if key.startswith(own)}
        about = {"set": name, "manifest": manifests[name], "scores": {"validation_miou": miou.get(name)}}
        segmenter = Segmenter.from_network(
            whole.name, arguments, spec, shared | head, whole.tile, whole.provenance | about
        )
        segmenter.save(folder / name)
