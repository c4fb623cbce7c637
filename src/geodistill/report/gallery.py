"""Pictures to look at: layers over each other, switched for all at once, each enlarged by a click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from geodistill.report.markup import Html, data_uri, element, join
from geodistill.report.page import swatch
from geodistill.spec import Legend

KINDS = {b"RIFF": "image/webp", b"\x89PNG": "image/png"}
"""Media types of pictures by the bytes that they begin with."""


@dataclass(frozen=True)
class GalleryImage:
    """A picture as layers of one size.

    Attributes:
        choice: The group that it is shown with.
        name: Stands below it.
        notes: Stand below the name.
        layers: The image, and what lies over it: encoded, in the order of the gallery's layers.
    """

    choice: str
    name: str
    notes: tuple[str, ...]
    layers: tuple[bytes, ...]


def gallery(
    images: Sequence[GalleryImage], layers: Sequence[tuple[str, str]], begin: str, legend: Legend, *extra: Html
) -> Html:
    """Return a gallery with its controls and the enlarged view; a page holds one.

    Args:
        images: What it shows, at least one; of the groups the first is shown at the beginning.
        layers: Name and title of each layer, ``image`` first; the page's style knows the names.
        begin: The layer that is shown at the beginning.
        legend: The classes.
        extra: More entries of the list of colours.
    """
    groups = list(dict.fromkeys(image.choice for image in images))
    counts = {group: sum(image.choice == group for image in images) for group in groups}
    choices = [(group, f"{group.capitalize()} ({count})") for group, count in counts.items()]
    controls = [_radios("choice", "Images", choices, groups[0])] if len(groups) > 1 else []
    controls += [_radios("layer", "Layer", layers, begin), _slider()]
    items = [_item(image, layers, image.choice == groups[0]) for image in images]
    return join(
        element("div", {"class": "controls"}, controls),
        legend_list(legend, *extra),
        element("ul", {"class": "gallery", "data-layer": begin, "id": "gallery"}, items),
        _viewer(len(layers)),
    )


def _radios(name: str, title: str, options: Sequence[tuple[str, str]], chosen: str) -> Html:
    """Return a choice of one among a few."""
    parts = [
        element(
            "label",
            None,
            element("input", {"type": "radio", "name": name, "value": value, "checked": value == chosen}),
            element("span", None, text),
        )
        for value, text in options
    ]
    return element("fieldset", {"class": "choice"}, element("legend", None, title), parts)


def _slider() -> Html:
    """Return the control of how strongly a layer covers the image."""
    return element(
        "label",
        {"class": "strength"},
        "Strength of the layer ",
        element("input", {"type": "range", "id": "strength", "min": 10, "max": 100, "step": 5, "value": 60}),
    )


def legend_list(legend: Legend, *extra: Html) -> Html:
    """Return the classes with their colours, and what other colours there are."""
    items = [element("li", None, swatch(f"k{k}"), name) for k, name in enumerate(legend.names)]
    return element("ul", {"class": "legend", "aria-label": "Colours of the classes"}, items, *extra)


def _viewer(layers: int) -> Html:
    """Return the enlarged view; the page's script fills it."""
    buttons = [
        element("button", {"type": "button", "data-act": act, "aria-label": text}, sign)
        for act, text, sign in (
            ("out", "Smaller", "\u2212"),
            ("in", "Larger", "+"),
            ("fit", "Whole image", "Fit"),
            ("before", "Image before", "\u2190"),
            ("after", "Next image", "\u2192"),
        )
    ]
    close = element("button", {"type": "button", "data-act": "close", "aria-label": "Close"}, "Close")
    bar = element("div", {"class": "bar-of-tools"}, element("b", {"id": "viewer-title"}), buttons, close)
    hint = f"Keys: 1 to {layers} choose the layer, + \u2212 zoom, arrows move, n and p change the image, Escape closes."
    stage = element("div", {"class": "stage", "tabindex": 0, "role": "group", "aria-label": "Enlarged image"})
    return element(
        "dialog",
        {"id": "viewer", "aria-labelledby": "viewer-title"},
        bar,
        element("fieldset", {"class": "choice", "id": "viewer-layers"}),
        stage,
        element("p", {"class": "quiet"}, hint),
    )


def _item(image: GalleryImage, layers: Sequence[tuple[str, str]], visible: bool) -> Html:
    pictures = [
        element(
            "img",
            {
                "class": f"layer {layer}",
                "alt": image.name if layer == "image" else "",
                "src": data_uri(data, KINDS[data[:4]]),
                "loading": "lazy",
                "decoding": "async",
            },
        )
        for (layer, _), data in zip(layers, image.layers, strict=True)
    ]
    button = element("button", {"type": "button", "class": "look", "aria-label": f"Enlarge {image.name}"}, pictures)
    notes = [element("span", {"class": "quiet"}, note) for note in image.notes]
    caption = element("figcaption", None, element("b", None, image.name), notes)
    return element("li", {"data-choice": image.choice, "hidden": not visible}, element("figure", None, button, caption))
