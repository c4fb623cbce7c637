"""What a stage's result depends on, and the key that says so in 64 characters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import DataError, shown
from geodistill.lazy import load
from geodistill.project.fingerprints import Fingerprints
from geodistill.project.project_file import ProjectFile, StageEntry, dotted, typed_values
from geodistill.project.stage_recipe import names_file, resolved_recipe
from geodistill.project.stage_table import KINDS, key_types
from geodistill.project.wiring import SIGN, WiredStage


@dataclass(frozen=True)
class KeyParts:
    """Everything that a stage's result depends on.

    Attributes:
        stage: Its name.
        version: That of its kind.
        settings: Its keys, dotted, with all defaults.
        needs: Keys of the stages that it takes results from, by their names.
        files: Fingerprints of the files and folders from outside, by their names in the project file.
    """

    stage: str
    version: int
    settings: Mapping[str, Any]
    needs: Mapping[str, str]
    files: Mapping[str, str]

    @property
    def key(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def difference(self, before: Mapping[str, Any]) -> str:
        """Say in a few words what is another than in the parts of an earlier key, as `asdict` wrote them."""
        if self.version != before.get("version"):
            return "this version of geodistill makes it otherwise"
        then = before.get("settings", {})
        for key in {**self.settings, **then}:
            if self.settings.get(key) != then.get(key):
                return f"{key} was {shown(then.get(key))}, is {shown(self.settings.get(key))}"
        then = before.get("files", {})
        for name in {**self.files, **then}:
            if self.files.get(name) != then.get(name):
                return f"{name} has changed" if name in then and name in self.files else f"{name} is another input"
        then = before.get("needs", {})
        changed = [name for name in {**self.needs, **then} if self.needs.get(name) != then.get(name)]
        return f"{', '.join(changed)} has changed" if changed else "its record is not as it was written"


def key_parts(project: ProjectFile, stage: WiredStage, keys: Mapping[str, str], fingerprints: Fingerprints) -> KeyParts:
    """Return what a stage depends on.

    Args:
        project: The project.
        stage: The stage.
        keys: Keys of the stages before it, by name.
        fingerprints: Of the files from outside.

    Raises:
        DataError: A file or folder is not there.
        GeodistillError: Its settings cannot be used.
    """
    entry, kind = stage.entry, KINDS[stage.entry.kind]
    if entry.given:
        files = {entry.given: _given(Path(project.resolve(entry.given)), entry, fingerprints)}
        return KeyParts(entry.name, kind.version, {"given": entry.given}, {}, files)
    if kind.is_fit:
        settings = resolved_recipe(project, stage, fingerprints)
        named = _values(value for key, value in settings.items() if names_file(key))
    else:
        settings = _resolved(entry.kind, stage.settings)
        if kind.check:
            load(kind.check)(project, stage.settings)
        places = dotted({key: stage.settings[key] for key in (*kind.files, "split") if key in stage.settings})
        named = _values(value for key, value in places.items() if key.rpartition(".")[2] in kind.files)
    files = {name: _fingerprint(project, name, fingerprints, kind.is_fit) for name in named}
    needs = {name: keys[name] for name in stage.needs}
    return KeyParts(entry.name, kind.version, settings, needs, {name: f for name, f in files.items() if f})


def _values(values: Iterable[Any]) -> list[str]:
    """Return the texts among values and lists of them that are no results of other stages."""
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [item for item in flat if isinstance(item, str) and item and not item.startswith(SIGN)]


def _resolved(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage's settings with the defaults of its verb, but for those that change no result."""
    options = [each for target in KINDS[kind].options for each in fields(load(target))]
    values = {each.name: _default(each) for each in options if each.name in key_types(kind)}
    values |= typed_values(settings, key_types(kind), kind)
    plain: dict[str, Any] = to_jsonable_python(values)
    return {key: value for key, value in dotted(plain).items() if key not in KINDS[kind].placing}


def _default(option: Field[Any]) -> Any:
    if option.default is not MISSING:
        return option.default
    return None if option.default_factory is MISSING else option.default_factory()


def _fingerprint(project: ProjectFile, name: str, fingerprints: Fingerprints, may_be_name: bool) -> str:
    """Return a fingerprint; empty for an address, and for a name where it ``may_be`` one of a model or encoder."""
    path = Path(project.resolve(name))
    if not path.exists():
        if may_be_name or "://" in name or name.startswith("/vsi"):
            return ""
        raise DataError(f"{project.path}: {path} is not there", "a file or folder", "name one that is there")
    if path.suffix == ".parquet" and may_be_name:
        return _manifest(path, fingerprints)
    return fingerprints.of_path(path)


def _given(path: Path, entry: StageEntry, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of what stands in a stage's place: a data set with its images, or a model's two files.

    Raises:
        DataError: It is not there.
    """
    if not path.exists():
        if KINDS[entry.kind].is_fit and entry.given.count("/") == 1 and not entry.given.startswith((".", "/", "~")):
            return ""  # a hub id
        raise DataError(f"{path}, given as {entry.name}, is not there", "a file or folder", "name one that is there")
    if KINDS[entry.kind].is_fit:
        folder = next((place for place in (path, path / "segmenter") if (place / DESCRIPTION).is_file()), None)
        if folder is not None:
            return "-".join(fingerprints.of_path(folder / name) for name in (DESCRIPTION, WEIGHTS))
    if KINDS[entry.kind].result == "manifest.parquet":
        return _manifest(path / "manifest.parquet" if path.is_dir() else path, fingerprints)
    return fingerprints.of_path(path)


def _manifest(path: Path, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of a manifest with the images and masks that it names."""
    rows = load("geodistill.data.manifest:Manifest").load(path).entries
    digest = hashlib.sha256(fingerprints.of_path(path).encode())
    for file in dict.fromkeys(file for row in rows for file in (row.image, row.mask) if file is not None):
        digest.update(fingerprints.of_path(Path(file)).encode())
    return digest.hexdigest()
