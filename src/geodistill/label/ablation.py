"""``label ablate``: how good the masks of each prompt are against true instance masks (SAMRS paper, table 1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.engine import progress_bar, run_tasks
from geodistill.errors import DataError, RecipeError
from geodistill.files import write_json, write_text
from geodistill.label.boxes import Box, ImageBoxes, boxes_in, rectangle
from geodistill.label.build_labels import WorkerOptions, unopened
from geodistill.label.config import check_view
from geodistill.label.formats.detection import read_boxes
from geodistill.label.formats.true_masks import instances_of, with_true_masks
from geodistill.label.masks import Mask, Runs, fill_polygon
from geodistill.label.pixels import read_tiles
from geodistill.label.postprocess import NO_RULES, Rules, finish
from geodistill.label.segmenters.promptable import COMBINATIONS, build_prompts
from geodistill.label.tile_labeller import segmenter_of
from geodistill.label.tiles import tile_windows
from geodistill.raster import Raster, Window
from geodistill.writing import csv_text

FLOORS = ("(H-Box filled)", "(R-Box filled)")
"""Rows without any segmenter: what a mask must be better than."""


@dataclass(frozen=True)
class PromptAblation:
    """The prompts to compare, and how; run on each image: `geodistill.engine.run_tasks` sends it to its workers.

    Attributes not named here are those of `geodistill.label.config.LabelSettings`.

    Attributes:
        prompts: The combinations to compare.
        rules: How masks are mended before they are compared; not at all in the paper.
        instances: Folder of pictures with one colour per instance, where the annotations hold no masks: ``KEY.png``, or
            iSAID's ``KEY_instance_id_RGB.png`` with ``KEY_instance_color_RGB.png`` for the classes.
        released: Count as SAMRS's code does: an image with an object without a mask is left out whole, an object whose
            mask has no pixel counts with IoU 0, and boxes are not clipped to the image, which is taken whole.

    Raises:
        RecipeError: A value makes no sense.
    """

    segmenter: str = "grabcut"
    prompts: tuple[tuple[str, ...], ...] = COMBINATIONS
    rules: Rules = NO_RULES
    tile: int | None = None
    overlap: int = 0
    share: float = 0.7
    bands: tuple[int, ...] | None = None
    instances: Path | None = None
    released: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        check_view(self.tile, self.overlap, self.share, self.bands)
        if self.released and self.tile is not None:
            raise RecipeError("tiles as released", "whole images", "leave --tile or --as released out")

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of the rows: the floors, then the prompts."""
        return (*FLOORS, *("+".join(prompt) for prompt in self.prompts))

    def __call__(self, image: ImageBoxes) -> NDArray[np.float64]:
        """Compare all prompts on one image.

        Returns:
            ``(rows, 5)`` float64: instances with a union, sum of their IoU, sum of intersections, sum of unions, and 1
            where any instance was compared.

        Raises:
            DataError: The image or its instance file cannot be read.
        """
        image = self._with_masks(image)
        sums = np.zeros((len(self.rows), 5))
        if not self._compared(image):
            return sums
        sums[:, 4] = 1
        with Raster(image.image) as raster:
            for window, boxes in self._tiles(image):
                tile = next(read_tiles(raster, [window], self.bands))
                segmenter = segmenter_of(self.segmenter, self.device)
                (embedding,) = segmenter.embed([tile.rgb])
                truths = [Runs.from_coco(box.segmentation or {}) for box in boxes]
                height, width = window.height, window.width
                filled = ([rectangle(*b.hbox) for b in boxes], [b.corners for b in boxes])
                for row, polygons in enumerate(filled):
                    masks = (fill_polygon(polygon, height, width) for polygon in polygons)
                    sums[row] += _compare(masks, truths)
                for row, prompt in enumerate(self.prompts, len(FLOORS)):
                    predicted = segmenter.masks(embedding, build_prompts(boxes, prompt))
                    mended = (
                        finish(mask, box, self.rules, height, width).mask
                        for mask, box in zip(predicted, boxes, strict=True)
                    )
                    sums[row] += _compare(mended, truths)
        return sums

    def _with_masks(self, image: ImageBoxes) -> ImageBoxes:
        """Return an image with the true masks of its instance file, where there is one."""
        if self.instances is None:
            return image
        names = (image.key, Path(image.key).name)
        files = [self.instances / f"{name}{end}.png" for name in names for end in ("", "_instance_id_RGB")]
        path = next((path for path in files if path.is_file()), None)
        if path is None:
            return image
        classes = path.with_name(path.name.replace("_instance_id_RGB", "_instance_color_RGB"))
        semantic = classes if classes != path and classes.is_file() else None
        return with_true_masks(image, instances_of(path, semantic, image.width, image.height))[0]

    def _compared(self, image: ImageBoxes) -> list[Box]:
        """Return the boxes of an image that are compared with their true masks."""
        masked = [box for box in image.boxes if box.segmentation is not None]
        if self.released:
            return masked if len(masked) == len(image.boxes) else []
        return [box for box in masked if Runs.from_coco(box.segmentation or {}).area]

    def _tiles(self, image: ImageBoxes) -> Iterator[tuple[Window, list[Box]]]:
        """Yield tiles with the boxes that have a mask; each box in the first tile that it belongs to."""
        whole = Window(0, 0, image.height, image.width)
        # What an annotated hole takes from a mask, or an outline gives it, would be no work of the prompt.
        boxes = [replace(_oriented(box), holes=()) for box in self._compared(image)]
        if self.released:
            yield whole, boxes
            return
        left = boxes_in(boxes, whole, 0)
        for window in tile_windows(image.height, image.width, self.tile, self.overlap):
            inside = boxes_in(left, window, self.share)
            taken = {box.index for box in inside}
            left = [box for box in left if box.index not in taken]
            if inside:
                yield window, inside


