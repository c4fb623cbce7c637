"""Which objects of HRSC2016 count, as SAMRS's code has it and by object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from factories import make_picture
from geodistill.cli import main
from geodistill.errors import RecipeError
from geodistill.label.ablation import AblationTable, PromptAblation, ablate, format_ablation

OBJECT = """<HRSC_Object><box_xmin>{0}</box_xmin><box_ymin>{1}</box_ymin>
<box_xmax>{2}</box_xmax><box_ymax>{3}</box_ymax>
<mbox_cx>{4}</mbox_cx><mbox_cy>{5}</mbox_cy><mbox_w>{6}</mbox_w><mbox_h>{7}</mbox_h><mbox_ang>0</mbox_ang>
{8}</HRSC_Object>"""


def ship(box: tuple[int, int, int, int], colour: str | None) -> str:
    left, top, right, bottom = box
    tag = "" if colour is None else f"<seg_color>{colour}</seg_color>"
    centre = (left + right) / 2, (top + bottom) / 2
    return OBJECT.format(*box, *centre, right - left, bottom - top, tag)


@pytest.fixture
def hrsc(tmp_path: Path) -> Path:
    """Three test images of 60 x 40: two ships with masks; one ship of which the mask has no pixel; one uncoloured."""
    test = tmp_path / "Test"
    (test / "Annotations").mkdir(parents=True)
    ships = {
        "1": [ship((10, 10, 30, 20), "255,0,0"), ship((40, 5, 70, 25), "0,255,0")],
        "2": [ship((5, 5, 25, 15), "0,0,255"), ship((30, 20, 50, 30), "9,9,9")],
        "3": [ship((5, 5, 25, 15), "0,0,255"), ship((30, 20, 50, 30), None)],
    }
    for name, objects in ships.items():
        picture = np.zeros((40, 60, 3), np.uint8)
        if name == "1":
            picture[10:20, 10:30] = (255, 0, 0)  # all of its box
            picture[5:15, 40:60] = (0, 255, 0)  # half of what is inside the image
        else:
            picture[5:15, 5:25] = (0, 0, 255)
        make_picture(test / "AllImages" / f"{name}.png", np.zeros((40, 60, 3)))
        make_picture(tmp_path / "FullDataSet/LandMask" / f"{name}.png", picture)
        (test / "Annotations" / f"{name}.xml").write_text(
            f"<HRSC_Image><Img_FileName>{name}</Img_FileName><Img_SizeWidth>60</Img_SizeWidth>"
            f"<Img_SizeHeight>40</Img_SizeHeight><HRSC_Objects>{''.join(objects)}</HRSC_Objects></HRSC_Image>"
        )
    return tmp_path


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
