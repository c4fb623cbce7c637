"""Which tensors of a network of several data sets are of which: a head each, beside what all of them share.

Such a network has an argument ``sets``, the classes of each set by name, and the heads ``heads.0.``, ``heads.1.`` ...
in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def state_of_set(state: Mapping[str, Tensor], position: int) -> dict[str, Tensor]:
    """Return the state of the network of one set: what is shared, and the set's own head as the only one."""
    prefix = f"heads.{position}."
    shared = {key: value for key, value in state.items() if not key.startswith("heads.")}
    return shared | {f"heads.0.{key.removeprefix(prefix)}": v for key, v in state.items() if key.startswith(prefix)}


def named_by_set(key: str, sets: Sequence[str]) -> str:
    """Return a tensor's name with that of its set in place of the number; as it is where it is of no head."""
    for position, name in enumerate(sets):
        if key.startswith(prefix := f"heads.{position}."):
            return f"heads.{name}.{key.removeprefix(prefix)}"
    return key
