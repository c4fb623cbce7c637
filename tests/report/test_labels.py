"""The page of a label set: every box is accounted for, and the masks in doubt are shown with their image and box."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detection_sets import make_detection_set, read_coco, settings_of, write_boxes
from factories import make_raster
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import GeodistillError
from geodistill.label.build_labels import build
from geodistill.label.share_of_good import GoodShare
from geodistill.report.labelled import read_labels
from geodistill.report.write import write_report
from geodistill.review.review_labels import ReviewOptions, export_review, open_review
from reported import figures_of

BOXES = {"shed": [(4, 6, 10, 8), (30, 30, 12, 12)], "house & yard": [(40, 8, 16, 10)]}


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    (folder / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 60, (64, 64, 3), dtype=np.uint8)
    for boxes in BOXES.values():
        for x, y, width, height in boxes:
            pixels[y : y + height, x : x + width] += 120
    Image.fromarray(pixels).save(folder / "images" / "a <b>.png")
    categories = [{"id": k, "name": name} for k, name in enumerate(BOXES, 1)]
    annotations = [
        {"id": 10 * k + n, "image_id": 1, "category_id": k, "bbox": list(box), "iscrowd": 0}
        for k, boxes in enumerate(BOXES.values(), 1)
        for n, box in enumerate([*boxes, (500, 500, 4, 4)])
    ]
    image = {"id": 1, "file_name": "a <b>.png", "width": 64, "height": 64}
    coco = {"images": [image], "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(coco))
    argv = ["label", "build", str(folder / "images"), str(folder / "boxes.json"), "--format", "coco"]
    argv += ["--segmenter", "box", "--out", str(folder / "out"), "--report", str(folder / "report.html")]
    assert main(argv) == 0
    return folder


def test_every_box_is_accounted_for(labels: Path) -> None:
    figures = figures_of(labels / "report.html")
    account = json.loads((labels / "out" / "label.json").read_text())
    assert figures["boxes"] == account
    assert figures["boxes"]["boxes"]["in"] == 5
    assert figures["boxes"]["boxes"]["labelled"] == 3
    text = (labels / "report.html").read_text()
    assert "5 boxes in 1 image went in" in text
    assert "2 boxes gave no label: outside the image 2" in text
    assert "house &amp; yard" in text
    assert "house & yard" not in text.split("<script")[0]


def test_the_review_is_told_with_its_share_and_interval(labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels, tmp_path / "copy")
    out = tmp_path / "copy" / "out"
    with open_review(out, ReviewOptions(sample=2, reviewer="<i>Ada")) as (session, _):
        for place, verdict in enumerate(("accept", "box", "drop")):
            session.decide("c", "<i>Ada", session.store.listed(place, 1)[0]["id"], verdict, 0)
    export_review(out)
    page = write_report(out, tmp_path / "page.html")
    review = figures_of(page)["review"]
    assert review["sample"] == GoodShare(1, 2, 2).to_json()
    assert review["decided"] == 3
    text = page.read_text()
    assert "3 objects reviewed by 1 person: accepted 1, dropped 1, replaced by the box 1." in text
    assert "Good labels: 50% (95 % interval 9% to 91%), 1 of 2 decided in a random sample of 2." in text
    assert "Decisions by class" in text
    assert "review" not in figures_of(labels / "report.html")
    account = out / "label.json"
    account.write_text(account.read_text().replace('"decided": 3', '"decided": "x"'))
    with pytest.raises(GeodistillError, match="not as it was written"):
        write_report(out, tmp_path / "page.html")


def test_masks_in_doubt_are_cut_out_with_their_boxes(labels: Path) -> None:
    doubtful = read_labels(labels / "out").doubtful
    assert len(doubtful) == 3
    photo, mask, box = (np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")) for data in doubtful[0].layers)
    assert photo.shape[:2] == mask.shape[:2] == box.shape[:2]
    painted, outline = mask[..., 3] > 0, box[..., 3] > 0
    rows, columns = np.nonzero(painted)
    assert painted.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # the segmenter fills the box
    ys, xs = np.nonzero(outline)
    assert abs(ys.min() - rows.min()) <= 1
    assert abs(xs.max() - columns.max()) <= 1
    assert photo[painted][:, :3].mean() > photo[~painted][:, :3].mean() + 50


def test_masks_in_doubt_are_shown_in_the_bands_that_the_segmenter_saw(tmp_path: Path) -> None:
    source = make_detection_set(tmp_path / "set", 1, empty=0)
    pixels = np.full((4, 60, 80), np.array((10, 20, 30, 200))[:, None, None], np.uint8)
    make_raster(source / "images/scene_0.tif", pixels=pixels)
    (source / "images/scene_0.png").unlink()
    data = read_coco(source)
    data["images"][0]["file_name"] = "scene_0.tif"
    write_boxes(source, data)
    build(settings_of(source, bands=(4, 3, 2)), tmp_path / "out")
    photo = np.asarray(Image.open(io.BytesIO(read_labels(tmp_path / "out").doubtful[0].layers[0])).convert("RGB"))
    assert np.abs(photo.astype(int) - (200, 30, 20)).max() < 6


def test_images_that_are_gone_are_said_to_be(labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels, tmp_path / "copy")
    out = tmp_path / "copy" / "out"
    manifest = Manifest.load(out / "manifest.parquet")
    rows = tuple(replace(row, image=tmp_path / "nowhere.png") for row in manifest.entries)
    replace(manifest, entries=rows).save(out / "manifest.parquet")
    page = write_report(out, tmp_path / "page.html")
    assert "3 of them are not shown" in page.read_text()


@pytest.mark.parametrize(
    ("old", "new"),
    [('"rbox": [', '"rbox": ["x", '), ('"mask_value": 0', '"mask_value": 77'), ('"score": 1.0', '"score": "?"')],
)
def test_what_was_altered_is_one_line(labels: Path, tmp_path: Path, old: str, new: str) -> None:
    shutil.copytree(labels / "out", tmp_path / "out")
    file = tmp_path / "out" / "instances.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(GeodistillError, match="an annotation that 'label build' wrote"):
        write_report(tmp_path / "out", tmp_path / "page.html")


def test_an_account_that_was_altered_is_one_line(labels: Path, tmp_path: Path) -> None:
    shutil.copytree(labels / "out", tmp_path / "out")
    (tmp_path / "out" / "label.json").write_text('{"settings": {"background": null}, "classes": {"shed": 3}}')
    with pytest.raises(GeodistillError, match="not as it was written"):
        write_report(tmp_path / "out", tmp_path / "page.html")
