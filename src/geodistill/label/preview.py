"""``label preview``: pictures of a label set to look at, the most doubtful objects first.

Each view shows an image with its boxes and prompts, the masks in a colour for each object, and the classes as painted:
the kinds of pictures of the figures 2, 3 and 4 of the SAMRS paper.
"""

from __future__ import annotations

import base64
import colorsys
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from geodistill.data.mask_files import read_mask
from geodistill.errors import DataError, RecipeError
from geodistill.files import atomic_path
from geodistill.label.annotated_masks import checked_runs
from geodistill.label.export import Labelled, LabelSet, load_label_set, progress_bar
from geodistill.label.ledger import ACCOUNT
from geodistill.label.masks import Runs
from geodistill.label.pixels import read_tiles, write_picture
from geodistill.label.postprocess import CHANGES
from geodistill.outputs import check_outputs
from geodistill.raster import Raster, Window
from geodistill.reading import read_object

SIDE = 480
"""Side of a picture in pixels at most."""

LARGEST = 1024
"""Side of an image that is shown whole; of a larger one the surroundings of its most doubtful object are."""

CONTACT, PAGE = "contact.png", "index.html"
LOW_SCORE = 0.75
Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Shown:
    """An object of a view, in pixels of its image.

    Attributes:
        number: Its COCO id.
        value: Of its class in the masks.
        score: The segmenter's own estimate, 0 to 1.
        changed: Which rules changed its mask.
        box: xmin, ymin, xmax, ymax as annotated.
        corners: ``(4, 2)`` of the oriented box.
        runs: Its mask.
    """

    number: int
    value: int
    score: float
    changed: tuple[str, ...]
    box: tuple[float, float, float, float]
    corners: NDArray[np.float64]
    runs: Runs

    @property
    def doubt(self) -> float:
        """How doubtful the mask is: a box in its place most, then by score, each other change counting a tenth."""
        return 2.0 * (CHANGES[0] in self.changed) + (1 - self.score) + 0.1 * len(self.changed)


@dataclass
class _View:
    image: Labelled
    objects: list[Shown] = field(default_factory=list)
    pictures: Picture | None = None


def preview(
    labels: Path | str, out: Path | str, *, count: int = 24, seed: int = 0, progress: bool = False
) -> dict[str, Any]:
    """Write ``contact.png`` and ``index.html``, a page that needs no other file, of a folder of ``label build``.

    Half of the views are of the images with the most doubtful objects, the others are drawn at random.

    Args:
        labels: The folder.
        out: Where the two files go.
        count: Views at most.
        seed: Of the random half.
        progress: Show progress bars on a terminal.

    Returns:
        ``images``, ``objects`` and ``doubtful``: views, objects in them, and those of low score or changed by a rule.

    Raises:
        DataError: There is no such set, or a file of it is malformed or missing.
        RecipeError: Less than one view.
        OutputError: A file cannot be written.
    """
    if count < 1:
        raise RecipeError(f"{count} images to show", "1 or more")
    label_set, out = load_label_set(labels), Path(out)
    check_outputs([out / CONTACT, out / PAGE], [label_set.folder, *(i.image for i in label_set.images.values())])
    settings = read_object(label_set.folder / ACCOUNT).get("settings")
    prompt = str(settings.get("prompt", "auto")) if isinstance(settings, dict) else "auto"
    views = _chosen(label_set, count, seed, progress)
    for view in progress_bar(views, "drawing", progress):
        view.pictures = _draw(view, label_set, prompt)
    write_picture(out / CONTACT, _contact(views))
    with atomic_path(out / PAGE) as part:
        part.write_text(_page(views, label_set, prompt), encoding="utf-8", errors="backslashreplace")
    objects = [one for view in views for one in view.objects]
    return {"images": len(views), "objects": len(objects), "doubtful": sum(map(_is_doubtful, objects))}


def _is_doubtful(one: Shown) -> bool:
    return bool(one.changed) or one.score < LOW_SCORE


