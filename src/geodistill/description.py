"""What a Segmenter's directory says of itself: ``segmenter.json``, read and written with a digest of all it holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodistill.errors import ArtifactError, DataError
from geodistill.reading import read_object
from geodistill.spec import Spec, check_scales, lies_in

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 2
"""Of `DESCRIPTION`. Version 1, which holds no digest of itself, is read too."""

DESCRIPTION, WEIGHTS = "segmenter.json", "model.safetensors"
"""Files of a Segmenter's directory."""

TILES = (8, 8192)
"""Least and largest side of a model's windows in pixels."""

TEMPERATURES = (0.1, 20.0)
"""Least and largest number that a model's logits are divided by."""

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Shares of the pixels whose class set is to hold the true class, that a model may state."""

UNFIT = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError),
    *(ArithmeticError, RuntimeError, MemoryError),
)
"""How a class or a library below it refuses values that it cannot be made of."""

_DIGEST = "description_sha256"

_KINDS: dict[str, type] = {
    "format_version": int,
    "network": dict,
    "spec": dict,
    "tile": int,
    "weights_sha256": str,
    "provenance": dict,
}


@dataclass(frozen=True)
class ModelSettings:
    """What a model's answers follow from besides its network and weights.

    Attributes:
        scales: Factors of the image's sides that its answers are averaged over.
        temperature: What its logits are divided by, so that its confidence is how often it is right.
        class_sets: Least probability of a class in a pixel's set, by the coverage that it gives; see `fit_class_sets`.
    """

    scales: tuple[float, ...] = (1.0,)
    temperature: float = 1.0
    class_sets: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], holder: str) -> ModelSettings:
        """Take them out of a description, which leaves out those that are as by default.

        Raises:
            ArtifactError: One is of another kind or out of bounds; ``holder`` says whose.
        """
        scales = data.get("scales", [1.0])
        if not isinstance(scales, list):
            raise ArtifactError(f"{holder} with scales {scales!r}", "a JSON list")
        return cls(
            check_scales(scales, holder),
            check_temperature(data.get("temperature", 1.0), holder),
            check_class_sets(data.get("class_sets", {}), holder),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return those that are not as by default, JSON-able."""
        scales = {} if self.scales == (1.0,) else {"scales": list(self.scales)}
        sets = {"class_sets": dict(self.class_sets)} if self.class_sets else {}
        return scales | ({} if self.temperature == 1 else {"temperature": self.temperature}) | sets

    def calibrated(self, logits: Tensor) -> Tensor:
        """Return logits divided by the temperature."""
        return logits if self.temperature == 1 else logits / self.temperature


def network_words(name: str, arguments: Mapping[str, Any], keys: Iterable[str]) -> str:
    """Return a network in words, such as ``ktda mobilenetv2_050``: its name and those of its ``keys`` that it has."""
    return " ".join(str(part) for part in (name, *map(arguments.get, keys)) if part)


