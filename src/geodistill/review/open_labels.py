"""A label set as a review reads it: the objects as the segmenter made them, their boxes, where their pixels are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geodistill.errors import DataError
from geodistill.label.boxes import Box
from geodistill.label.build_labels import read_annotations
from geodistill.label.config import LabelSettings
from geodistill.label.decisions import indexed_boxes, original_instances, read_decisions
from geodistill.label.output_folder import ABOUT, ACCOUNT, JOURNAL, LISTS, Journal
from geodistill.label.tiles import ImageTask, TileId, TileTask, annotation_files, annotation_lists, image_names, plan
from geodistill.reading import read_object
from geodistill.spec import Legend

Stamp = tuple[tuple[int, int], ...]
"""Size and time of change of the files that a review stands on."""


@dataclass(frozen=True, eq=False)
class OpenLabels:
    """A finished folder of ``label build``, with all that is needed to look at its objects.

    Attributes:
        folder: The folder.
        settings: What it was made by.
        legend: Its classes.
        tiles: Image and tile by what identifies them.
    """

    folder: Path
    settings: LabelSettings
    legend: Legend
    tiles: dict[TileId, tuple[ImageTask, TileTask]]

    def objects(self) -> Iterator[tuple[TileId, dict[int, Mapping[str, Any]]]]:
        """Yield of each tile its objects as the segmenter made them, by the index of their box.

        Raises:
            DataError: The folder holds tiles that are not of its settings.
        """
        decisions = read_decisions(self.folder)
        with Journal(self.folder) as journal:
            for name in journal.tiles():
                if name not in self.tiles:
                    raise self.changed_error()
                (_, tile), about = self.tiles[name], decisions.get(name, ())
                yield name, original_instances(journal.read(name), about, tile, self.settings.share, self.legend)

    def boxes(self, name: TileId) -> dict[int, Box]:
        """Return the boxes of a tile in its frame, by index."""
        _, tile = self.tiles[name]
        return indexed_boxes(tile, self.settings.share)

    def stamp(self) -> Stamp:
        """Return what the folder's files are now.

        Raises:
            DataError: One is gone.
        """
        try:
            stats = [(self.folder / name).stat() for name in (JOURNAL, ABOUT, ACCOUNT)]
        except OSError as error:
            raise self.changed_error() from error
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)

    def changed_error(self) -> DataError:
        """Return the error that says that labels changed under a review."""
        return DataError(
            f"{self.folder} changed under its review",
            "labels that stay as they are meanwhile",
            "all decisions are kept: finish it with 'geodistill label build --resume', then"
            f" 'geodistill review {self.folder}'",
        )


def open_labels(folder: Path | str, *, progress: bool = False) -> OpenLabels:
    """Open a label set for a review.

    Raises:
        DataError: The folder holds no finished set, or the annotations or images it was made of are others now.
    """
    folder = Path(folder)
    if not all((folder / name).is_file() for name in (ACCOUNT, ABOUT, JOURNAL)):
        raise DataError(f"no finished label set at {folder}", "the folder of a finished 'label build'")
    about = read_object(folder / ABOUT)
    settings = LabelSettings.from_dict(about, folder / ABOUT)
    annotations = read_annotations(settings, progress=progress)
    digests = {"annotations": annotation_files(annotations), "image_names": image_names(annotations)}
    digests |= {LISTS: annotation_lists(annotations)} if LISTS in about else {}  # which label sets of before have not
    for name, now in digests.items():
        if about.get(name) != now:
            what = "images" if name == "image_names" else "annotations"
            raise DataError(
                f"the {what} that {folder} was made of are others now",
                f"{settings.images if name == 'image_names' else settings.boxes} as it was",
                "label them into another folder",
            )
    tiles = {
        name: (task, tile)
        for task in plan(annotations, settings.tile, settings.overlap)
        for name, tile in zip(task.ids(), task.tiles, strict=True)
    }
    return OpenLabels(folder, settings, settings.legend(annotations.categories), tiles)