def _oriented(box: Box) -> Box:
    """Return a horizontal box or an outline with an oriented box: the smallest rectangle around its true mask."""
    if box.kind == "rbox" or box.segmentation is None:
        return box
    runs = Runs.from_coco(box.segmentation)
    if not runs.area:
        return box
    return replace(box, polygon=runs.smallest_rectangle(), kind="rbox", horizontal=box.hbox)


def _compare(masks: Iterator[Mask | None], truths: Sequence[Runs]) -> NDArray[np.float64]:
    """Sum up ``(5,)``: instances with a union, their IoU, intersections, unions; the last stays 0."""
    sums = np.zeros(5)
    for mask, truth in zip(masks, truths, strict=True):
        runs = None if mask is None else mask.runs(truth.height, truth.width)
        common = 0 if runs is None else runs.overlap(truth)
        union = truth.area + (0 if runs is None else runs.area) - common
        if union:
            sums += (1, common / union, common, union, 0)
    return sums


@dataclass(frozen=True)
class PromptScore:
    """A row of the table: a combination of prompts, or one of `FLOORS`, over so many instances.

    Attributes:
        miou_i: Mean of the instances' IoU, 0 to 1.
        miou_p: Sum of intersections over sum of unions, 0 to 1.
    """

    prompt: str
    instances: int
    miou_i: float
    miou_p: float


