"""A project of real stages: killed twice in a process of its own, finished, and run again."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from detection_sets import make_detection_set
from forked import start
from geodistill.cli import main

STEPS = "trainer: {max_steps: 6, val_every_steps: 3, save_every_steps: 1, accelerator: cpu, pictures: 0}"
TOWN = f"""\
seed: 1
out: work
label:
  images: town/images
  boxes: town/boxes.json
  format: coco
  background: ground
check:
teacher:
  recipe: supervised-folder
  network.encoder: test_resnet
  data: {{crop: 64, batch_size: 2, workers: 0}}
  {STEPS}
distil:
  recipe: distil-folder
  network.encoder: test_resnet
  data: {{crop: 64, batch_size: 2, workers: 0}}
  {STEPS}
evaluate:
predict:
  scenes: city/images/scene_0.tif
"""


def kill_when(folder: Path, ready: Callable[[], bool]) -> None:
    """Run the project, and kill it once ``ready``."""
    command = start(["run", folder / "town.yaml"], folder)
    deadline = time.monotonic() + 300
    while command.process.is_alive() and not ready() and time.monotonic() < deadline:
        time.sleep(0.002)
    command.process.kill()
    assert command.wait().status == -signal.SIGKILL, "it had ended before it was killed"


@pytest.mark.slow
def test_a_project_that_is_killed_twice_ends_as_one_that_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("whole", "killed"):
        make_detection_set(tmp_path / name / "town", count=8, empty=0, georeferenced=True)
        make_detection_set(tmp_path / name / "city", count=1, height=120, width=160, georeferenced=True, seed=5)
        (tmp_path / name / "town.yaml").write_text(TOWN, encoding="utf-8")
    out = tmp_path / "killed" / "work"
    journal, checkpoint = out / "label" / ".journal.jsonl", out / "teacher" / "checkpoints" / "last.ckpt"
    kill_when(tmp_path / "killed", lambda: journal.is_file() and journal.stat().st_size > 0)
    assert not (out / "done" / "label.json").exists()
    kill_when(tmp_path / "killed", checkpoint.is_file)
    assert (out / "done" / "label.json").is_file()
    for name in ("whole", "killed"):
        assert main(["run", str(tmp_path / name / "town.yaml")]) == 0
    told = capsys.readouterr().out
    assert "label        didn't change, skipping" in told
    assert "teacher      resumes: it was stopped" in told
    records = [json.loads((tmp_path / name / "work" / "run.json").read_text()) for name in ("whole", "killed")]
    scores = [[record["stages"][stage]["facts"] for stage in ("evaluate", "teacher")] for record in records]
    assert scores[0] == scores[1]
    maps = []
    for name in ("whole", "killed"):
        with rasterio.open(tmp_path / name / "work" / "predict" / "scene_0.tif") as scene_map:
            maps.append(scene_map.read())
    assert np.array_equal(*maps)
    assert main(["run", str(tmp_path / "killed" / "town.yaml"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert {stage["state"] for stage in summary["stages"].values()} == {"unchanged"}