def _chosen(label_set: LabelSet, count: int, seed: int, progress: bool) -> list[_View]:
    """Go through the objects twice, so that a set of millions needs no memory: for the worst, for the shown."""
    worst: dict[int, float] = {}
    for number, entry in _entries(label_set, progress):
        worst[number] = max(worst.get(number, 0.0), _shown(entry, label_set, number).doubt)
    order = sorted(worst, key=lambda number: (-worst[number], number))
    first, rest = order[: (count + 1) // 2], order[(count + 1) // 2 :]
    drawn = np.random.default_rng(seed).permutation(len(rest))[: count - len(first)].tolist()
    views = {number: _View(label_set.images[number]) for number in (*first, *(rest[at] for at in drawn))}
    for number, entry in _entries(label_set, progress):
        if number in views:
            views[number].objects.append(_shown(entry, label_set, number))
    for view in views.values():
        view.objects.sort(key=lambda one: -one.doubt)
    return list(views.values())


def _entries(label_set: LabelSet, progress: bool) -> Iterable[tuple[int, Any]]:
    for entry in progress_bar(label_set.annotations(), "reading objects", progress):
        number = entry.get("image_id") if isinstance(entry, dict) else None
        if not isinstance(number, int):
            raise DataError(f"{label_set.folder}: an object of no image", "annotations that 'label build' wrote")
        if number in label_set.images:
            yield number, entry


def _shown(entry: dict[str, Any], label_set: LabelSet, number: int) -> Shown:
    image, source = label_set.images[number], f"{label_set.folder}: object {str(entry.get('id'))[:20]}"
    try:
        left, top, width, height = (float(v) for v in entry["annotated_bbox"])
        value = int(entry["mask_value"])
        if not 0 <= value < len(label_set.legend):
            raise ValueError(f"mask value {value}")
        changed = tuple(name for name in CHANGES if name in entry.get("changed", ()))
        corners = np.array(entry["rbox"], np.float64).reshape(4, 2)
        runs = Runs.from_coco(checked_runs(entry["segmentation"], image.width, image.height, source))
        box = (left, top, left + width, top + height)
        if not np.isfinite([*box, *corners.ravel()]).all():
            raise ValueError("a coordinate that is no number")
        return Shown(int(entry["id"]), value, float(entry["score"]), changed, box, corners, runs)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source} ({error!r})", "an annotation that 'label build' wrote") from error


def _window(view: _View) -> Window:
    """Return what is shown of an image: all, or the surroundings of its first object."""
    image = view.image
    if max(image.height, image.width) <= LARGEST:
        return Window(0, 0, image.height, image.width)
    left, top, right, bottom = view.objects[0].box
    height, width = min(SIDE, image.height), min(SIDE, image.width)
    row = int(np.clip((top + bottom) / 2 - height / 2, 0, image.height - height))
    column = int(np.clip((left + right) / 2 - width / 2, 0, image.width - width))
    return Window(row, column, height, width)


