"""The commands of the page on reviews, run as they stand on a made-up set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from detection_sets import make_detection_set
from geodistill.cli import main
from geodistill.methods.supervised.network import SupervisedNetwork
from geodistill.review.doubt_parts import SHIFT
from geodistill.review.leases import SECONDS
from geodistill.review.review_labels import ReviewOptions
from geodistill.review.review_server import ReviewServer
from geodistill.segmenter import Segmenter
from geodistill.spec import Legend, Spec
from shown import shown_blocks

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "review.md"


def decide_and_stop(server: ReviewServer, poll_interval: float = 0.5) -> None:
    """Stand in for a person who decides once and presses Ctrl-C."""
    shown = server.session.next_object("c", server.session.reviewer)
    assert shown is not None
    server.session.decide("c", server.session.reviewer, shown["id"], "drop", shown["last"])
    raise KeyboardInterrupt


def save_town(folder: Path) -> None:
    """Write an untrained model of the set's classes."""
    arguments = {"architecture": "unet", "encoder": "test_resnet"}
    spec = Spec(Legend(("ground", "ship", "dock")), ("red", "green", "blue"))
    state = SupervisedNetwork(3, 3, **arguments).state_dict()
    Segmenter.from_network("supervised", arguments, spec, state, 64, {}).save(folder)


def test_the_commands_lead_from_boxes_to_the_next_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ReviewServer, "serve_forever", decide_and_stop)
    make_detection_set(tmp_path / "town", 8)
    shutil.copytree(tmp_path / "town/images", tmp_path / "town/unlabelled")
    save_town(Path("runs/town"))
    labelling, following = shown_blocks(DOCUMENT)
    printed = []
    for command in [*labelling, *following]:
        assert main(command) == 0, capsys.readouterr().err
        printed.append(capsys.readouterr().out)
    assert "http://127.0.0.1:" in printed[1]
    assert "1 of 28 objects decided; good labels: 0%" in printed[1]
    assert "1 reviewed: drop 1" in printed[2]
    assert "dropped in review 1" in printed[2]
    assert len((tmp_path / "next.csv").read_text().splitlines()) == 1 + 8 * 2  # images of 80 x 60 are two windows of 64


def test_the_page_states_what_holds() -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    assert f"`--sample {ReviewOptions.sample}`" in page
    assert f"up to {SHIFT:.0%}".replace("%", " %") in page
    assert SECONDS == 120
    assert "two silent minutes" in page
