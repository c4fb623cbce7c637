"""A Segmenter as a STAC item with the Machine Learning Model extension, in a directory with all that it links."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geodistill.backends.graph import INPUT, OUTPUT, require, to_onnx
from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.exports.card import describe_network, known_scores, origin
from geodistill.exports.exporters import ExportOptions, model_folder
from geodistill.files import atomic_path
from geodistill.inference.stac_item import slugs
from geodistill.inference.style import plain_name
from geodistill.segmenter import Segmenter
from geodistill.version import __version__

if TYPE_CHECKING:
    import pystac

ITEM, GRAPH = "item.json", "model.onnx"
KIND = "STAC item of a model"
"""What the directory's marker calls it."""

_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
_CLASSIFICATION = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"


def export_stac(segmenter: Segmenter, path: Path, options: ExportOptions) -> Path:
    """Write a directory with the item, the Segmenter and its ONNX graph, all links relative; return the item's file.

    Its name is the item's id. An earlier export is replaced. Where on Earth a model may be used is nothing it knows, so
    the item has no geometry.

    Raises:
        RecipeError: pystac or stac-model is missing, or the model has several prompts.
        ArtifactError: The network cannot be exported to ONNX.
        OutputError: The directory cannot be written, or something else lies there.
    """
    require("pystac", "stac_model")
    folder = model_folder(path, KIND)
    with atomic_path(folder, KIND) as part:
        part.mkdir()
        segmenter.write(part)
        to_onnx(segmenter, part / GRAPH, size=segmenter.tile, batch=None)
        item = make_item(segmenter, folder.name, part, known_scores(segmenter, options.scores))
        text = json.dumps(item.to_dict(include_self_link=False, transform_hrefs=False), indent=2)
        (part / ITEM).write_text(text + "\n", encoding="utf-8")
    return path / ITEM


def make_item(segmenter: Segmenter, name: str, folder: Path, scores: Mapping[str, float]) -> pystac.Item:
    """Describe the Segmenter's files and `GRAPH` in a folder; scores are shares in 0..1."""
    import pystac
    from stac_model.schema import MLModelExtension, MLModelProperties

    spec = segmenter.spec
    now = datetime.now(UTC)
    bands = [
        {"name": plain_name(band), "statistics": {"mean": mean, "stddev": deviation}}
        for band, mean, deviation in zip(spec.bands, spec.mean, spec.std, strict=True)
    ]
    properties: dict[str, Any] = {
        "description": f"{describe_network(segmenter)} for {', '.join(map(plain_name, spec.legend.names))}",
        "created": now.isoformat(),
        "geodistill:tile": segmenter.tile,
        "geodistill:scores": dict(scores),
        "geodistill:origin": origin(segmenter),
        # The model's input names bands, which MLM looks for here.
        "bands": bands,
    }
    if spec.gsd is not None:
        properties["gsd"] = spec.gsd
    item = pystac.Item(name, None, None, now, properties, stac_extensions=[_FILE, _CLASSIFICATION])
    model = MLModelProperties(
        name=name,
        architecture=describe_network(segmenter),
        tasks={"semantic-segmentation"},
        input=[_input(segmenter)],
        output=[_output(segmenter)],
        framework="PyTorch",
        framework_version=torch.__version__.split("+")[0],
        total_parameters=sum(p.numel() for p in segmenter.parameters()),
        pretrained=True,
        accelerator=None,
    )
    MLModelExtension.ext(item, add_if_missing=True).apply(model)
    for key, file, title, kind, roles in (
        ("weights", WEIGHTS, "Weights", "safetensors", ["mlm:model", "mlm:weights", "data"]),
        ("onnx", GRAPH, "ONNX graph, normalisation inside", "onnx", ["mlm:model", "mlm:compiled", "data"]),
        ("segmenter", DESCRIPTION, "Network, classes, bands and where it comes from", None, ["metadata"]),
    ):
        size = (folder / file).stat().st_size
        extra: dict[str, Any] = {"file:size": size}
        if kind is not None:
            extra |= {"mlm:artifact_type": kind, "bands": bands}
        media = f"application/octet-stream; application={kind}" if kind is not None else pystac.MediaType.JSON
        item.add_asset(key, pystac.Asset(f"./{file}", title, None, media, roles, extra))
    code = pystac.Asset(
        "https://pypi.org/project/geodistill/",
        f"geodistill {__version__}",
        None,
        "text/html",
        ["mlm:source_code", "code"],
    )
    item.add_asset("code", code)
    return item


def _input(segmenter: Segmenter) -> Any:
    from stac_model.input import InputStructure, ModelInput

    spec, tile = segmenter.spec, segmenter.tile
    return ModelInput(
        name=INPUT,
        bands=[plain_name(band) for band in spec.bands],
        input=InputStructure(
            shape=[-1, spec.channels, tile, tile], dim_order=["batch", "bands", "height", "width"], data_type="float32"
        ),
        # None: normalisation is part of the network, whose input is in sensor units.
        pre_processing_function=None,
    )


def _output(segmenter: Segmenter) -> Any:
    from stac_model.output import MLMClassification, ModelOutput, ModelResult

    legend, tile = segmenter.spec.legend, segmenter.tile
    colours = ["{:02X}{:02X}{:02X}".format(*colour) for colour in legend.colours]
    return ModelOutput(
        name=OUTPUT,
        tasks={"semantic-segmentation"},
        bands=[],
        result=ModelResult(
            shape=[-1, len(legend), tile, tile], dim_order=["batch", "class", "height", "width"], data_type="float32"
        ),
        classes=[
            MLMClassification(value=value, name=slug, description=plain_name(name), color_hint=colour)
            for value, (slug, name, colour) in enumerate(zip(slugs(legend.names), legend.names, colours, strict=True))
        ],
        post_processing_function=None,
    )