@dataclass(frozen=True)
class AblationTable:
    """The whole table: a segmenter on annotations of a format.

    Attributes:
        rows: The floors, then the prompts.
        images: Images of which any object was compared.
        images_left_out: Images with boxes of which none was.
        boxes_left_out: Boxes without a true mask, or in an image that is left out.
        released: As `PromptAblation.released`.
        failures: Images that could not be read, with the reason.
    """

    segmenter: str
    format: str
    rows: tuple[PromptScore, ...]
    images: int
    images_left_out: int
    boxes_left_out: int
    released: bool = False
    failures: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def ablate(
    format: str,
    boxes: Path,
    images: Path,
    question: PromptAblation,
    *,
    category_field: str | None = None,
    work: WorkerOptions | None = None,
    progress: bool = False,
) -> AblationTable:
    """Compare prompts on a set with true instance masks; places, format and column as `read_boxes` takes them.

    Raises:
        DataError: Not a single box has a true mask.
    """
    work = work or WorkerOptions()
    annotations = read_boxes(format, boxes, images, category_field=category_field)
    items = [image for image in annotations.images if image.boxes]
    sums = np.zeros((len(question.rows), 5))
    failures = list(unopened(annotations).values())
    results = run_tasks(question, items, work, keep_going=True)
    for result in progress_bar(results, "comparing", progress, total=len(items), unit="image"):
        if result.value is not None:
            sums += result.value
        elif isinstance(result.error, DataError):
            failures.append(str(result.error))
        elif result.error is not None:
            raise result.error
    total = sum(len(image.boxes) for image in items)
    if not sums[:, 0].any():
        because = f" ({failures[0]})" if failures else ""
        raise DataError(
            f"none of {total} boxes in {boxes} has a true mask{because}",
            "COCO segmentations, HRSC2016 with LandMask/, or --instances with one colour per instance",
        )
    rows = tuple(
        PromptScore(name, int(count), ratios / max(count, 1), common / max(union, 1))
        for name, (count, ratios, common, union, _) in zip(question.rows, sums.tolist(), strict=True)
    )
    used, compared = int(sums[0, 4]), int(sums[:, 0].max())
    return AblationTable(
        question.segmenter,
        format,
        rows,
        used,
        len(items) - used,
        total - compared,
        question.released,
        tuple(failures),
    )


def format_ablation(ablation: AblationTable, published: Mapping[str, Sequence[float]] | None = None) -> str:
    """Return the table in percent, with published mIOU_I and mIOU_P by prompt in a last column."""
    width = max(len(row.prompt) for row in ablation.rows)
    lines = [f"{'prompt':<{width}}  instances  mIOU_I  mIOU_P" + ("" if published is None else "  published")]
    for row in ablation.rows:
        known = (published or {}).get(row.prompt)
        figures = "" if published is None else f"  {known[0]:.2f} / {known[1]:.2f}" if known else "  -"
        line = f"{row.prompt:<{width}}  {row.instances:>9}  {100 * row.miou_i:>6.2f}  {100 * row.miou_p:>6.2f}"
        lines.append(line + figures)
    how = "counted as released" if ablation.released else "counted by object"
    lines.append(
        f"{ablation.segmenter} on {ablation.images} images, {how}; left out: {ablation.images_left_out} images without,"
        f" {ablation.boxes_left_out} boxes without a true mask or in such an image"
    )
    if published is not None:
        lines.append("published: 124 test images; SAM of a size that the paper does not state, ViT-H in its code")
    lines += [f"failed: {failure}" for failure in ablation.failures[:5]]
    if len(ablation.failures) > 5:
        lines.append(f"... and {len(ablation.failures) - 5} more")
    return "\n".join(lines)


def ablation_files(folder: Path) -> list[Path]:
    """Return every file that `write_ablation` writes."""
    return [folder / "ablation.json", folder / "ablation.csv"]


def write_ablation(folder: Path, ablation: AblationTable) -> None:
    """Write ``ablation.json``, and ``ablation.csv`` with one line per prompt; shares in 0..1.

    Raises:
        OutputError: A file cannot be written.
    """
    about, table = ablation_files(folder)
    rows = [(row.prompt, row.instances, f"{row.miou_i:.6f}", f"{row.miou_p:.6f}") for row in ablation.rows]
    write_json(about, ablation.to_dict())
    write_text(table, csv_text([("prompt", "instances", "miou_i", "miou_p"), *rows]))
