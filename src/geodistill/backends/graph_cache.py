"""Exported graphs kept on this machine: to export one takes longer than all else before the first row of a map."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from platformdirs import user_cache_path

from geodistill.backends.graph import OPSET, example, parity, plain_copy, runtime_errors, to_onnx
from geodistill.errors import ArtifactError, OutputError
from geodistill.segmenter import Segmenter

MOST_BYTES = 2 * 2**30
"""Bytes of graphs that are kept; beyond them those that were used longest ago go."""


@contextmanager
def kept_graph(segmenter: Segmenter, size: int) -> Iterator[Path]:
    """Yield the graph of a Segmenter for one image of ``size`` x ``size`` pixels per call, with the logits of torch.

    A graph that an earlier run kept is compared with torch as a new one is, and exported again where it differs.
    Where none can be kept (no place that can be written, a full disk) it lives as long as the ``with`` block.

    Raises:
        RecipeError: The packages are not installed, or the model has several prompts.
        ArtifactError: The network cannot be exported so.
    """
    path = graphs_folder() / f"{_key(segmenter, size)}.onnx"
    if _is_good(segmenter, size, path):
        with suppress(OSError):  # a cache of somebody else's, to be read alone
            os.utime(path)
    else:
        try:
            to_onnx(segmenter, path, size=size, batch=1)
        except OutputError:
            with TemporaryDirectory() as folder:
                path = Path(folder) / path.name
                to_onnx(segmenter, path, size=size, batch=1)
                yield path
            return
        with suppress(OSError):  # another process may forget the same ones
            _forget_oldest(path)
    yield path


def graphs_folder() -> Path:
    """Return the folder of kept graphs: in ``GEODISTILL_CACHE`` where that is set, else in the user's cache folder."""
    named = os.environ.get("GEODISTILL_CACHE")
    return (Path(named) if named else user_cache_path("geodistill")) / "graphs"


def _key(segmenter: Segmenter, size: int) -> str:
    """Return a name of all that a graph follows from."""
    about = f"{segmenter.fingerprint()} {size} {OPSET} {torch.__version__}"
    return hashlib.sha256(about.encode()).hexdigest()[:32]


def _is_good(segmenter: Segmenter, size: int, path: Path) -> bool:
    if not path.is_file():
        return False
    broken: tuple[type[Exception], ...] = (ArtifactError, *runtime_errors())
    try:
        parity(plain_copy(segmenter), path, example(segmenter.spec, (1, size, size)))
    except broken:
        return False
    return True


def _forget_oldest(newest: Path) -> None:
    """Remove the graphs used longest ago until the others fit into `MOST_BYTES`; never the newest."""
    graphs = {path: path.stat() for path in newest.parent.glob("*.onnx")}
    whole = sum(graph.st_size for graph in graphs.values())
    for path in sorted(graphs.keys() - {newest}, key=lambda path: graphs[path].st_mtime_ns):
        if whole <= MOST_BYTES:
            return
        path.unlink(missing_ok=True)
        whole -= graphs[path].st_size
