"""A Segmenter as OpenVINO's own two files, graph and weights."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from geodistill.backends.graph import plain_copy, require, to_onnx
from geodistill.backends.metadata import model_metadata
from geodistill.backends.openvino_backend import OpenvinoBackend
from geodistill.backends.text_inputs import one_prompt
from geodistill.exports.agreement import CheckedExport, check_agreement
from geodistill.exports.exporters import ExportOptions, model_folder
from geodistill.files import atomic_path
from geodistill.segmenter import Segmenter

GRAPH_FILE = "model.xml"
"""The graph; its weights are ``model.bin`` beside it."""

KIND = "OpenVINO model"
"""What the directory's marker calls it."""


def export_openvino(segmenter: Segmenter, path: Path, options: ExportOptions) -> CheckedExport:
    """Write a directory with ``model.xml`` and ``model.bin``, in float32, normalisation inside.

    What the metadata of an ONNX file say stands in the graph's runtime information under ``geodistill``. The files are
    read back and compared with torch in OpenVINO itself.

    Raises:
        RecipeError: A package is missing, or the model has several prompts.
        ArtifactError: The network cannot be exported so, or gives other classes than torch.
        OutputError: The directory cannot be written, or something else lies there.
    """
    require(*OpenvinoBackend.packages)
    import openvino

    one_prompt(segmenter)
    folder = model_folder(path, KIND)
    size = segmenter.tile if options.size is None else options.size
    fixed = None if size == "any" else size
    with TemporaryDirectory(prefix="geodistill-") as scratch:
        graph = Path(scratch) / "model.onnx"
        to_onnx(segmenter, graph, size=fixed, batch=1)
        model = openvino.convert_model(graph)
    for key, text in model_metadata(segmenter).items():
        model.set_rt_info(text, ["geodistill", key])
    with atomic_path(folder, KIND) as part:
        part.mkdir()
        openvino.save_model(model, part / GRAPH_FILE, compress_to_fp16=False)
        backend = OpenvinoBackend(part / GRAPH_FILE, "cpu", "fp32", 1)
        agreement = check_agreement(plain_copy(segmenter), backend, options.check, path, fixed)
    return CheckedExport(path / GRAPH_FILE, agreement)
