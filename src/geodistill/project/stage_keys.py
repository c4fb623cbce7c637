"""What a stage's result depends on, and the key that says so in 64 characters."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from geodistill.description import DESCRIPTION, WEIGHTS
from geodistill.errors import DataError, shown
from geodistill.files import stored_in
from geodistill.lazy import load
from geodistill.project.fingerprints import Fingerprints, visible_files
from geodistill.project.project_file import ProjectFile, StageEntry, dotted, is_address, is_hub_id, typed_values
from geodistill.project.stage_recipe import resolved_recipe
from geodistill.project.stage_table import KINDS, key_types, kind_of
from geodistill.project.wiring import SIGN, WiredStage
from geodistill.reading import ANNOTATION_BYTES, read_bytes
from geodistill.training.recipe import recipe_files, texts_of

_BESIDES = re.compile(r"\+[0-9a-f]+")
"""What a fingerprint has behind that of a file, where the file rests on others: a + and their digest."""

_VECTOR_PARTS = (".shx", ".dbf", ".prj", ".cpg", ".dat", ".map", ".id", ".ind", ".mid")
"""Files beside a shapefile or one of MapInfo's that its content is in too; an index or a style alters nothing."""

_STATISTICS = re.compile(
    rb'<MDI key="STATISTICS_\w+">[^<]*</MDI>|<Histograms>(?:[^<]|<(?!/?Histograms>))*+</Histograms>'
)
"""What viewers write into the ``.aux.xml`` beside an image that they show; it alters no pixel."""

_ROLES = {"data": "manifest", "int8": "manifest", "segmenter": "model", "model": "model", "scenes": "scenes"}
"""What keys of stages that train nothing name; all others any file or folder."""

_TOGETHER = 5000
"""Files whose sources are looked up in one go."""


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

    @property
    def written(self) -> dict[str, Any]:
        """All of it as a record has it."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @property
    def former(self) -> tuple[KeyParts, ...]:
        """The parts as geodistill wrote them before, in the forms that it had.

        It did not watch what files rest on besides themselves; before that, not what stages find without being told,
        and a project's ``device: cpu`` was one of the settings.
        """
        settings, key = self.settings, "trainer.accelerator"
        if KINDS[kind_of(self.stage)].is_fit and settings.get(key) == "auto":
            settings = {**settings, key: "cpu"}
        alone = {name: _BESIDES.sub("", digest) for name, digest in self.files.items()}
        beside = KINDS[kind_of(self.stage)].beside
        kept = {name: digest for name, digest in alone.items() if beside is None or name != beside[0]}
        return replace(self, files=alone), replace(self, settings=settings, files=kept)

    def difference(self, before: Mapping[str, Any]) -> str:
        """Say in a few words what is another than in the parts of an earlier key, as `asdict` wrote them."""
        if self.version != before.get("version"):
            return "this version of geodistill makes it otherwise"
        then = before.get("settings", {})
        for key, value in self.settings.items():
            if key in then and then[key] != value:
                return f"{key} was {shown(then[key])}, is {shown(value)}"
        if unlike := self.settings.keys() ^ then.keys():
            return f"{min(unlike)} is {'new' if min(unlike) in self.settings else 'gone'}"
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
        files = {entry.given: _of_given(Path(project.resolve(entry.given)), entry, fingerprints)}
        return KeyParts(entry.name, kind.version, {"given": entry.given}, {}, files)
    if kind.is_fit:
        settings = resolved_recipe(project, stage, fingerprints)
        named = recipe_files(settings)
    else:
        settings = _resolved(entry.kind, stage.settings)
        if kind.check:
            load(kind.check)(project, stage.settings)
        named = _named(stage.settings, kind.files)
    files = {}
    for _, name, role in named:
        # Other stages' results are no files from outside.
        if not name.startswith(SIGN) and (digest := _fingerprint(project, entry, role, name, fingerprints)):
            files[name] = digest
    if kind.beside and (places_beside := load(kind.beside[1])(project, stage.settings)) is not None:
        files[kind.beside[0]] = "-".join(_of_files(place, fingerprints) for place in places_beside) or "none"
    needs = {name: keys[name] for name in stage.needs}
    return KeyParts(entry.name, kind.version, settings, needs, files)


def _named(settings: Mapping[str, Any], files: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield what a stage that trains nothing names as `recipe_files` does, by the last parts of its ``files`` keys."""
    for key, value in dotted(settings).items():
        name = key.rpartition(".")[2]
        for text in texts_of(value) if name in files else ():
            if place := text.partition(":")[2] if key == "segmenter" else text:  # of labels: sam2:DIR
                yield key, place, _ROLES.get(name, "file")


