"""The commands of the page on labels, run as they stand on a made-up set."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from detection_sets import make_detection_set
from geodistill.cli import main
from geodistill.cli.arguments import parse
from geodistill.cli.label import build_parser, settings_of
from geodistill.label.accounts import NO_TILE, UNREADABLE
from geodistill.label.boxes import Reason
from geodistill.label.formats.detection import FORMATS, read_boxes
from geodistill.label.postprocess import EMPTY, LEAVES_BOX, MIN_SCORES, Rules
from geodistill.label.presets import PRESETS
from geodistill.segmenter import Segmenter
from shown import shown_blocks

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "labels.md"
PAGE, BLOCKS = DOCUMENT.read_text(encoding="utf-8"), shown_blocks(DOCUMENT)
SHORT = shlex.split(
    "--network.encoder test_resnet --network.encoder_weights null --trainer.max_steps 2 --trainer.accelerator cpu"
    " --data.crop 32 --data.batch_size 2 --data.workers 0"
)


def test_the_commands_lead_from_boxes_to_a_segmenter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_detection_set(tmp_path / "town", 8)
    for command in [*BLOCKS[0], *BLOCKS[1]]:
        assert main(command + (SHORT if command[0] == "fit" else [])) == 0, capsys.readouterr().err
    assert Segmenter.load("runs/town").spec.legend.names == ("ground", "ship", "dock")
    assert (tmp_path / "town-yolo/data.yaml").is_file()
    assert (tmp_path / "town-samrs/valid.txt").is_file()


def test_the_presets_are_spelt_as_the_page_has_them() -> None:
    shown = [settings_of(parse(build_parser(), command[2:])) for command in BLOCKS[2]]
    assert [settings.format for settings in shown] == [preset.format for preset in PRESETS.values()]


def test_every_reason_is_explained() -> None:
    for reason in (*get_args(Reason), NO_TILE, UNREADABLE, EMPTY, LEAVES_BOX):
        assert f"`{reason}`" in " ".join(PAGE.split())


def test_the_defaults_are_those_of_the_page() -> None:
    assert Rules() == Rules(keep_component=True, fill_holes=True, max_outside=0.5, min_score=None)
    assert MIN_SCORES == {"grabcut": 0.75}
    assert re.search(r"`--max-outside` .*\| 0.5 \|", PAGE)
    assert re.search(r"`--min-score` .*\| 0.75 for `grabcut`, else none \|", PAGE)


def test_the_format_shown_is_a_plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "corners.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(FORMATS, "corners", "corners:read")  # type: ignore[arg-type]
    source = make_detection_set(tmp_path / "town", 2)
    (tmp_path / "boxes").mkdir()
    (tmp_path / "boxes/scene_1.txt").write_text("ship 3 4 20 30\ndock 5 5 5 9\n", encoding="utf-8")
    annotations = read_boxes("corners", tmp_path / "boxes", source / "images")
    [image] = [image for image in annotations.images if image.boxes]
    assert (image.key, [box.box for box in image.boxes]) == ("scene_1", [(3, 4, 20, 30)])
    assert [dropped.reason for dropped in image.dropped] == ["zero area"]
