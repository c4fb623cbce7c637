"""The keys that each kind of stage takes in the project file, beside what its verb's own options say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from geodistill.data.splits import SplitPlan
from geodistill.engine import Machines

Places = str | tuple[str, ...]
"""A file, folder or address, or several."""


@dataclass(frozen=True, kw_only=True)
class MachineKeys(Machines):
    """Where work is done; nothing of it changes a result, so nothing of it makes a stage run again.

    Attributes:
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` ...
    """

    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class LabelKeys:
    """Beside `LabelSettings`.

    Attributes:
        preset: The settings of one of the SAMRS paper's sets; other keys override it.
        legend: YAML or JSON file of classes and colours, instead of ``classes``.
        batch_size: Tiles that go through the segmenter's encoder at once.
        keep_going: Go on although some images do not decode.
    """

    preset: str | None = None
    legend: str | None = None
    batch_size: int | None = None
    keep_going: bool = False


@dataclass(frozen=True, kw_only=True)
class ScanKeys:
    """What `data scan` takes.

    Attributes:
        images: Folders or files of images; ``masks/`` beside ``images/`` is found at any depth.
        masks: Folders or files of masks, where they are elsewhere.
        legend: YAML or JSON file of classes, with colours or mask values, and what to ignore.
        include: Pattern of image file names.
        unlabelled: Take images without mask too, for feature transfer.
        ignore_unknown: Take labels that are in no legend entry as ignored.
        split: How images are divided.
    """

    images: Places = ()
    masks: Places | None = None
    legend: str | None = None
    include: str = "*"
    unlabelled: bool = False
    ignore_unknown: bool = False
    split: SplitPlan = field(default_factory=SplitPlan)


@dataclass(frozen=True, kw_only=True)
class CheckKeys:
    """What `data check` takes.

    Attributes:
        data: The manifest; the project's own by default.
        expect_crs: Name images without a CRS even if all lack one.
    """

    data: str = ""
    expect_crs: bool = False


@dataclass(frozen=True, kw_only=True)
class FitKeys:
    """What a stage of training takes, beside every key of its recipe, such as ``trainer.max_steps``.

    Attributes:
        recipe: A YAML recipe, or the name of a shipped one (``geodistill recipes``).
        device: ``auto``, ``cpu``, ``cuda`` ...; a recipe's ``trainer.accelerator`` in the project file goes before it.
    """

    recipe: str = ""
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class EvaluateKeys:
    """Beside `EvaluateOptions`.

    Attributes:
        model: The model; the project's student by default, else its teacher.
        data: The manifest; the project's own by default.
        split: Split to score on.
        classes: Classes that the means are taken over, by default all.
    """

    model: str = ""
    data: str = ""
    split: Literal["train", "val", "test"] = "test"
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PredictKeys:
    """Beside `PredictOptions`.

    Attributes:
        scenes: Rasters, folders of band files, STAC items, tile indexes, addresses.
        model: The model; the project's student by default, else its teacher.
        stack: The scenes are band files of one.
        mosaic: The scenes are neighbouring parts of one.
    """

    scenes: Places = ()
    model: str = ""
    stack: bool = False
    mosaic: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportKeys:
    """Beside `ExportOptions`.

    Attributes:
        to: Form or forms: ``onnx``, ``qgis``, ``pt2``, ``openvino``, ``tflite``, ``stac``, ``hub``.
        model: The model; the project's student by default, else its teacher.
        zone: Climate zone that a model which reads it is exported for; its file takes zones otherwise.
        int8: onnx: manifest that an int8 file is calibrated on, such as ``$scan``; none is written without.
        check: Rasters and manifests on whose tiles a form is compared with torch; noise where there are none.
        scores: stac, hub: ``metrics.json`` of an evaluation, such as ``$evaluate``.
    """

    to: Places = ()
    model: str = ""
    zone: str | None = None
    int8: str | None = None
    check: Places = ()
    scores: str | None = None
