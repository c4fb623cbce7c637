"""Which backend is fastest here, among those that give the map torch gives."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from geodistill.backends import Precision
from geodistill.backends.backend import Backend, available, open_graph, precisions
from geodistill.backends.graph_cache import kept_graph
from geodistill.backends.torch_backend import TorchBackend
from geodistill.errors import ArtifactError, RecipeError
from geodistill.segmenter import Segmenter

TOLERANCE = 1e-3
"""Largest share of pixels whose most probable class may differ from that of torch in fp32."""

PAYS = 20.0
"""Seconds that torch must take for the work ahead before a few of them are spent on exporting and comparing."""

_LONG_ENOUGH = 0.3
"""Seconds of calls that time a backend well."""


@dataclass(frozen=True)
class Candidate:
    """A backend that was tried: its speedup over torch in fp32, and the share of pixels (0..1) whose class changed."""

    name: str
    precision: Precision
    speedup: float
    changed: float

    def __str__(self) -> str:
        return f"{self.name} {self.precision} {self.speedup:.1f}x, {100 * self.changed:.3f} % of pixels differ"


@dataclass(frozen=True)
class Choice:
    """What was chosen, with every backend that was measured, the chosen first; or the reason why none was tried.

    Name and precision open the same one again, as a resumed map needs.
    """

    name: str
    precision: Precision
    tried: tuple[Candidate, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        measured = "; ".join(map(str, self.tried))
        bound = f" (tolerance {100 * TOLERANCE:.1f} %)" if self.tried else ""
        return f"backend {self.name} {self.precision}" + "".join(
            f": {part}" for part in (f"{measured}{bound}" if measured else "", self.reason) if part
        )


def choose_backend(
    segmenter: Segmenter,
    windows: Tensor,
    *,
    device: torch.device | str,
    precision: Precision | Literal["auto"] = "auto",
    expected: int | None = None,
) -> tuple[Backend, Choice]:
    """Open the fastest installed backend that reproduces the most probable classes of torch in fp32.

    Args:
        segmenter: The model, on the device.
        windows: ``(B, C, S, S)`` float32, sensor units: some of the images it will run on, as many as a batch.
        device: Where to run.
        precision: One precision, or ``auto`` for any that keeps within `TOLERANCE`.
        expected: How many windows are to come; where torch is soon done with them, nothing else is tried.

    Returns:
        The backend, and what was measured. The measured times vary from run to run, so whoever must give one
        result twice keeps the choice.

    Raises:
        RecipeError: No backend here has the precision.
    """
    plain = TorchBackend(segmenter, "fp32", len(windows), False)
    reference, seconds = plain(windows).argmax(1), _seconds(plain, windows)
    plain_precision: Precision = "fp32" if precision == "auto" else precision
    has_it = plain_precision in precisions("torch", device)
    if has_it and expected is not None and seconds * expected / len(windows) < PAYS:
        chosen = plain if plain_precision == "fp32" else TorchBackend(segmenter, plain_precision, len(windows), False)
        return chosen, Choice("torch", plain_precision, reason=f"{expected} windows take torch less than {PAYS:.0f} s")
    backends: list[Backend] = [plain] if precision in ("auto", "fp32") else []
    opened, reason = _open_others(segmenter, windows, torch.device(device), precision)
    measured = []
    for backend in [*backends, *opened]:
        changed, speedup = 0.0, 1.0
        if backend is not plain:
            changed = float((backend(windows).argmax(1) != reference).float().mean())
            speedup = seconds / _seconds(backend, windows)
        measured.append((backend, Candidate(backend.name, backend.precision, speedup, changed)))
    if not measured:
        here = f"precision {precision} on this {torch.device(device).type}"
        raise RecipeError(here, f"one of {', '.join(precisions('torch', device))}", reason)
    measured.sort(key=lambda pair: (pair[1].changed > TOLERANCE, -pair[1].speedup))
    best = measured[0][0]
    return best, Choice(best.name, best.precision, tuple(candidate for _, candidate in measured), reason)


def _open_others(
    segmenter: Segmenter, windows: Tensor, device: torch.device, precision: Precision | Literal["auto"]
) -> tuple[list[Backend], str]:
    """Open every backend beside plain torch that has the precision."""
    batch, names = len(windows), available(device)
    others = [
        (name, kind)
        for name in names
        for kind in precisions(name, device)
        if precision in ("auto", kind) and (name, kind) != ("torch", "fp32")
    ]
    graphs = [(name, kind) for name, kind in others if name != "torch"]
    opened: list[Backend] = []
    reason = "" if len(names) > 1 else "nothing but torch is installed for this device"
    if graphs:
        try:
            with kept_graph(segmenter, windows.shape[-1]) as path:
                opened = [open_graph(name, path, device, kind, batch) for name, kind in graphs]
        except ArtifactError as error:
            reason = str(error)
    if not opened or device.type != "cpu":
        # On processors torch's lower precisions have never been the fastest where another backend runs the network.
        opened += [TorchBackend(segmenter, kind, batch, False) for name, kind in others if name == "torch"]
    return opened, reason


def _seconds(backend: Backend, windows: Tensor) -> float:
    """Time a call that is already warm: the fastest of three, or of fewer where they are slow."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < _LONG_ENOUGH:
        start = time.perf_counter()
        # To the host and back in the time: a device answers before it is done.
        backend(windows)[:, :1, :1, :1].cpu()
        times.append(time.perf_counter() - start)
    return min(times)
