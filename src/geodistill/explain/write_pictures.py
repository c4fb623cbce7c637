"""`explain`: one page of what a model and its teacher see in an image."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from geodistill.evaluation.pictures import to_rgb
from geodistill.evaluation.results import model_files
from geodistill.evaluation.shown_images import class_bytes, photo_bytes
from geodistill.explain.components import Components, as_colours, principal_components, similarities, turned_to
from geodistill.explain.explanation import Explanation, explain_image, read_part, teacher_of
from geodistill.files import check_outputs, check_suffix, write_text
from geodistill.inference.location import PerPlaceModel
from geodistill.inference.network import load_on
from geodistill.raster import Window
from geodistill.raster.source import source_files
from geodistill.report.gallery import GalleryImage, gallery
from geodistill.report.markup import Attributes, data_uri, element, join, json_block
from geodistill.report.page import PAGES, Page, Section
from geodistill.spec import Legend

LAYERS = (("image", "Image"), ("picture", "Picture"), ("classes", "Classes"))
MODELS = ("student", "teacher")


@dataclass(frozen=True)
class ExplainOptions:
    """What of an image is looked at, and by which models.

    Attributes:
        teacher: A Segmenter or run to set beside the model; what its recipe names by default.
        with_teacher: Whether a teacher is looked at.
        window: Part of the image; its middle, of at most 512 pixels a side, by default.
    """

    teacher: str | None = None
    with_teacher: bool = True
    window: Window | None = None


def explain(model: Path | str, image: Path | str, out: Path | str, options: ExplainOptions | None = None) -> Path:
    """Write a page of feature pictures: principal components, similarity to a chosen place, Grad-CAM, doubt.

    Args:
        model: A Segmenter directory, a run or a hub id.
        image: A raster with the model's bands.
        out: The page, ``.html``; what is there is replaced.
        options: What is looked at.

    Returns:
        The page.

    Raises:
        ArtifactError: The model or its teacher is not at hand.
        DataError: The image cannot be read, has other bands, or does not say where it lies under a model of climate
            zones.
        RecipeError: The model has no encoder, or the part lies outside the image.
        OutputError: The page cannot be written.
    """
    options, path = options or ExplainOptions(), Path(out)
    check_suffix(path, PAGES)
    check_outputs([path], [*source_files(image), *model_files(model)])
    segmenter = PerPlaceModel(load_on(model, "cpu")).at_image(image)
    pixels, window = read_part(image, segmenter.spec, options.window)
    teacher = teacher_of(segmenter, options.teacher) if options.with_teacher else "none was asked for"
    explained = explain_image(segmenter, None if isinstance(teacher, str) else teacher, pixels, window)
    legend, photo = segmenter.spec.legend, to_rgb(pixels, segmenter.spec.bands)
    lead = [
        f"What {Path(model).name} sees in {Path(image).name}: {window.height} x {window.width} pixels from row"
        f" {window.row}, column {window.col}."
    ]
    if isinstance(teacher, str):
        lead.append(f"No teacher is shown: {teacher}.")
    sections = (_pictures(explained, legend, photo), _similarity(explained, photo))
    write_text(path, Page(f"{Path(model).name} explained", lead, (), sections, legend).to_html())
    return path


def _pictures(explained: Explanation, legend: Legend, photo: NDArray[np.uint8]) -> Section:
    """Return the section of components, evidence and doubt."""
    height, width = photo.shape[:2]
    base, classes = photo_bytes(photo), class_bytes(explained.classes, legend)
    components = _components(explained)
    images, figures = [], []
    for name, each, stride in zip(MODELS, components, explained.strides, strict=False):
        shares = ", ".join(f"{100 * part:.0f} %" for part in each.explained)
        picture = photo_bytes(as_colours(each, height, width))
        note = f"of the variance: {shares}; map of stride {stride}"
        images.append(GalleryImage("components", f"Features of the {name}", (note,), (base, picture, classes)))
        figures.append({"model": name, "explained": list(each.explained), "stride": stride})
    images.append(GalleryImage("doubt", "Doubt", _mean_note(explained.doubt), (base, _heat(explained.doubt), classes)))
    for name, evidence in zip(legend.names, explained.evidence, strict=True):
        notes = ("where the encoder speaks for the class (Grad-CAM), each from its own lowest to its own highest",)
        images.append(GalleryImage("evidence", name, notes, (base, _heat(evidence), classes)))
    turned = (
        " for both models; the student's are turned to the teacher's, so that like colours mean like places"
        if len(components) > 1
        else ""
    )
    intro = (
        f"Principal components as red, green and blue, from -2 to 2 deviations{turned}. Doubt is the entropy of the"
        " probabilities, from sure (dark) to all classes alike (bright)."
    )
    body = join(element("p", {"class": "quiet"}, intro), gallery(images, LAYERS, "picture", legend))
    doubt = {"mean": float(explained.doubt.mean()), "highest": float(explained.doubt.max())}
    return Section("pictures", "Pictures", body, {"components": figures, "doubt": doubt})


def _components(explained: Explanation) -> list[Components]:
    """Return the components of the student, turned to the teacher's where there is one, and of the teacher."""
    student, *others = (principal_components(each) for each in explained.features)
    return [turned_to(student, others[0]), others[0]] if others else [student]


def _mean_note(doubt: NDArray[np.float32]) -> tuple[str, ...]:
    return (f"mean {100 * float(doubt.mean()):.0f} % of the entropy of a guess",)


def _heat(values: NDArray[np.float32]) -> bytes:
    """Return ``(H, W)`` values of 0..1 as a picture from dark to bright, which any colour vision can read."""
    coloured = cv2.applyColorMap((255 * values).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    return photo_bytes(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB).astype(np.uint8))


def _similarity(explained: Explanation, photo: NDArray[np.uint8]) -> Section:
    """Return the section in which a place is chosen, and all others show how like it they are."""
    source = data_uri(photo_bytes(photo), "image/webp")
    figures, stored = [], []
    for name, features in zip(MODELS, explained.features, strict=False):
        stored.append(_stored(name, features))
        label = f"Similarity by the {name}'s features; arrows move the place"
        frame: Attributes = {
            "class": "alike",
            "tabindex": 0,
            "role": "application",
            "aria-label": label,
            "data-model": name,
        }
        parts = (element("img", {"alt": "", "src": source}), element("canvas"), element("span", {"class": "pin"}))
        note = element("figcaption", None, element("b", None, name.capitalize()), element("span", {"class": "quiet"}))
        figures.append(element("figure", None, element("div", frame, *parts), note))
    intro = (
        "Choose a place in a picture: the brighter a place, the more alike its features are (cosine, after the mean"
        " over the image is taken away)."
    )
    colours = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_VIRIDIS)[0, :, ::-1].tolist()
    body = join(
        element("p", {"class": "quiet"}, intro),
        element("div", {"class": "charts pairs"}, figures),
        json_block("alike-data", {"models": stored, "colours": colours}),
    )
    sizes = {each["name"]: each["grid"] for each in stored}
    return Section("similarity", "Similarity", body, {"grids": sizes}, script=("similarity.js",))


def _stored(name: str, features: Tensor) -> dict[str, Any]:
    values, grid = similarities(features)
    return {"name": name, "grid": list(grid), "values": base64.b64encode(values.tobytes()).decode()}
