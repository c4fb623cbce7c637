"""Which tensors of a `SepNetwork` are of which set: ``heads.0.``, ``heads.1.`` ... lie beside what all sets share."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor


def state_of_set(state: Mapping[str, Tensor], position: int) -> dict[str, Tensor]:
    """Return the state of the network of one set: what is shared, and the set's own head as the only one."""
    prefix = f"heads.{position}."
    shared = {key: value for key, value in state.items() if not key.startswith("heads.")}
    return shared | {f"heads.0.{key.removeprefix(prefix)}": v for key, v in state.items() if key.startswith(prefix)}


def of_every_set(keys: Collection[str], count: int) -> set[str]:
    """Return tensors of the first head, and the same of all ``count`` heads."""
    return {key.replace("heads.0.", f"heads.{position}.", 1) for key in keys for position in range(count)}


def named_by_set(key: str, sets: Sequence[str]) -> str:
    """Return a tensor's name with that of its set in place of the number; as it is where it is of no head."""
    for position, name in enumerate(sets):
        if key.startswith(prefix := f"heads.{position}."):
            return f"heads.{name}.{key.removeprefix(prefix)}"
    return key
