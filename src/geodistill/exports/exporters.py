"""The forms that a Segmenter is exported to: each is a module, imported when its name is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from geodistill.data.manifest import Manifest
from geodistill.errors import OutputError, RecipeError, check_name
from geodistill.files import named_path
from geodistill.folders import refuse_foreign
from geodistill.lazy import load

if TYPE_CHECKING:
    from geodistill.segmenter import Segmenter


@dataclass(frozen=True)
class ExportOptions:
    """What an export may be asked for; `EXPORTERS` says which of it concerns which form.

    Attributes:
        size: Side of a graph's images in pixels, or ``any``; the windows that the model was trained on by default.
        batch: Images per call of a graph, or ``any``.
        opset: Version of ONNX's operators.
        calibration: Labelled data: a graph of 8-bit integers is made too, its ranges read from the images of ``train``.
        int8_drop: Percentage points of mIoU that 8-bit integers may lose there; layers stay in float until they do not.
        split: Split of that data used to measure the accuracy drop.
        resolution: Centimetres per pixel; the model's own ground sampling distance by default.
        overlap: Percent of a tile that its neighbour covers too.
        licence: The Hub's name of the licence of the weights, such as ``apache-2.0``.
        check: Rasters and manifests on whose tiles a form is compared with torch; noise where there are none.
        scores: Measured scores, shares in 0..1, beside those that the model holds.

    Raises:
        RecipeError: A size or batch is no number of at least 1.
    """

    size: int | Literal["any"] | None = None
    batch: int | Literal["any"] = 1
    opset: int = 18
    calibration: Manifest | None = None
    int8_drop: float = 1.0
    split: Literal["train", "val", "test"] = "val"
    resolution: float | None = None
    overlap: int = 25
    licence: str | None = None
    check: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("size", "batch"):
            value = getattr(self, name)
            if value not in (None, "any") and not (isinstance(value, Integral) and int(value) >= 1):
                raise RecipeError(f"{name} {value!r}", "a number of at least 1, or any")


@dataclass(frozen=True)
class Exporter:
    """A form: which fields of `ExportOptions` concern it; it is a directory, or a file that ends in ``suffix``.

    ``function`` is the ``module:attribute`` of what writes it: ``(Segmenter, Path, ExportOptions)`` in, what was
    written out, as an object that has a text for people.
    """

    function: str
    options: tuple[str, ...]
    is_folder: bool = False
    suffix: str = ".onnx"

    def named(self, stem: str, form: str) -> str:
        """Return the name of a file or directory of the ``form`` of this exporter."""
        if self.is_folder:
            return form
        return f"{stem}{'' if form == self.suffix[1:] else f'_{form}'}{self.suffix}"


EXPORTERS: dict[str, Exporter] = {
    "onnx": Exporter(
        "geodistill.exports.onnx:export_onnx", ("size", "batch", "opset", "calibration", "int8_drop", "split")
    ),
    "qgis": Exporter("geodistill.exports.qgis:export_qgis", ("resolution", "overlap")),
    "pt2": Exporter("geodistill.exports.pt2:export_pt2", ("size", "check"), suffix=".pt2"),
    "openvino": Exporter("geodistill.exports.openvino_model:export_openvino", ("size", "check"), is_folder=True),
    "tflite": Exporter("geodistill.exports.tflite:export_tflite", ("size", "check"), suffix=".tflite"),
    "stac": Exporter("geodistill.exports.model_item:export_stac", ("scores",), is_folder=True),
    "hub": Exporter("geodistill.exports.hub:export_hub", ("licence", "scores"), is_folder=True),
}
"""Forms by name. A new one is a module with such a function, and a line here."""


def find_exporter(name: str) -> Exporter:
    """Return the form of a name.

    Raises:
        UnknownNameError: There is none.
    """
    check_name("export", name, EXPORTERS)
    return EXPORTERS[name]


def export(model: Segmenter | Path | str, to: str, out: Path | str, options: ExportOptions | None = None) -> object:
    """Write a Segmenter, or that of a directory or hub id, as the file or directory ``out``.

    ``str`` of what is returned is a text for people.

    Raises:
        UnknownNameError: There is no such form.
        ArtifactError: There is no such model, or it cannot be exported so.
        OutputError: The place cannot be written, or holds something else.
        RecipeError: An option cannot be used, or a package is missing.
    """
    from geodistill.segmenter import Segmenter

    exporter, options = find_exporter(to), options or ExportOptions()
    default = ExportOptions()
    chosen = {each.name for each in fields(options) if getattr(options, each.name) != getattr(default, each.name)}
    if idle := sorted(chosen.difference(exporter.options)):
        raise RecipeError(f"{', '.join(idle)} with {to}", f"some of {', '.join(exporter.options)}", "leave it out")
    segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
    written: object = load(exporter.function)(segmenter, Path(out), options)
    return written


def model_folder(path: Path, kind: str) -> Path:
    """Return the whole path of a directory to make, of a ``kind`` as `atomic_path` marks it; its name is the model's.

    Raises:
        OutputError: Something else lies there: only an earlier export of the kind is replaced.
    """
    whole = named_path(path).resolve()
    if whole.exists() and not whole.is_dir():
        raise OutputError(f"{path} is no place for a model", "a new directory, or an earlier export", "choose another")
    if whole.is_dir():
        refuse_foreign(whole, kind)
    return whole
