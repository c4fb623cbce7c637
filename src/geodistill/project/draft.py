"""`init`: a project file written from what a folder holds, with a comment on every line, and what was chosen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from geodistill.data.splits import NAMES, source_split
from geodistill.errors import DataError, OutputError, counted
from geodistill.files import write_text
from geodistill.project.look_around import SCENE_PIXELS, Annotation, FolderContents, class_columns, look_around
from geodistill.project.project_file import is_address
from geodistill.project.wiring import SIGN
from geodistill.reading import parse_yaml

_NAMED = 5
"""Files that a list on the screen names at most."""

_LONE = "a lone polygon may be any area, unless a column is called class"

Line = tuple[str, str]
"""A line of YAML, and what it says."""


@dataclass
class ProjectDraft:
    """A project file that was written.

    Attributes:
        path: The file.
        lines: Its lines.
        chosen: What was chosen among what was found, one line each.
    """

    path: Path
    lines: list[Line] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)

    def add(self, text: str, comment: str = "") -> None:
        """Add a line."""
        self.lines.append((text, comment))

    def name(self, path: Path) -> str:
        """Return a path as the file names it: from its own folder, in quotes where YAML needs them."""
        relative = Path(os.path.relpath(path, self.path.absolute().parent)).as_posix()
        if relative.startswith((SIGN, "~")) or is_address(relative):  # else it would name no file of the folder
            relative = f"./{relative}"
        return _quoted(relative)

    @property
    def text(self) -> str:
        """The file."""
        width = max(len(text) for text, _ in self.lines) + 2
        return "".join(f"{text:<{width}}# {note}\n" if note else f"{text}\n" for text, note in self.lines)


def draft_project(folder: Path | str, out: Path | str) -> ProjectDraft:
    """Write a project file.

    Raises:
        DataError: The folder holds nothing that a project can be made of.
        OutputError: The file is there already, or cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise OutputError(f"{out} is there already", "a new file", "name another with --out")
    contents = look_around(Path(folder))
    draft = ProjectDraft(out)
    draft.add(f"# geodistill run {out.name}; add --dry to see what would run, and why")
    draft.add("seed: 0", "of every split and training")
    read = [Path(os.path.abspath(place)) for place in _learnt_from(contents)]  # noqa: PTH100 - links stay
    results = out.absolute().with_suffix("")
    if around := [place for place in read if results.is_relative_to(place)]:
        outermost = min(around, key=lambda place: len(place.parts))
        results = outermost.with_name(f"{outermost.name}-results")
        draft.add(f"out: {draft.name(results)}", "not among the images, which are read with all folders below")
    elif results.exists():
        draft.add(f"out: {draft.name(out.with_name(f'{out.stem}-results'))}", f"not {out.stem}, which is there already")
    labelled = _add_data(draft, contents)
    model = _add_models(draft, contents, labelled)
    if model:
        if labelled:
            draft.add("evaluate: {split: test}", "scores on images that no training has used")
        _add_scenes(draft, contents)
        draft.add("export: {to: onnx}", "also qgis, stac, hub: a list takes several")
        draft.add("report:", "one page of all results")
    write_text(out, draft.text, errors="surrogateescape")
    return draft


def _learnt_from(contents: FolderContents) -> list[Path]:
    """Return the folders of images and boxes that the stages of data read."""
    boxes = [] if contents.masked else contents.annotations[:1]
    masked = [place for each in contents.masked for place in (each.images, each.masks) if place]
    return [*masked, *(place for each in boxes for place in (each.images, each.boxes)), *contents.images]