def _draw(view: _View, label_set: LabelSet, prompt: str) -> Picture:
    """Return the three pictures of a view side by side, ``(h, 3 w, 3)`` uint8."""
    window = _window(view)
    with Raster(view.image.image) as raster:
        rgb = next(iter(read_tiles(raster, [window], None))).rgb
    scale = min(SIDE / max(window.height, window.width), 4.0)
    size = (max(round(window.width * scale), 1), max(round(window.height * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    plain = cv2.resize(np.ascontiguousarray(rgb), size, interpolation=how).astype(np.uint8)
    rows = slice(window.row, window.row + window.height)
    columns = slice(window.col, window.col + window.width)
    masks, covered = np.zeros((window.height, window.width, 3), np.uint8), np.zeros((window.height, window.width), bool)
    for one in reversed(view.objects):
        crop = one.runs.crop()
        whole = np.zeros((view.image.height, view.image.width), bool)
        whole[crop.place] = crop.pixels
        masks[whole[rows, columns]] = instance_colour(one.number)
        covered |= whole[rows, columns]
    indices = read_mask(view.image.mask, label_set.legend)[rows, columns]
    classes = label_set.legend.paint(indices)
    parts = [
        _with_prompts(plain, view.objects, window, scale, prompt),
        _blended(plain, masks, covered),
        cv2.resize(np.ascontiguousarray(classes), size, interpolation=cv2.INTER_NEAREST),
    ]
    return np.concatenate(parts, axis=1)


def instance_colour(number: int) -> tuple[int, int, int]:
    """Return a bright colour for an object; neighbours by number are far from each other."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618033988749895 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _blended(plain: Picture, colours: Picture, covered: NDArray[np.bool_]) -> Picture:
    size = (plain.shape[1], plain.shape[0])
    over = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST)
    where = cv2.resize(covered.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)[..., None] == 1
    mixed = np.where(where, plain * 0.4 + over * 0.6, plain)
    result: Picture = mixed.astype(np.uint8)
    return result


def _with_prompts(plain: Picture, objects: Sequence[Shown], window: Window, scale: float, prompt: str) -> Picture:
    """Draw boxes in their object's colours, the doubtful ones thick; centre points and mask prompts where asked for."""
    picture = plain.copy()
    origin = np.array((window.col, window.row), np.float64)
    for one in reversed(objects):
        left, top, right, bottom = one.box
        upright = np.array(((left, top), (right, top), (right, bottom), (left, bottom)))
        colour = instance_colour(one.number)
        parts = prompt.split("+")
        for corners, kinds in ((upright, ("hbox", "auto")), (one.corners, ("rbox", "rhbox"))):
            ring = np.round((corners - origin) * scale).clip(-(2**14), 2**14).astype(np.int32)
            if f"{kinds[0]}-mask" in parts or f"{kinds[1]}-mask" in parts:
                filled = picture.copy()
                cv2.fillPoly(filled, [ring], colour)
                picture = cv2.addWeighted(picture, 0.65, filled, 0.35, 0).astype(np.uint8)
            if kinds[0] == "hbox" or any(kind in part for part in parts for kind in kinds):
                cv2.polylines(picture, [ring], True, colour, 3 if _is_doubtful(one) else 1, cv2.LINE_AA)
        if "cp" in parts:
            x, y = ((one.corners.mean(axis=0) - origin) * scale).round().clip(-(2**14), 2**14).astype(int).tolist()
            cv2.drawMarker(picture, (x, y), colour, cv2.MARKER_CROSS, 12, 2)
    return picture


def _contact(views: Sequence[_View]) -> Picture:
    """Return all views in two columns; the legend stands on the page."""
    cells = []
    for view in views:
        assert view.pictures is not None
        height = max(round(SIDE / 2 * view.pictures.shape[0] * 3 / view.pictures.shape[1]), 1)
        cell = np.full((min(height, 3 * SIDE) + 6, 3 * SIDE // 2 + 6, 3), 255, np.uint8)
        cell[: cell.shape[0] - 6, :-6] = cv2.resize(
            view.pictures, (3 * SIDE // 2, cell.shape[0] - 6), interpolation=cv2.INTER_AREA
        )
        cells.append(cell)
    if len(cells) % 2:
        cells.append(np.full_like(cells[-1], 255))
    rows = []
    for left, right in zip(cells[::2], cells[1::2], strict=True):
        tall = max(len(left), len(right))
        rows.append(np.concatenate([_padded(left, tall), _padded(right, tall)], axis=1))
    return np.concatenate(rows)


def _padded(picture: Picture, height: int) -> Picture:
    return np.concatenate([picture, np.full((height - len(picture), picture.shape[1], 3), 255, np.uint8)])


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>body{{font:14px sans-serif;margin:2em;max-width:1500px}}img{{max-width:100%}}td,th{{padding:0 1em 0 0;
text-align:left}}.doubtful{{font-weight:bold}}.patch{{display:inline-block;width:1em;height:1em}}</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
"""


def _page(views: Sequence[_View], label_set: LabelSet, prompt: str) -> str:
    """Write the page; every name from outside is escaped, and the page may load nothing and run nothing."""
    title = html.escape(f"Labels of {label_set.folder.resolve().name}")
    about = html.escape(
        f"Prompt {prompt}. From left: boxes and prompts (thick where doubtful), masks in a colour for each object, "
        f"classes as painted. Bold: score below {LOW_SCORE:g}, or changed by a rule. First the images with the most "
        "doubtful objects, then images at random."
    )
    parts = [_HEAD.format(title=title, about=about)]
    for name, colour in zip(label_set.legend.names, label_set.legend.colours, strict=True):
        parts.append(f"{_patch(colour)} {html.escape(name)}&emsp;")
    for view in views:
        assert view.pictures is not None
        data = cv2.imencode(".jpg", cv2.cvtColor(view.pictures, cv2.COLOR_RGB2BGR))[1].tobytes()
        parts.append(f"<h2>{html.escape(view.image.name)} ({html.escape(view.image.split)})</h2>")
        parts.append(f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}">')
        parts.append(
            "<table><tr><th></th><th>object</th><th>class</th><th>score</th><th>pixels</th><th>changed</th></tr>"
        )
        parts += [_table_row(one, label_set) for one in view.objects]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>\n"])


def _table_row(one: Shown, label_set: LabelSet) -> str:
    cells = (one.number, label_set.legend.names[one.value], f"{one.score:.3f}", one.runs.area, ", ".join(one.changed))
    style = ' class="doubtful"' if _is_doubtful(one) else ""
    written = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
    return f"<tr{style}><td>{_patch(instance_colour(one.number))}</td>{written}</tr>"


def _patch(colour: Sequence[int]) -> str:
    return '<span class="patch" style="background:#{:02x}{:02x}{:02x}"></span>'.format(*colour)