def sealed(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description with the digest of all its other keys and what they hold.

    It is the SHA-256 of their JSON with keys in order, no spaces and all but ASCII escaped.
    """
    kept = {key: value for key, value in description.items() if key != _DIGEST}
    plain = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return {**kept, _DIGEST: hashlib.sha256(plain.encode()).hexdigest()}


def write_description(folder: Path, about: Mapping[str, Any]) -> None:
    """Write a Segmenter's description: version and digest beside what it is ``about``."""
    text = json.dumps(sealed({"format_version": FORMAT_VERSION, **about}), indent=2)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def load_description(folder: Path) -> dict[str, Any]:
    """Return a Segmenter's description, its values of the right kind and within bounds.

    Raises:
        ArtifactError: It is missing, altered, or of another format version.
    """
    file = folder / DESCRIPTION
    data = read_object(file, error=ArtifactError)
    version = data.get("format_version")
    if isinstance(version, bool) or version not in (1, FORMAT_VERSION):
        raise ArtifactError(f"{file} of format {version}", f"format 1 or {FORMAT_VERSION}", "use a fitting geodistill")
    if version > 1 and data.pop(_DIGEST, None) != sealed(data)[_DIGEST]:
        raise ArtifactError(
            f"{file} was altered (its digest differs)", "the file as it was saved", "copy or train it again"
        )
    if odd := sorted((set(data) - {setting.name for setting in fields(ModelSettings)}) ^ set(_KINDS)):
        raise ArtifactError(f"{file} with missing or unknown keys {', '.join(odd)}", f"exactly {', '.join(_KINDS)}")
    for key, kind in _KINDS.items():
        if not isinstance(data[key], kind) or isinstance(data[key], bool):
            raise ArtifactError(f"{file} with {key} {data[key]!r}", f"a JSON {kind.__name__}")
    network = data["network"]
    if set(network) != {"name", "arguments"} or not isinstance(network["arguments"], dict):
        raise ArtifactError(f"{file} with network {network}", "a name and arguments")
    check_tile(data["tile"], str(file))
    ModelSettings.from_dict(data, str(file))
    try:
        Spec.from_dict(data["spec"])
    except (DataError, *UNFIT) as error:
        raise ArtifactError(
            f"{file} with a spec that cannot be read ({error!r})", "the file as it was saved"
        ) from error
    return data


def check_tile(tile: int, holder: str) -> None:
    """Make sure that windows are of a side that a scene can be cut into.

    Raises:
        ArtifactError: They are not.
    """
    if isinstance(tile, bool) or not TILES[0] <= tile <= TILES[1]:
        raise ArtifactError(f"{holder} with tile {tile}", f"a side of {TILES[0]} to {TILES[1]} pixels")


def is_graph(model: object) -> bool:
    """Whether a model is named by an ONNX file, and not by a Segmenter's directory or hub id."""
    if not isinstance(model, Path | str) or Path(model).suffix.lower() != ".onnx":
        return False
    return not os.path.isdir(model)  # noqa: PTH112 - a name too long is no folder


def find_segmenter(path: Path | str) -> Path:
    """Return the directory of a Segmenter: as named, inside a run, or fetched from the hub.

    Raises:
        ArtifactError: There is none.
    """
    folder = Path(path)
    for candidate in (folder, folder / "segmenter"):
        if (candidate / DESCRIPTION).is_file():
            return candidate
    if not folder.exists() and str(path).count("/") == 1 and not str(path).startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        from geodistill.offline import local_where_unreachable

        try:
            with local_where_unreachable():
                # Nothing but the two files, and one that is not read and by which the Hub counts.
                return Path(snapshot_download(str(path), allow_patterns=[DESCRIPTION, WEIGHTS, "config.json"]))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise ArtifactError(
                f"no directory {path}, and the hub does not give it ({type(error).__name__})",
                f"a directory with {DESCRIPTION}, or a hub id",
            ) from error
    if folder.is_file():
        mend = "name the run or Segmenter as the model, and scenes and manifests beside it"
        raise ArtifactError(f"the file {path} as a model", f"a directory with {DESCRIPTION}", mend)
    raise ArtifactError(f"no Segmenter in {path}", f"a directory with {DESCRIPTION}", "make one with 'geodistill fit'")


def check_temperature(temperature: float, holder: str) -> float:
    """Return a temperature as it is used.

    Raises:
        ArtifactError: It is no number, or out of `TEMPERATURES`.
    """
    least, most = TEMPERATURES
    if not lies_in(temperature, least, most):
        raise ArtifactError(f"{holder} with temperature {temperature!r}", f"a number from {least:g} to {most:g}")
    return float(temperature)


def check_class_sets(stated: Mapping[str, float], holder: str) -> dict[str, float]:
    """Return the least probability of a class in the set by coverage, as it is used.

    Raises:
        ArtifactError: A coverage is not one of `COVERAGES`, or a probability none.
    """
    known = {f"{coverage:g}" for coverage in COVERAGES}
    good = isinstance(stated, Mapping) and set(stated) <= known
    if not good or not all(lies_in(value, 0, 1) for value in stated.values()):
        expected = f"numbers from 0 to 1 by {', '.join(sorted(known))}"
        raise ArtifactError(f"{holder} with class sets {stated!r}", expected)
    return {coverage: float(value) for coverage, value in stated.items()}
