"""Which objects of HRSC2016 count, as SAMRS's code has it and by object."""

from __future__ import annotations

from pathlib import Path

import pytest

import detection_layouts
from geodistill.cli import main
from geodistill.errors import RecipeError
from geodistill.label.ablation import AblationTable, PromptAblation, ablate, format_ablation


@pytest.fixture
def hrsc(tmp_path: Path) -> Path:
    return detection_layouts.hrsc(tmp_path)


def run(root: Path, released: bool) -> AblationTable:
    question = PromptAblation("box", (("hbox",),), released=released)
    return ablate("hrsc", root / "Test/Annotations", root / "Test/AllImages", question)


def test_by_object_those_without_a_pixel_are_left_out(hrsc: Path) -> None:
    found = run(hrsc, released=False)
    assert (found.rows[0].instances, found.images, found.boxes_left_out) == (4, 3, 2)
    assert found.rows[0].miou_i == pytest.approx((1 + 0.5 + 1 + 1) / 4)


def test_as_released_an_uncoloured_object_takes_its_image_out_and_an_empty_mask_counts_zero(hrsc: Path) -> None:
    found = run(hrsc, released=True)
    assert (found.rows[0].instances, found.images, found.images_left_out, found.boxes_left_out) == (4, 2, 1, 2)
    assert found.rows[0].miou_i == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert found.rows[0].miou_p == pytest.approx((200 + 200 + 200) / (200 + 400 + 200 + 200))
    told = format_ablation(found)
    assert "box on 2 images, counted as released; left out: 1 images without, 2 boxes" in told


def test_the_command_says_both(hrsc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["label", "ablate", "--format", "hrsc", "--boxes", str(hrsc / "Test/Annotations"), "--segmenter", "box"]
    given += ["--images", str(hrsc / "Test/AllImages"), "--prompts", "hbox"]
    assert main(given) == 0
    assert "counted by object" in capsys.readouterr().out
    assert main([*given, "--as", "released"]) == 0
    assert "counted as released" in capsys.readouterr().out
    assert main([*given, "--as", "published"]) == 2
    with pytest.raises(RecipeError, match="tiles as released"):
        PromptAblation("box", released=True, tile=64)