def _add_data(draft: ProjectDraft, contents: FolderContents) -> bool:
    """Add the stages of data; masks go before boxes. Return whether there are labels."""
    labelled = bool(contents.masked or contents.annotations)
    if contents.masked:
        images = [draft.name(each.images) for each in contents.masked]
        masks = [draft.name(each.masks) for each in contents.masked if each.masks]
        draft.add("scan:", "images and their masks")
        draft.add(f"  images: [{', '.join(images)}]", "folders or files")
        if len(masks) == len(images):  # else masks that lie among the images are looked for, or those beside them
            draft.add(f"  masks: [{', '.join(masks)}]", "in the same order")
        if contents.legends:
            draft.add(f"  legend: {draft.name(contents.legends[0])}", "names, colours and values of the classes")
        draft.add(*_split(contents))
        draft.chosen.append(f"masks: {counted(len(images), 'folder')}; classes {_legend_words(contents)}")
        for each in contents.annotations:
            draft.chosen.append(f"left out: boxes {each.boxes}, since there are masks")
    elif contents.annotations:
        each = contents.annotations[0]
        draft.add("label:", "boxes become masks")
        draft.add(f"  images: {draft.name(each.images)}", "what the boxes were drawn on")
        draft.add(f"  boxes: {draft.name(each.boxes)}", "their file or folder")
        draft.add(f"  format: {each.format}", "'geodistill label build --help' names them all")
        _add_column(draft, each)
        if len(each.splits) == len(NAMES):
            draft.add("  split: source", "train, val and test as their folders are called")
        elif each.splits:
            named = " and ".join(each.splits)
            draft.add("  split: random", f"drawn anew among {named}, since all of train, val and test are wanted")
            draft.chosen.append(f"split: drawn anew, not as the folders of {named} say; split: source keeps them")
        draft.add("  segmenter: grabcut", "or sam:DIR, sam2:DIR, sam3:DIR, edgetam:DIR")
        draft.add("  background: background", "right where every object has its box; else leave it out")
        draft.chosen.append(f"boxes: {each.boxes} ({each.format}), images: {each.images}")
        if scenes := [str(scene) for scene in contents.scenes if scene.is_relative_to(each.images)]:
            named = ", ".join(scenes[:_NAMED])
            draft.chosen.append(f"labelled too: {named}; move it out of {each.images} where it has no boxes")
        draft.chosen += [f"left out: boxes {other.boxes} ({other.format})" for other in contents.annotations[1:]]
    draft.chosen += [f"left out: {file}, {_LONE}" for file in contents.lone]
    if labelled:
        draft.add("check:", "broken files end the run here")
    if contents.images:
        draft.add("scan-unlabelled:", "images without labels, whose features are learnt")
        draft.add(f"  images: [{', '.join(map(draft.name, contents.images))}]", "folders or files")
        draft.add("  unlabelled: true", "they need no masks")
        size = f"from {SCENE_PIXELS / 1e6:.1f} megapixels it would be a scene, to be mapped"
        draft.chosen += [f"unlabelled images: {place}" for place in contents.images if place.is_dir()]
        files = [place for place in contents.images if not place.is_dir()]
        draft.chosen += [f"unlabelled images: {place} ({size})" for place in files[:_NAMED]]
        if len(files) > _NAMED:
            draft.chosen.append(f"unlabelled images: {len(files) - _NAMED} more files")
    return labelled


def _split(contents: FolderContents) -> Line:
    """Return the split of images with masks: as their folders are called, where these are train, val and test."""
    folders = {folder for each in contents.masked for folder in each.folders}
    above = Path(os.path.commonpath(folders))
    parts = [[p for p in f.relative_to(above).parts if source_split(f"{p}/")] for f in folders]
    groups = {split: sorted({p for names in parts for p in names if source_split(f"{p}/") == split}) for split in NAMES}
    if not all(groups.values()) or any(len(names) != 1 for names in parts):
        return "  split: {kind: file}", "group, block or window, where images show the same ground"
    pattern = "|".join(re.escape(name) for names in groups.values() for name in names)
    written = ", ".join(f"{split}: [{', '.join(map(_quoted, names))}]" for split, names in groups.items())
    plan = f"kind: group, group_regex: {_quoted(f'(?:^|/)({pattern})/')}, groups: {{{written}}}"
    return f"  split: {{{plan}}}", "train, val and test as their folders are called"


