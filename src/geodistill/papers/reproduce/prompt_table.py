"""SAMRS's Table 1, which trains nothing: prompts compared on objects with true masks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from geodistill.errors import DataError
from geodistill.files import atomic_path, write_text
from geodistill.label.ablation import PromptAblation, ablate
from geodistill.label.masks import Runs
from geodistill.label.presets import SEGMENTER
from geodistill.label.segmenters.promptable import parse_prompt
from geodistill.papers.reproduce.table_data import MadeUpSets, OfficialSets, Source
from geodistill.papers.table import PaperRow
from geodistill.reading import read_object
from geodistill.synthetic import LEGEND, REGIONS, TownScene, draw_scene, write_scene

SCENES, SIDE = 2, 192
"""Made-up scenes of a smoke run, and their side in pixels."""


def prompt_figures(
    rows: dict[str, PaperRow], source: Source, out: Path, segmenter: str | None = None
) -> dict[str, dict[str, float]]:
    """Compare the prompts of some rows, those that were not compared yet.

    Objects are counted as SAMRS's released code does. Returned are ``instance_iou`` and ``pixel_iou`` by row, and the
    ``images`` and ``objects`` that they are of.

    Args:
        rows: The rows by label.
        source: Made-up scenes, whose objects GrabCut cuts out, or HRSC2016's test images under SAM ViT-H.
        out: Directory of the runs.
        segmenter: Another segmenter's name.

    Raises:
        DataError: HRSC2016 is not there.
        ArtifactError: The segmenter's weights are not available.
    """
    name = prompted(source, segmenter)
    smoke = isinstance(source, MadeUpSets)
    where = {"made up": [SCENES, SIDE]} if smoke else source.identity("hrsc2016")
    places = {}
    for label, row in rows.items():
        decides = json.dumps(
            {"data": where, "segmenter": name, "prompt": row.prompt, "released": "counted"}, sort_keys=True
        )
        places[label] = out / f"prompts-{hashlib.sha256(decides.encode()).hexdigest()[:12]}" / "figures.json"
    missing = [label for label, place in places.items() if not place.is_file()]
    if missing:
        form, boxes, images = _draw(source) if isinstance(source, MadeUpSets) else _official(source)
        prompts = tuple(parse_prompt(rows[label].prompt) for label in missing)
        ablation = ablate(form, boxes, images, PromptAblation(name, prompts, released=True), progress=True)
        scores = {row.prompt: row for row in ablation.rows}
        for label, prompt in zip(missing, prompts, strict=True):
            compared = scores["+".join(prompt)]
            with atomic_path(places[label]) as part:
                figures = {"instance_iou": 100 * compared.miou_i, "pixel_iou": 100 * compared.miou_p}
                figures |= {"images": ablation.images, "objects": compared.instances}
                part.write_text(json.dumps(figures), encoding="utf-8")
    return {label: kept_figures(place) for label, place in places.items()}


def prompted(source: Source, segmenter: str | None) -> str:
    """Return the name of the segmenter that prompts are compared under: GrabCut on made-up scenes, else SAM ViT-H."""
    return segmenter or ("grabcut" if isinstance(source, MadeUpSets) else SEGMENTER)


def kept_figures(path: Path, key: str | None = None) -> dict[str, float]:
    """Return the figures of a run that was done before.

    Args:
        path: JSON, of figures by name.
        key: Under which they are, where there is more.

    Raises:
        DataError: The file is not as it was written.
    """
    content = read_object(path)
    figures = content if key is None else content.get(key)
    try:
        return {str(name): float(value) for name, value in dict(figures or {}).items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path} does not hold figures", "the file as it was written", "remove it") from error


def _official(source: OfficialSets) -> tuple[str, Path, Path]:
    for root in (source.root / "hrsc2016", source.root):
        if (root / "Test" / "Annotations").is_dir():
            return "hrsc", root / "Test" / "Annotations", root / "Test" / "AllImages"
    raise DataError(
        f"{source.root} holds no Test/Annotations",
        "HRSC2016 as it is distributed, with Test/AllImages and FullDataSet/LandMask",
        "download it from Kaggle guofeng/hrsc2016",
    )


def _draw(source: MadeUpSets) -> tuple[str, Path, Path]:
    """Draw scenes with the true masks of their buildings, trees and cars, as COCO has them."""
    folder = source.folder / "made-up" / f"objects-{SCENES}x{SIDE}"
    boxes = folder / "boxes.json"
    if not boxes.is_file():
        content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
        content["categories"] = [{"id": index, "name": name} for index, name in enumerate(LEGEND.names)]
        for at in range(SCENES):
            scene = draw_scene(SIDE, REGIONS["north"], 7000 + at)
            path = write_scene(scene, folder, f"objects_{at}")
            content["images"].append({"id": at, "file_name": path.name, "width": SIDE, "height": SIDE})
            content["annotations"] += [{**one, "image_id": at} for one in _objects(scene)]
        for number, one in enumerate(content["annotations"]):
            one["id"] = number
        write_text(boxes, json.dumps(content))
    return "coco", boxes, folder / "images"


def _objects(scene: TownScene) -> Sequence[dict[str, object]]:
    """Return each object in full view with its pixels: those of its class within its box."""
    objects: list[dict[str, object]] = []
    for box in scene.boxes:
        index = LEGEND.names.index(box.category)
        inside = np.zeros(scene.mask.shape, np.uint8)
        cv2.fillPoly(inside, [np.round(box.points).astype(np.int32)], 1)
        mask = (inside == 1) & (scene.mask == index)
        if box.difficult or not mask.any():
            continue
        runs = Runs.of(mask, 0, 0, *mask.shape)
        top, left, bottom, right = runs.bounds
        objects.append(
            {
                "category_id": index,
                "bbox": [left, top, right - left, bottom - top],
                "area": runs.area,
                "iscrowd": 0,
                "segmentation": runs.to_coco(),
            }
        )
    return objects
