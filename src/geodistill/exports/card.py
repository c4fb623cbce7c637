"""The model card of a Segmenter, and its scores in short."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from geodistill.description import network_words
from geodistill.errors import DataError, one_line
from geodistill.reading import read_object, well_formed
from geodistill.segmenter import Segmenter
from geodistill.spec import hexadecimal
from geodistill.version import __version__


def read_scores(path: Path) -> dict[str, float]:
    """Read the main figures of a ``metrics.json`` that ``geodistill evaluate`` wrote, shares in 0..1.

    Raises:
        DataError: It is not such a file.
    """
    data = read_object(path)
    with well_formed(f"scores {path} cannot be read", "metrics.json of 'geodistill evaluate'"):
        scores = {name: float(data[name]) for name in ("miou", "mf1", "oa") if data[name] is not None}
    if odd := [name for name, value in scores.items() if not 0 <= value <= 1]:
        raise DataError(f"scores {path} with {odd[0]} {scores[odd[0]]}", "shares from 0 to 1")
    return scores


def known_scores(segmenter: Segmenter, measured: Mapping[str, float]) -> dict[str, float]:
    """Return the scores that training left in a model and those measured later; shares in 0..1."""
    stored: Mapping[str, Any] = segmenter.provenance.get("scores") or {}
    numbers = {name: value for name, value in stored.items() if isinstance(value, int | float)}
    finite = {one_line(str(name)): float(value) for name, value in numbers.items() if math.isfinite(value)}
    return finite | dict(measured)


def markdown(text: str) -> str:
    """Return text that Markdown and HTML show as it is: on one line, no markup, no link, no further cell."""
    marked = re.sub(r"[\\`*_{}\[\]()#!|~:@$]", r"\\\g<0>", one_line(text))
    return escape(marked.replace("www.", "www\\."), quote=False)


def origin(segmenter: Segmenter) -> dict[str, Any]:
    """Return where a model comes from, without the paths of the machine it was trained on."""
    provenance = segmenter.provenance
    recipe = provenance.get("recipe") if isinstance(provenance.get("recipe"), dict) else {}
    manifest = provenance.get("manifest")
    known = {
        "method": recipe.get("method") if recipe else None,
        "data": one_line(Path(str(manifest)).name) if manifest else None,
        "steps": provenance.get("step"),
        "versions": provenance.get("versions"),
    }
    return {key: value for key, value in known.items() if value is not None}


def describe_network(segmenter: Segmenter) -> str:
    """Name network, decoder and encoder, as far as there are such."""
    return network_words(segmenter.name, segmenter.arguments, ("architecture", "decoder", "encoder"))


def card_text(segmenter: Segmenter, name: str, scores: Mapping[str, float]) -> str:
    """Write a model card in Markdown, without the Hub's header; scores are shares in 0..1 by name."""
    spec, parameters = segmenter.spec, sum(p.numel() for p in segmenter.parameters())
    gsd = "unknown" if spec.gsd is None else f"{spec.gsd:g} m per pixel"
    bands = [f"| {markdown(b)} | {m:.6g} | {s:.6g} |" for b, m, s in zip(spec.bands, spec.mean, spec.std, strict=True)]
    classes = [
        f"| {index} | {markdown(title)} | `{hexadecimal(colour)}` |"
        for index, (title, colour) in enumerate(zip(spec.legend.names, spec.legend.colours, strict=True))
    ]
    measured = [f"| {markdown(key)} | {100 * value:.2f} |" for key, value in scores.items()]
    return "\n".join(
        [
            f"# {markdown(name)}",
            "",
            f"Semantic segmentation of georeferenced imagery: {markdown(describe_network(segmenter))}, "
            f"{parameters / 1e6:.1f} million parameters, made with geodistill {__version__}.",
            "",
            f"Windows of {segmenter.tile} x {segmenter.tile} pixels; ground sampling distance {gsd}. "
            "Images go in as the sensor gives them: normalisation is part of the network.",
            "",
            "| class | name | colour |\n| --- | --- | --- |",
            *classes,
            "",
            "| band | mean | standard deviation |\n| --- | --- | --- |",
            *bands,
            "",
            *(["| score | percent |\n| --- | --- |", *measured, ""] if measured else []),
            "## Use",
            "",
            "```sh\ngeodistill predict --model THIS --input scene.tif --out map.tif\n```",
            "",
            "```python\nfrom geodistill.segmenter import Segmenter\n\nsegmenter = Segmenter.load('THIS')\n```",
            "",
            "THIS is the directory of these files, or `owner/name` on the Hub.",
            "",
            "## Where it comes from",
            "",
            f"```json\n{json.dumps(origin(segmenter), indent=2)}\n```",
            "",
        ]
    )