def _add_column(draft: ProjectDraft, boxes: Annotation) -> None:
    """Add the column of the class of polygons, where its name says nothing; of several, a person chooses."""
    columns = class_columns(boxes.boxes) if boxes.format == "geojson" else None
    if columns is None:
        return
    if not columns:
        draft.add("  # classes: [NAME]", "to be written: the one class of all, since no column holds text")
        draft.chosen.append("to be written: classes, the one class of all polygons, since no column holds text")
    elif len(columns) == 1 and _repeats(boxes.boxes, columns[0]):
        draft.add(f"  category_field: {_quoted(columns[0])}", "the column of the class")
    else:
        named = ", ".join(map(_quoted, columns[:_NAMED]))
        what = f"the column of the class among {named}, or 'classes: [NAME]' where all are of one"
        draft.add("  # category_field: COLUMN", f"to be written: {what}")
        draft.chosen.append(f"to be written: category_field, {what}")


def _repeats(boxes: Path, column: str) -> bool:
    """Whether polygons share values of a column, as of classes; nearly all identifiers and names are different."""
    from geodistill.label.formats.geo_features import read_features
    from geodistill.label.formats.raw_boxes import ReadOptions

    try:
        values = [each.category for each in read_features(boxes, ReadOptions(category_field=column)).items]
    except DataError:
        return True  # 'label' will name it
    return 10 * len(set(values)) <= 9 * len(values)


def _quoted(text: str) -> str:
    """Return a text for YAML, in quotes where it would be none without."""
    plain = all(c.isalnum() or c in "/._-" for c in text) and parse_yaml(text, text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def _legend_words(contents: FolderContents) -> str:
    if contents.legends:
        return f"by {contents.legends[0]}"
    return "as found in the masks: write a legend to name them"


def _add_models(draft: ProjectDraft, contents: FolderContents, labelled: bool) -> bool:
    """Add the stages of training; return whether there is a model then."""
    if contents.models:
        draft.add(f"teacher: {draft.name(contents.models[0])}", "a model that was trained before")
        draft.chosen.append(f"teacher: {contents.models[0]}")
        draft.chosen += [f"left out: model {model}" for model in contents.models[1:]]
    elif labelled:
        draft.add("teacher:", "a larger network, which the student learns from")
        draft.add("  recipe: student", "from pretrained weights where there are some; any recipe, and any key of it")
        draft.add("  network.encoder: resnet50", "'geodistill encoders' lists them")
        for weights in contents.weights[:1]:
            draft.add(f"  # network.encoder_weights: {draft.name(weights)}", "where they are of that encoder")
    if not labelled:
        if not contents.models:
            lone = "".join(f"; {file} is passed over: {_LONE}" for file in contents.lone[:_NAMED])
            raise DataError(f"neither labels nor a model in the folder{lone}", "masks, boxes, or a trained Segmenter")
        draft.chosen.append("no training: there are no labels")
        return True
    for line in _student(contents):
        draft.add(*line)
    draft.chosen.append("student: MobileNetV2, taught by the teacher")
    return True


def _student(contents: FolderContents) -> Iterator[Line]:
    if contents.images and not contents.models:
        yield "adapt:", "the student's encoder learns the teacher's features first"
        yield "  recipe: ktda-folder", "its phase before the labels alone"
        yield "  data.unlabelled: $scan-unlabelled", "from images without labels too"
    yield "distil:", "the student"
    yield "  recipe: distil-folder", "its teacher is the stage above"
    yield "  trainer.max_steps: 2000", "fewer for a first look"


def _add_scenes(draft: ProjectDraft, contents: FolderContents) -> None:
    if not contents.scenes:
        draft.chosen.append("no map: there is no scene; a stage 'predict: {scenes: FILE}' makes one")
        return
    draft.add("predict:", "maps of whole scenes")
    draft.add(f"  scenes: [{', '.join(map(draft.name, contents.scenes))}]", "rasters of any size")
    draft.add("  vector: gpkg", "polygons too")
    draft.chosen.append(f"scenes: {', '.join(map(str, contents.scenes))}")
