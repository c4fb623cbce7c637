"""Many scenes, and one huge one, over several workers: the same files as one worker makes, also where one dies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dying_network import dying_segmenter
from factories import make_raster
from geodistill.engine import Machines, run_tasks
from geodistill.inference import predict as module
from geodistill.inference.layers import SceneMap
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import for_gpus, predict
from geodistill.inference.worker import SceneTask, Worker
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

OPTIONS = PredictOptions(device="cpu", backend="torch", batch=2)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_costs_no_map(tmp_path: Path) -> None:
    scenes = [make_raster(tmp_path / f"s{i}.tif", height=150, width=90, seed=i) for i in range(3)]
    predict(tiny_segmenter("context", tile=32), scenes, tmp_path / "alone", OPTIONS)
    # In its second scene: what it made of the first is there, and what it had begun is begun anew.
    segmenter = dying_segmenter(tmp_path, 40)
    made = predict(segmenter, scenes, tmp_path / "maps", OPTIONS, machines=Machines("ray", 2, gpus=1))
    assert (tmp_path / "died").exists()
    assert [one.error for one in made] == [None] * 3
    for one in made:
        assert one.path.read_bytes() == (tmp_path / "alone" / one.path.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "maps").glob("*.tif")) == ["s0.tif", "s1.tif", "s2.tif"]


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_in_a_block_costs_one_strip(tmp_path: Path) -> None:
    scene = make_raster(tmp_path / "scene.tif", height=400, width=90)
    (alone,) = predict(tiny_segmenter("context", tile=32), [scene], tmp_path / "alone.tif", OPTIONS)
    segmenter = dying_segmenter(tmp_path, 20)
    (made,) = predict(segmenter, [scene], tmp_path / "map.tif", OPTIONS, machines=Machines("ray", 2))
    assert (tmp_path / "died").exists()
    assert made.path.read_bytes() == alone.path.read_bytes()
    assert made.windows == alone.windows


def test_scenes_are_cut_in_blocks_only_where_workers_would_be_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []

    def note(worker: Worker, task: SceneTask, *, blocks: int, **_: Any) -> SceneMap:
        cut.append(blocks)
        return worker.map(task)

    monkeypatch.setattr(module, "map_in_blocks", note)

    def run(function: Any, items: Any, machines: Machines | None = None, **how: Any) -> Any:
        return iter(()) if machines and machines.workers > 1 else run_tasks(function, items, **how)

    monkeypatch.setattr(module, "run_tasks", run)
    scenes = [make_raster(tmp_path / f"s{i}.tif", seed=i) for i in range(3)]
    predict(tiny_segmenter(), scenes, tmp_path / "maps", OPTIONS, machines=Machines(workers=3))
    assert cut == []
    predict(tiny_segmenter(), scenes, tmp_path / "maps", OPTIONS, machines=Machines(workers=4))
    assert cut == [4, 4, 4]


@pytest.mark.slow
def test_a_machine_without_a_gpu_leaves_the_choice_to_workers_that_have_one() -> None:
    chosen = for_gpus(PredictOptions(batch="auto", precision="auto"))
    assert (chosen.backend, chosen.precision, chosen.batch, chosen.device) == ("torch", "fp32", 16, "auto")
    asked = for_gpus(PredictOptions(batch=3, backend="onnx", precision="bf16"))
    assert (asked.backend, asked.precision, asked.batch) == ("onnx", "bf16", 3)
