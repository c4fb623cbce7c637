"""``label preview``: pictures of a label set to look at, the most doubtful objects first.

Each view shows an image with its boxes and prompts, the masks in a colour for each object, and the classes as painted:
the kinds of pictures of the figures 2 and 4 of the SAMRS paper; or the basic prompts of its figure 3.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from geodistill.engine import progress_bar
from geodistill.errors import RecipeError
from geodistill.files import check_outputs, write_text
from geodistill.label.doubts import LOW_SCORE, Shown, ViewedImage, choose_views
from geodistill.label.label_set import LabelSet, load_label_set
from geodistill.label.output_folder import ACCOUNT
from geodistill.label.overlays import BASIC, Picture, contact_sheet, draw_view, instance_colour
from geodistill.label.pixels import write_picture
from geodistill.legend_entries import Colour
from geodistill.reading import read_object
from geodistill.spec import hexadecimal
from geodistill.writing import markup_text

CONTACT, PAGE = "contact.png", "index.html"

TWO_BOXES = ("hrsc", "voc")
"""Formats whose objects may have a horizontal box beside their oriented one."""


def preview(
    labels: Path | str,
    out: Path | str,
    *,
    count: int = 24,
    seed: int = 0,
    prompts: bool = False,
    progress: bool = False,
) -> dict[str, Any]:
    """Write ``contact.png`` and ``index.html``, a page that needs no other file, of a folder of ``label build``.

    Half of the views are of the images with the most doubtful objects, the others are drawn at random.

    Args:
        labels: The folder.
        out: Where the two files go.
        count: Views at most.
        seed: Of the random half.
        prompts: Draw the six basic prompts of each object instead of masks and classes (the paper's figure 3).
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
    settings = read_object(label_set.folder / ACCOUNT)["settings"]
    prompt, two_boxes = str(settings.get("prompt", "auto")), settings.get("format") in TWO_BOXES
    views = choose_views(label_set, count, seed, progress)
    shown = None if prompts else prompt
    drawn = progress_bar(views, "drawing", progress)
    pictures = [draw_view(view, label_set, shown, two_boxes=two_boxes) for view in drawn]
    write_picture(out / CONTACT, contact_sheet(pictures))
    write_text(out / PAGE, _page(views, pictures, label_set, shown), errors="backslashreplace")
    objects = [one for view in views for one in view.objects]
    return {"images": len(views), "objects": len(objects), "doubtful": sum(one.is_doubtful for one in objects)}


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>body{{font:14px sans-serif;margin:2em;max-width:1500px}}img{{max-width:100%}}td,th{{padding:0 1em 0 0;
text-align:left}}.doubtful{{font-weight:bold}}.patch{{display:inline-block;width:1em;height:1em}}</style></head><body>
<h1>{title}</h1>
<p>{about}</p>
"""


def _page(views: Sequence[ViewedImage], pictures: Sequence[Picture], label_set: LabelSet, prompt: str | None) -> str:
    """Write the page; every name from outside is escaped, and the page may load nothing and run nothing."""
    title = markup_text(f"Labels of {label_set.folder.resolve().name}")
    drawn = (
        f"Prompt {prompt}. From left: boxes and prompts (thick where doubtful), masks in a colour for each object, "
        "classes as painted."
        if prompt is not None
        else f"Boxes (thick where doubtful) and basic prompts: {', '.join(BASIC[:3])}, below {', '.join(BASIC[3:])}."
    )
    about = markup_text(
        f"{drawn} Bold: score below {LOW_SCORE:g}, or changed by a rule. First the images with the most doubtful "
        "objects, then images at random."
    )
    parts = [_HEAD.format(title=title, about=about)]
    for name, colour in zip(label_set.legend.names, label_set.legend.colours, strict=True):
        parts.append(f"{_patch(colour)} {markup_text(name)}&emsp;")
    for view, picture in zip(views, pictures, strict=True):
        data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        parts.append(f"<h2>{markup_text(view.image.name)} ({markup_text(view.image.split)})</h2>")
        parts.append(f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}">')
        parts.append(
            "<table><tr><th></th><th>object</th><th>class</th><th>score</th><th>pixels</th><th>changed</th></tr>"
        )
        parts += [_table_row(one, label_set) for one in view.objects]
        parts.append("</table>")
    return "\n".join([*parts, "</body></html>\n"])


def _table_row(one: Shown, label_set: LabelSet) -> str:
    cells = (one.number, label_set.legend.names[one.value], f"{one.score:.3f}", one.runs.area, ", ".join(one.changed))
    style = ' class="doubtful"' if one.is_doubtful else ""
    written = "".join(f"<td>{markup_text(str(cell))}</td>" for cell in cells)
    return f"<tr{style}><td>{_patch(instance_colour(one.number))}</td>{written}</tr>"


def _patch(colour: Colour) -> str:
    return f'<span class="patch" style="background:{hexadecimal(colour)}"></span>'
