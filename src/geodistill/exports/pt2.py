"""A Segmenter as a program of torch.export, which torch alone loads."""

from __future__ import annotations

from pathlib import Path

import torch

from geodistill.backends.graph import example, plain_copy
from geodistill.backends.metadata import model_metadata
from geodistill.backends.text_inputs import one_prompt
from geodistill.errors import ArtifactError, RecipeError, first_line
from geodistill.exports.agreement import CheckedExport, check_agreement
from geodistill.exports.exporters import ExportOptions
from geodistill.files import atomic_path, check_suffix, json_text
from geodistill.reading import parse_json
from geodistill.segmenter import Segmenter

DESCRIBED = "geodistill.json"
"""Extra file inside the archive that says what the model is."""

_MACHINE = ("stack_trace", "source_fn_stack", "nn_module_stack", "from_node")
"""What torch notes at each node of where it came from: files of this machine among them."""


def export_pt2(segmenter: Segmenter, path: Path, options: ExportOptions) -> CheckedExport:
    """Write a ``.pt2`` file: images ``(B, C, S, S)`` float32 in sensor units in, logits out, for any number of images.

    Inside it, `DESCRIBED` says classes, bands, statistics, distance and window, as the metadata of an ONNX file do.

    Raises:
        RecipeError: The model has several prompts, or images of any size are asked for.
        ArtifactError: The network cannot be exported so, or gives other classes than torch.
        OutputError: The file cannot be written, or is not named ``.pt2``.
    """
    check_suffix(path, (".pt2",))
    one_prompt(segmenter)
    model = plain_copy(segmenter)
    if options.size == "any":
        raise RecipeError("a program for images of any size", "one size, which shapes inside it follow from")
    size = options.size or segmenter.tile
    images = example(model.spec, (2, size, size))
    try:
        # Any number of images: an axis of 1 would be taken for a fixed one, so there are two.
        program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except (RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"the network cannot be exported ({first_line(error)})", "one torch.export takes"
        ) from error
    _forget_machine(program)
    with atomic_path(path) as part:
        with part.open("wb") as file:
            torch.export.save(program, file, extra_files={DESCRIBED: described(segmenter)})
        loaded = torch.export.load(part).module()
        agreement = check_agreement(model, loaded, options.check, path, size)
    return CheckedExport(path, agreement)


def described(segmenter: Segmenter) -> str:
    """Return what stands in `DESCRIBED`: classes, bands, statistics, distance and window of a model, as JSON."""
    facts = {key: parse_json(text, DESCRIBED) for key, text in model_metadata(segmenter).items()}
    return json_text(facts, indent=2)


def _forget_machine(program: torch.export.ExportedProgram) -> None:
    """Take out of a program what names files of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for key in _MACHINE:
                    node.meta.pop(key, None)
