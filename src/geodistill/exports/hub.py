"""A Segmenter in the Hub's layout: its two files and a model card, to keep in a directory or to upload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from geodistill.errors import OutputError, one_line
from geodistill.exports.card import card_text, describe_network, known_scores, origin
from geodistill.exports.exporters import ExportOptions, model_folder
from geodistill.files import atomic_path, sha256_of
from geodistill.reading import read_object
from geodistill.segmenter import Segmenter

CARD, CONFIG = "README.md", "config.json"
WRITTEN = "card_sha256"
"""Key of the configuration: digest of the card, by which one that a person edited is known."""

KIND = "model for the Hub"
"""What the directory's marker calls it."""


def export_hub(segmenter: Segmenter, path: Path, options: ExportOptions) -> Path:
    """Write a directory that `Segmenter.load` opens where it is, and by ``owner/name`` once it is uploaded.

    Its name is the model's. An earlier export is replaced.

    Raises:
        OutputError: It cannot be written, something else lies there, or an earlier export's card was edited.
    """
    folder = model_folder(path, KIND)
    _refuse_edited(folder)
    name = one_line(folder.name)
    scores = known_scores(segmenter, options.scores)
    header = ModelCardData(
        library_name="geodistill",
        pipeline_tag="image-segmentation",
        license=options.licence,
        tags=["remote-sensing", "semantic-segmentation", segmenter.name],
        # A name alone would leave an index of models without a result.
        model_name=name if scores else None,
        eval_results=[
            EvalResult(
                task_type="image-segmentation",
                dataset_type="manifest",
                dataset_name=str(origin(segmenter).get("data", "unknown")),
                metric_type=metric,
                metric_value=value,
            )
            for metric, value in scores.items()
        ]
        or None,
    )
    with atomic_path(folder, KIND) as part:
        part.mkdir()
        segmenter.write(part)
        text = f"---\n{header.to_yaml()}\n---\n\n{card_text(segmenter, name, scores)}"
        (part / CARD).write_text(text, encoding="utf-8")
        # The Hub counts downloads by requests for this file.
        about = _config(segmenter) | {WRITTEN: sha256_of(part / CARD)}
        (part / CONFIG).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return path


def _refuse_edited(folder: Path) -> None:
    """Refuse a directory whose card is no longer as it was written."""
    if (folder / CARD).is_file() and (folder / CONFIG).is_file():
        written = read_object(folder / CONFIG).get(WRITTEN)
        if written not in (None, sha256_of(folder / CARD)):
            raise OutputError(f"{folder / CARD} was edited", "a card as it was written", "move it, or choose another")


def _config(segmenter: Segmenter) -> dict[str, Any]:
    """Return what the Hub's readers look for beside weights; geodistill itself reads ``segmenter.json`` alone."""
    names = {str(index): one_line(name) for index, name in enumerate(segmenter.spec.legend.names)}
    return {
        "library_name": "geodistill",
        "architecture": one_line(describe_network(segmenter)),
        "id2label": names,
        "num_channels": segmenter.spec.channels,
        "image_size": segmenter.tile,
    }