def _resolved(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stage's settings with the defaults of its verb, but for those that change no result."""
    options = [each for target in reversed(KINDS[kind].options) for each in fields(load(target))]
    values = {each.name: _default(each) for each in options if each.name in key_types(kind)}
    values |= typed_values(settings, key_types(kind), kind)
    plain: dict[str, Any] = to_jsonable_python(values)
    return {key: value for key, value in dotted(plain).items() if key not in KINDS[kind].placing}


def _default(option: Field[Any]) -> Any:
    if option.default is not MISSING:
        return option.default
    return None if option.default_factory is MISSING else option.default_factory()


def _fingerprint(project: ProjectFile, entry: StageEntry, role: str, name: str, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of what a key names; empty for an address, and where it may be the name of a model.

    Raises:
        DataError: It is not there.
    """
    path = Path(project.resolve(name))
    if not path.exists():
        if role == "model" or is_address(name):
            return ""
        raise DataError(f"{project.path}, {entry.name}: {path} is not there", "a file or folder", "name one that is")
    if role == "manifest":
        return _of_manifest(path, fingerprints)
    if role == "model":
        return _of_model(path, fingerprints)
    return _of_scenes(path, fingerprints) if role == "scenes" else _of_files(path, fingerprints)


def _of_files(path: Path, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of a file or folder, with what its files rest on besides."""
    files = [path / name for name in visible_files(path)] if path.is_dir() else [path]
    return fingerprints.of_path(path) + _of_besides(files, fingerprints)


def _of_besides(files: Iterable[Path], fingerprints: Fingerprints) -> str:
    """Return a ``+`` and the digest of what files rest on besides themselves; nothing where that is nothing.

    That is what virtual rasters are made of, what GDAL reads beside a raster, and the other files of a vector file;
    overviews too, since an evaluation at another ground sampling distance reads them.

    Raises:
        DataError: A file cannot be read, or is made of too many.
    """
    named = [os.path.abspath(file) for file in files]  # noqa: PTH100 - a link counts under its own name
    behind = {str(part) for file in named for part in _vector_parts(Path(file))}
    for first in range(0, len(named), _TOGETHER):
        behind.update(load("geodistill.raster.source:every_file")(named[first : first + _TOGETHER]))
    besides = [Path(file) for file in sorted(behind.difference(named)) if Path(file).is_file()]
    digests = ((file.name, _of_beside(file, fingerprints)) for file in besides)
    lines = [f"{name}\0{digest}\n" for name, digest in digests if digest]
    return f"+{hashlib.sha256(''.join(lines).encode('utf-8', 'surrogatepass')).hexdigest()}" if lines else ""


def _of_beside(file: Path, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of a file beside another, of an ``.aux.xml`` without statistics; empty for these alone."""
    if not file.name.lower().endswith(".aux.xml"):
        return fingerprints.of_path(file)
    text = _STATISTICS.sub(b"", re.sub(rb">\s+<", b"><", read_bytes(file, ANNOTATION_BYTES).strip()))
    for element in (b"Metadata", b"PAMRasterBand", b"PAMDataset"):
        text = re.sub(rb"<%b\b[^<>]*(?:/>|></%b>)" % (element, element), b"", text)
    return hashlib.sha256(text).hexdigest() if text else ""


def _vector_parts(file: Path) -> list[Path]:
    """Return the other files of a vector file: a shapefile's classes and CRS, or the changes beside a GeoPackage."""
    if file.suffix.lower() == ".gpkg":
        log = file.with_name(f"{file.name}-wal")
        return [log] if log.is_file() and log.stat().st_size else []
    return [part for part in stored_in(file) if part.suffix.lower() in _VECTOR_PARTS]


def _of_scenes(path: Path, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of scenes, with what virtual rasters, STAC items and tile indexes are made of.

    Raises:
        DataError: A file cannot be read.
    """
    inside = [path / name for name in visible_files(path)] if path.is_dir() else [path]
    names = [str(file) for file in inside]
    if path.is_file():
        listed = load("geodistill.inference.listed:listed_rasters")(str(path))
        names += [place for place in listed if Path(place).is_file()]
    files = {Path(file) for file in load("geodistill.raster.source:every_file")(names)}
    outside = sorted(file for file in files.difference(inside) if file.is_file())
    return "-".join(fingerprints.of_path(each) for each in (path, *outside))


def _of_given(path: Path, entry: StageEntry, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of what stands in a stage's place.

    Raises:
        DataError: It is not there.
    """
    if not path.exists():
        if KINDS[entry.kind].is_fit and is_hub_id(entry.given):
            return ""
        raise DataError(f"{path}, given as {entry.name}, is not there", "a file or folder", "name one that is there")
    if KINDS[entry.kind].is_fit:
        return _of_model(path, fingerprints)
    if KINDS[entry.kind].result == "manifest.parquet":
        return _of_manifest(path, fingerprints)
    return fingerprints.of_path(path)


def _of_model(path: Path, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of a model: the two files of a Segmenter, alone or in its run, or all of anything else."""
    folder = next((place for place in (path, path / "segmenter") if (place / DESCRIPTION).is_file()), None)
    if folder is None:
        return fingerprints.of_path(path)
    return "-".join(fingerprints.of_path(folder / name) for name in (DESCRIPTION, WEIGHTS))


def _of_manifest(path: Path, fingerprints: Fingerprints) -> str:
    """Return the fingerprint of a manifest with the images and masks that it names, and what these rest on."""
    manifest = load("geodistill.data.manifest:Manifest").load(path)
    digest = hashlib.sha256(fingerprints.of_path(manifest.path).encode())
    named = (file for row in manifest.entries for file in (row.image, row.mask) if file is not None)
    files = dict.fromkeys(map(str, named))
    for file in files:
        digest.update(fingerprints.of_path(Path(file)).encode() if Path(file).is_file() else file.encode())
    return digest.hexdigest() + _of_besides(map(Path, files), fingerprints)
