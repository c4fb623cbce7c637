"""``label build``: a detection data set becomes a segmentation data set, with an account of every box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.engine import Machines, TaskResult, WorkerError, progress_bar, run_tasks
from geodistill.errors import DataError, RecipeError
from geodistill.files import check_folder
from geodistill.folders import hold_folder, sweep
from geodistill.label.accounts import Account, read_account
from geodistill.label.assemble import (
    LabelRun,
    assemble,
    check_division,
    finished_sums,
    is_finished,
    keeps_manifest,
    split_plan,
)
from geodistill.label.boxes import Annotations
from geodistill.label.config import MOVES, LabelSettings, moving_root
from geodistill.label.formats.detection import read_boxes, tell_unmatched
from geodistill.label.output_folder import (
    ACCOUNT,
    CHUNK,
    DECISIONS,
    LISTS,
    MANIFEST,
    SPLIT_LISTS,
    Journal,
    begin,
    refuse_other,
    still_done,
)
from geodistill.label.segmenters.promptable import build_segmenter, check_segmenter, weights_stamp
from geodistill.label.tile_labeller import Labeller, segmenter_of
from geodistill.label.tile_records import TileRecord
from geodistill.label.tiles import Item, annotation_files, annotation_lists, batches, image_names, plan, split_lists
from geodistill.lazy import load
from geodistill.raster import Raster
from geodistill.spec import Legend

if TYPE_CHECKING:
    from geodistill.label.decisions import Review

GPU_BATCH = 8
"""Tiles at once that keep a GPU busy with any of the encoders; their features take 4 MiB each."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(Machines):
    """How the work is done, beside `Machines`; nothing of it changes the result.

    Attributes:
        device: Where the segmenter runs.
        batch: Tiles that go through the segmenter's encoder at once; by default `GPU_BATCH` for a network on a GPU and
            1 otherwise, so that a killed run loses little.
    """

    device: str = "auto"
    batch: int | None = None


