"""An exported graph serves later runs: never another model's, never one that is broken, never too many."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from geodistill.backends import graph_cache
from geodistill.backends.backend import open_backend
from geodistill.backends.graph import example
from geodistill.errors import ArtifactError, OutputError
from geodistill.files import atomic_path
from geodistill.segmenter import Segmenter
from tiny import tiny_networks, tiny_segmenter

MADE: dict[tuple[str, int], bytes] = {}
"""Graphs that a test has exported, by model and size: to export one anew takes a second."""


@pytest.fixture(autouse=True)
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sizes at which a graph was exported, in a cache of the test's own."""
    sizes: list[int] = []
    plain = graph_cache.to_onnx

    def counted(segmenter: Segmenter, path: Path, **more: Any) -> float:
        sizes.append(more["size"])
        key = segmenter.fingerprint(), more["size"]
        if key not in MADE:
            plain(segmenter, tmp_path / "made.onnx", **more)
            MADE[key] = (tmp_path / "made.onnx").read_bytes()
        with atomic_path(path) as part:
            part.write_bytes(MADE[key])
        return 0.0

    monkeypatch.setattr(graph_cache, "to_onnx", counted)
    monkeypatch.setenv("GEODISTILL_CACHE", str(tmp_path / "cache"))
    with tiny_networks():
        yield sizes


def graphs() -> list[Path]:
    return sorted(graph_cache.graphs_folder().iterdir())


@pytest.mark.slow
def test_a_graph_is_exported_once_a_model_and_size(exports: list[int]) -> None:
    images = example(tiny_segmenter("context").spec, (2, 32, 32))
    for name in ("onnx", "openvino", "onnx"):
        model = tiny_segmenter("context")
        found = open_backend(name, model, device="cpu", size=32, batch=2)(images)
        with torch.no_grad():
            torch.testing.assert_close(found, model(images), atol=1e-4, rtol=1e-4)
    assert exports == [32]
    with graph_cache.kept_graph(tiny_segmenter("context"), 16), graph_cache.kept_graph(tiny_segmenter("band"), 16):
        assert exports == [32, 16, 16]
    other = tiny_segmenter("context")
    with torch.no_grad():
        next(other.parameters()).mul_(2)
    with graph_cache.kept_graph(other, 16) as path:
        assert path in graphs()
    assert exports == [32, 16, 16, 16]
    assert len(graphs()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("harm", ["cut short", "emptied", "another model's"])
def test_a_graph_that_is_not_the_models_is_made_again(harm: str, exports: list[int]) -> None:
    model = tiny_segmenter("context")
    with graph_cache.kept_graph(model, 16) as path:
        whole = path.read_bytes()
    if harm == "another model's":
        other = tiny_segmenter("context")
        with torch.no_grad():
            next(other.parameters()).mul_(2)
        with graph_cache.kept_graph(other, 16) as theirs:
            path.write_bytes(theirs.read_bytes())
    else:
        path.write_bytes(whole[: len(whole) // 2] if harm == "cut short" else b"")
    exports.clear()
    with graph_cache.kept_graph(model, 16) as path:
        pass
    assert exports == [16]
    assert len(path.read_bytes()) == len(whole)
    with graph_cache.kept_graph(model, 16):
        assert exports == [16]


@pytest.mark.slow
def test_those_used_longest_ago_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for size in (16, 24, 32):
        with graph_cache.kept_graph(tiny_segmenter("context"), size) as path:
            paths.append(path)
        os.utime(path, (size, size))
    with graph_cache.kept_graph(tiny_segmenter("context"), 16):
        pass  # used just now
    monkeypatch.setattr(graph_cache, "MOST_BYTES", int(2.5 * paths[0].stat().st_size))
    with graph_cache.kept_graph(tiny_segmenter("context"), 40) as newest:
        pass
    assert graphs() == sorted([paths[0], newest])
    monkeypatch.setattr(graph_cache, "MOST_BYTES", 0)
    with graph_cache.kept_graph(tiny_segmenter("context"), 48) as last:
        pass
    assert graphs() == [last]


@pytest.mark.slow
def test_where_nothing_can_be_kept_a_graph_lives_for_its_use(exports: list[int], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    for _ in range(2):
        with graph_cache.kept_graph(tiny_segmenter("context"), 16) as path:
            assert path.is_file()
        assert not path.exists()
    assert exports == [16] * 4
    # An error of who uses the graph is theirs.
    with pytest.raises(OutputError, match="their own"), graph_cache.kept_graph(tiny_segmenter("context"), 16):
        raise OutputError("their own", "")


@pytest.mark.slow
def test_a_cache_that_can_only_be_read_serves(exports: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read only")

    with graph_cache.kept_graph(tiny_segmenter("context"), 16):
        pass
    monkeypatch.setattr(graph_cache.os, "utime", refuse)
    with graph_cache.kept_graph(tiny_segmenter("context"), 16) as path:
        assert path in graphs()
    assert exports == [16]
    monkeypatch.setattr(graph_cache, "_forget_oldest", refuse)
    with graph_cache.kept_graph(tiny_segmenter("context"), 24) as path:
        assert path in graphs()
    assert exports == [16, 24]


def test_what_cannot_be_exported_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> float:
        raise ArtifactError("the network cannot be exported", "")

    monkeypatch.setattr(graph_cache, "to_onnx", refuse)
    with pytest.raises(ArtifactError), graph_cache.kept_graph(tiny_segmenter("context"), 16):
        pass
    assert not graph_cache.graphs_folder().exists()


@pytest.mark.skipif(sys.platform != "linux", reason="each system has a folder of its own")
def test_the_users_cache_folder_is_the_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEODISTILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert graph_cache.graphs_folder() == tmp_path / "geodistill" / "graphs"
