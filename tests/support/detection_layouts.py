"""Small detection sets with boxes, named and written exactly as their publishers do."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from factories import make_picture


def picture(path: Path, seed: int) -> None:
    make_picture(path, np.random.default_rng(seed).integers(0, 255, (64, 64, 3)).astype(np.uint8))


def dota(root: Path) -> list[str]:
    for at, split in enumerate(("train", "train", "train", "val")):
        picture(root / split / "images" / f"P{at:04d}.png", at)
        (root / split / "labelTxt").mkdir(parents=True, exist_ok=True)
        lines = "imagesource:GoogleEarth\ngsd:0.25\n5 5 25 5 25 20 5 20 plane 0\n30 30 50 30 50 60 30 60 ship 1\n"
        (root / split / "labelTxt" / f"P{at:04d}.txt").write_text(lines)
    return ["--images", str(root), "--boxes", str(root)]


def dior(root: Path) -> list[str]:
    place = root / "Annotations/Horizontal Bounding Boxes"
    place.mkdir(parents=True)
    for at in range(1, 9):
        folder = "JPEGImages-trainval" if at <= 5 else "JPEGImages-test"
        picture(root / folder / f"{at:05d}.jpg", 100 + at)
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{low}</xmin><ymin>{low}</ymin><xmax>{low + 20}</xmax>"
            f"<ymax>{low + 15}</ymax></bndbox></object>"
            for name, low in (("airplane", 5), ("ship", 35))
        )
        (place / f"{at:05d}.xml").write_text(
            f"<annotation><filename>{at:05d}.jpg</filename><size><width>64</width><height>64</height><depth>3</depth>"
            f"</size>{objects}</annotation>"
        )
    return ["--images", str(root), "--boxes", str(place)]


def fair1m(root: Path) -> list[str]:
    for at, part in enumerate(("train/part1", "train/part2", "validation")):
        for name in ("0", "1"):
            picture(root / part / "images" / f"{name}.tif.png", 200 + at)
            (root / part / "labelXml").mkdir(parents=True, exist_ok=True)
            objects = "".join(
                f"<object><possibleresult><name>{kind}</name></possibleresult><points>"
                + "".join(f"<point>{x},{y}</point>" for x, y in ((low, 5), (low + 20, 5), (low + 20, 30), (low, 30)))
                + f"<point>{low},5</point></points></object>"
                for kind, low in (("Boeing737", 5), ("Van", 35))
            )
            (root / part / "labelXml" / f"{name}.tif.xml").write_text(
                f"<annotation><source><filename>{name}.tif.png</filename></source><size><width>64</width>"
                f"<height>64</height></size><objects>{objects}</objects></annotation>"
            )
    return ["--images", str(root), "--boxes", str(root)]


OBJECT = """<HRSC_Object><box_xmin>{0}</box_xmin><box_ymin>{1}</box_ymin>
<box_xmax>{2}</box_xmax><box_ymax>{3}</box_ymax>
<mbox_cx>{4}</mbox_cx><mbox_cy>{5}</mbox_cy><mbox_w>{6}</mbox_w><mbox_h>{7}</mbox_h><mbox_ang>0</mbox_ang>
{8}</HRSC_Object>"""


def ship(box: tuple[int, int, int, int], colour: str | None) -> str:
    left, top, right, bottom = box
    tag = "" if colour is None else f"<seg_color>{colour}</seg_color>"
    centre = (left + right) / 2, (top + bottom) / 2
    return OBJECT.format(*box, *centre, right - left, bottom - top, tag)


def hrsc(root: Path) -> Path:
    """Three test images of 60 x 40: two ships with masks; one ship of which the mask has no pixel; one uncoloured."""
    test = root / "Test"
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
        make_picture(root / "FullDataSet/LandMask" / f"{name}.png", picture)
        (test / "Annotations" / f"{name}.xml").write_text(
            f"<HRSC_Image><Img_FileName>{name}</Img_FileName><Img_SizeWidth>60</Img_SizeWidth>"
            f"<Img_SizeHeight>40</Img_SizeHeight><HRSC_Objects>{''.join(objects)}</HRSC_Objects></HRSC_Image>"
        )
    return root