@dataclass(frozen=True)
class LabelPlan:
    """What a run is to do, once all that can be refused before its folder is made was looked at.

    Attributes:
        settings: What the user asked.
        legend: The classes.
        annotations: The boxes.
        out: The folder.
        work: How the work is done.
        moves_with: See `build`.
    """

    settings: LabelSettings
    legend: Legend
    annotations: Annotations
    out: Path
    work: WorkerOptions
    moves_with: Path | None

    def describe_run(self, batch: int, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """Return what the result depends on, as ``settings.json`` keeps it."""
        about = self.settings.to_dict()
        about |= {"annotations": annotation_files(self.annotations), "image_names": image_names(self.annotations)}
        about[LISTS] = annotation_lists(self.annotations)
        if ":" in self.settings.segmenter:
            # Both change the last bits of a network's masks, or more.
            about |= {"batch": batch, "weights": weights_stamp(self.settings.segmenter)}
        if self.settings.lists is not None:
            about[SPLIT_LISTS] = split_lists(self.settings.lists)
        return about | moving_root(self.out, self.moves_with, earlier)


def build(
    settings: LabelSettings,
    out: Path | str,
    *,
    work: WorkerOptions | None = None,
    resume: bool = False,
    keep_going: bool = False,
    progress: bool = False,
    moves_with: Path | None = None,
) -> Account:
    """Label every image of a detection data set.

    The folder then holds ``gray/`` and ``color/`` (masks), ``images/`` (tiles, where images were cut),
    ``instances.json`` (COCO), ``manifest.parquet`` (for ``fit``), ``legend.yaml``, ``settings.json`` and
    ``label.json`` (where every image and box went). A killed run is continued with ``resume`` and ends with the same
    bytes as one that was not killed; images that failed or have changed, and tiles of which a file is no longer as it
    was written, are done again.

    Args:
        settings: What to do.
        out: A new folder, or with ``resume`` that of an earlier run.
        work: How.
        resume: Continue; with another division into splits, the manifest alone is made anew.
        keep_going: Accept images that do not decode, which the account lists; otherwise they make the run end in an
            error, after everything else has been labelled.
        progress: Show progress bars on a terminal.
        moves_with: A folder above ``out``: the manifest of a new run names images below it relative to itself.

    Returns:
        What ``label.json`` holds.

    Raises:
        RecipeError: The boxes are of one class and there is no background, or a number makes no sense.
        UnknownNameError: There is no such format or segmenter.
        ArtifactError: The segmenter's weights cannot be used.
        DataError: Annotations or images cannot be used, an image failed and ``keep_going`` is not set, or not one box
            gave a label.
        OutputError: The folder holds another run or anything else, is in use, or cannot be written.
        AccountingError: An image or box got lost.
    """
    out, work = Path(out), work or WorkerOptions()
    check_folder(out, (settings.images, settings.boxes))
    earlier = refuse_other(out, resume)
    _refuse_unusable(settings, work, earlier)
    annotations = read_annotations(settings, progress=progress)
    legend = settings.legend(annotations.categories)
    _refuse_boxless(annotations, settings)
    _refuse_one_class(annotations, settings)
    _refuse_bands(annotations, settings.bands)
    check_division(annotations, settings)
    if earlier is None:
        _open_segmenter(settings.segmenter, out, work)
    label_plan = LabelPlan(settings, legend, annotations, out, work, moves_with)
    with hold_folder(out, "label build"):
        # A second look, since another run may have written there until the folder was ours.
        account = _build(label_plan, refuse_other(out, resume), progress)
    return _checked(account, out, keep_going)


def read_annotations(settings: LabelSettings, *, progress: bool = False) -> Annotations:
    """Return the boxes that settings name, as `read_boxes` does."""
    return read_boxes(
        settings.format,
        settings.boxes,
        settings.images,
        categories=settings.classes,
        keep_difficult=settings.keep_difficult,
        category_field=settings.category_field,
        progress=progress,
    )


def _build(label_plan: LabelPlan, earlier: dict[str, Any] | None, progress: bool) -> Account:
    settings, legend, annotations = label_plan.settings, label_plan.legend, label_plan.annotations
    out, work = label_plan.out, label_plan.work
    batch = tiles_at_once(settings.segmenter, work, earlier)
    about = label_plan.describe_run(batch, earlier)
    if earlier is not None and ":~" in settings.segmenter and not earlier.get("weights"):
        earlier["weights"] = about["weights"]  # runs of before did not look below a home directory
    same_splits = begin(out, about, earlier)
    with Journal(out) as journal:
        tasks = list(plan(annotations, settings.tile, settings.overlap))
        done = still_done(out, journal, tasks)
        items = batches(iter(tasks), done, batch)
        reasons = unopened(annotations)
        review: Review | None = None
        if (out / DECISIONS).exists():
            review = load("geodistill.label.decisions:Review")(out, journal, tasks, settings.share, legend)
        decided = review is None or not review.waiting()
        if same_splits and decided and not (items or reasons) and is_finished(out, journal):
            account = read_account(out)
            if review is None or account.get("review") == review.account():
                return account
        (out / ACCOUNT).unlink(missing_ok=True)
        labeller = Labeller(settings, legend, out.absolute(), work.device, batch)
        _label(labeller, items, work, journal, progress)
        if review is not None:
            review.apply(labeller, progress)
        counts, tiles = None if review is None else review.account(), sum(len(task.tiles) for task in tasks)
        kept = keeps_manifest(out, journal)
        if journal.known and not kept:
            journal.forget_sums()
        root = out / about[MOVES] if MOVES in about else None
        run = LabelRun(out, settings, legend, annotations, tiles, reasons, counts, kept, root)
        account = assemble(run, journal, progress=progress)
        finish_run(run, journal, account)
    return account


def _refuse_unusable(settings: LabelSettings, work: WorkerOptions, earlier: dict[str, Any] | None) -> None:
    """Refuse what could only fail when the folder is made already, and images are labelled."""
    check_segmenter(settings.segmenter)
    work.check()
    tiles_at_once(settings.segmenter, work, earlier)
    split_plan(settings)


def _open_segmenter(name: str, out: Path, work: WorkerOptions) -> None:
    """Open a new run's segmenter before its folder is made, so that weights which cannot be used leave nothing there.

    A single worker of this machine goes on with it; on a cluster the weights may lie on the other machines alone.
    """
    if work.engine != "local":
        return
    if work.workers == 1:
        segmenter_of(name, work.device, out.absolute() / CHUNK)
    else:
        build_segmenter(name, device=work.device)


def _refuse_boxless(annotations: Annotations, settings: LabelSettings) -> None:
    """Refuse a set of which no box can be used, before anything is written."""
    if any(image.boxes for image in annotations.images):
        return
    reasons = Counter(box.reason for image in annotations.images for box in image.dropped)
    counted = ", ".join(f"{name} {count}" for name, count in sorted(reasons.items()))
    summary = f"{sum(reasons.values())} read, none of use: {counted}" if reasons else "none read"
    unmatched = f"; without an image: {tell_unmatched(annotations.unmatched)}" if annotations.unmatched else ""
    raise DataError(
        f"no box in {settings.boxes} to label the {len(annotations.images)} images by ({summary}{unmatched})",
        f"at least one box, of {', '.join(settings.classes)}" if settings.classes else "at least one box",
    )


def _refuse_one_class(annotations: Annotations, settings: LabelSettings) -> None:
    """Refuse boxes of one class without a background, from which masks of one class alone would come."""
    categories = {box.category for image in annotations.images for box in image.boxes}
    if settings.background is None and len(categories) == 1:
        raise RecipeError(
            f"boxes of {categories.pop()!r} alone, and no background: nothing could be learnt from such labels",
            "two classes or more",
            "name what no box touches with --background NAME",
        )


def _refuse_bands(annotations: Annotations, bands: tuple[int, ...] | None) -> None:
    """Refuse bands that no image has; the first image that has them ends the search."""
    most = 0
    for image in annotations.images if bands else ():
        if not image.width or not image.height:
            continue
        with suppress(DataError), Raster(image.image) as raster:  # what cannot be opened is counted later
            most = max(most, raster.channels)
        if most >= max(bands or ()):
            return
    if most:
        raise RecipeError(f"bands {list(bands or ())} of images of {most} bands", f"positions 1 to {most}")


def _checked(account: Account, out: Path, keep_going: bool) -> Account:
    """Return the account of a run; refuse one with a failed image, unless that is all right, or without any label."""
    failures = account["failures"]
    if failures and not keep_going:
        names = tell_unmatched([failure["image"] for failure in failures])
        raise DataError(
            f"{len(failures)} of {account['images']['in']} images failed: {names} ({failures[0]['error']})",
            "",
            f"the rest is in {out}; mend them and run again with --resume, or accept it with --keep-going",
        )
    if not account["boxes"]["labelled"]:
        counted = ", ".join(f"{name} {count}" for name, count in account["boxes"]["dropped"].items())
        raise DataError(
            f"not one of {account['boxes']['in']} boxes gave a label ({counted})",
            "at least one",
            f"{out / ACCOUNT} tells of each class; nothing else was written",
        )
    return account


def tiles_at_once(segmenter: str, work: WorkerOptions, earlier: dict[str, Any] | None) -> int:
    """Return the number of tiles that a worker takes at once; a run that is continued keeps its own."""
    if work.batch is not None:
        if work.batch < 1:
            raise RecipeError(f"batches of {work.batch} tiles", "at least 1")
        return work.batch
    kept = (earlier or {}).get("batch")
    if isinstance(kept, int) and kept >= 1:
        return kept
    if ":" not in segmenter or work.device == "cpu":
        return 1
    import torch  # only networks need it, and it takes seconds to import

    return GPU_BATCH if work.gpus or torch.cuda.is_available() else 1


def _label(labeller: Labeller, items: list[Item], work: WorkerOptions, journal: Journal, progress: bool) -> None:
    tiles = sum(len(task.tiles) for item in items for task in item)
    results: Iterator[TaskResult[Item, list[TileRecord]]] = run_tasks(labeller, items, work, keep_going=True)
    with progress_bar(range(0), "labelling", progress, total=tiles, unit="tile") as bar:
        for result in results:
            if result.value is not None:
                journal.append(result.value)
            elif isinstance(result.error, WorkerError):
                # The worker died each time.
                lost = (
                    TileRecord(task.key, tile.window, str(result.error)) for task in result.item for tile in task.tiles
                )
                journal.append(lost)
            elif result.error is not None:
                raise result.error
            bar.update(sum(len(task.tiles) for task in result.item))


def unopened(annotations: Annotations) -> dict[str, str]:
    """Say by its key why each image without a size cannot be opened."""
    reasons = {}
    for image in annotations.images:
        if not image.width or not image.height:
            try:
                Raster(image.image).close()
                reasons[image.key] = f"{image.image} could not be opened when the boxes were read"
            except DataError as error:
                reasons[image.key] = str(error)
    return reasons


def finish_run(run: LabelRun, journal: Journal, account: Account) -> None:
    """End a run: the journal keeps what need not be done again, in one order, and how our manifest was."""
    failed = {failure["key"] for failure in account["failures"]}
    ours = {MANIFEST: journal.known[MANIFEST]} if run.keeps_manifest else {}
    if not account["boxes"]["labelled"]:
        journal.keep([], ours or None)
    else:
        tiles = (tile for tile in journal.tiles() if tile.key not in failed)
        journal.keep(tiles, finished_sums(run.out) | ours)
    sweep(run.out, locked=True)
