"""The project file: strict YAML that says what goes in and which stages there are."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from geodistill.errors import RecipeError, UnknownNameError, check_name, shown
from geodistill.lazy import load
from geodistill.project.stage_settings import MachineKeys
from geodistill.project.stage_table import KINDS, key_types, kind_of
from geodistill.reading import read_yaml

_NAME = re.compile(r"[a-z]+(-[A-Za-z0-9_]+)*")


@dataclass(frozen=True)
class StageEntry:
    """A stage as the file has it.

    Attributes:
        name: Its name: its kind, or ``KIND-NAME`` where there are several.
        given: What stands in its place: a file or folder that was made elsewhere; empty where it is to be run.
        settings: Its keys as written; those of recipes dotted.
    """

    name: str
    given: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Its kind, a key of `KINDS`."""
        return kind_of(self.name)


@dataclass(frozen=True)
class ProjectFile:
    """A project.

    Attributes:
        path: The file.
        out: Folder of all results.
        stages: The stages by name, in the file's order.
    """

    path: Path
    out: Path
    stages: Mapping[str, StageEntry]

    @property
    def where(self) -> str:
        """The folders of the file and of its results."""
        return f"{self.path.absolute().parent}{os.pathsep}{self.out}"

    def resolve(self, name: str) -> str:
        """Return a path of the file in full: it is meant from the file's folder; addresses stay."""
        return name if is_address(name) else str(_in_full(self.path, name))


def _in_full(project: Path, name: str) -> Path:
    # Of texts, since Path drops the ./ of a folder ./~name, and raises where there is no such user.
    return project.absolute().parent / os.path.expanduser(name)  # noqa: PTH111


def is_address(name: str) -> bool:
    """Whether a name is no file of this machine: an address, or a name of GDAL's own."""
    return "://" in name or name.startswith(("/vsi", "<"))


def is_hub_id(name: str) -> bool:
    """Whether a name may be that of a model on the Hugging Face hub: ``owner/name``."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


@dataclass(frozen=True, kw_only=True)
class ProjectKeys(MachineKeys):
    """What a project file can say beside its stages; the machines' keys hold for every stage that takes them.

    Attributes:
        out: Folder of all results, by default called as the file.
        seed: Random seed of every stage that has one.
    """

    out: str = ""
    seed: int | None = None


def read_project(path: Path | str) -> ProjectFile:
    """Read a project file.

    Raises:
        RecipeError: It cannot be read, is no mapping, has no stage, or a value is not of its key's type.
        UnknownNameError: A key or stage is unknown; the message lists near names.
    """
    path = Path(path)
    data = read_yaml(path, RecipeError)
    if not isinstance(data, dict):
        raise RecipeError(f"project {path} is a {type(data).__name__}", "a mapping of stages")
    types = {each.name: each.type for each in fields(ProjectKeys)}
    project_keys = {key: value for key, value in data.items() if key in types}
    written = {str(key): value for key, value in data.items() if key not in types}
    for name in written:
        if kind_of(name) not in KINDS or not _NAME.fullmatch(name):
            raise UnknownNameError(f"key of {path}", name, [*types, *KINDS], "stages of one kind are KIND-NAME")
    if not written:
        raise RecipeError(f"project {path} without a stage", f"one or more of {', '.join(KINDS)}")
    common = typed_values(project_keys, get_type_hints(ProjectKeys), str(path))
    stages = {name: _stage(name, value, common, path) for name, value in written.items()}
    out = _in_full(path, common.get("out") or path.stem)
    return ProjectFile(path, out, stages)


def _stage(name: str, value: Any, common: Mapping[str, Any], path: Path) -> StageEntry:
    if isinstance(value, str):
        return StageEntry(name, given=value)
    if value is not None and not isinstance(value, dict):
        raise RecipeError(f"{path}, {name}: {shown(value)}", "its keys, or the path of what was made elsewhere")
    kind, where = kind_of(name), f"{path}, {name}"
    settings = {str(key): item for key, item in (value or {}).items()}
    types = key_types(kind)
    if KINDS[kind].is_fit:
        settings = dotted(settings)
        typed_values({key: item for key, item in settings.items() if key in types}, types, where)
    else:
        settings = _in_verbs_form(settings)
        typed_values(settings, types, where)
    for key in KINDS[kind].required:
        if settings.get(key) in (None, "", []):
            raise RecipeError(f"{where} without {key}", f"a line '{key}: ...'")
    settings = _common(kind, common, types) | plain(settings)
    if kind == "scan" and common.get("seed") is not None:
        settings["split"] = {"seed": common["seed"]} | settings.get("split", {})
    return StageEntry(name, settings=settings)


def _in_verbs_form(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what the command line writes otherwise: bands by number, sizes such as 2GB."""
    changed: dict[str, Any] = dict(settings)
    if isinstance(bands := settings.get("bands"), list) and "scenes" in settings:
        changed["bands"] = [str(band) for band in bands]
    if isinstance(size := settings.get("max_memory"), str):
        changed["max_memory"] = load("geodistill.inference.options:parse_bytes")(size)
    return changed


def _common(kind: str, common: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file says for all stages, by the keys of one."""
    settings = {key: item for key, item in common.items() if key in types}
    if KINDS[kind].is_fit and common.get("seed") is not None:
        settings["trainer.seed"] = common["seed"]
    return settings


def typed_values(data: Mapping[str, Any], types: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return values of the types of their keys: lists become tuples, texts paths, mappings dataclasses.

    Raises:
        UnknownNameError: There is no such key.
        RecipeError: A value is of another type.
    """
    values: dict[str, Any] = {}
    for key, value in data.items():
        check_name(f"key of {where}", str(key), types)
        kind = types[key]
        if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
            typed_values(value, get_type_hints(kind), f"{where}.{key}")
        try:
            text = json.dumps(plain(value))
            values[key] = TypeAdapter(kind).validate_json(text, strict=True)
        except ValidationError as error:
            reason = error.errors(include_url=False)[0]["msg"]
            raise RecipeError(f"{where}, {key}: {shown(value)}", reason[:1].lower() + reason[1:]) from error
    return values


def plain(value: Any) -> Any:
    """Return a value of YAML as JSON has it: days as text."""
    return json.loads(json.dumps(value, default=str))


def dotted(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys as dotted ones, as flags of `fit` have them."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        nested = dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
        flat |= nested
    return flat
