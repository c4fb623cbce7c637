"""JSON Schemas of project files and recipes, by which editors complete keys and mark mistakes while one types."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter

from geodistill.lazy import load
from geodistill.project.project_file import ProjectKeys
from geodistill.project.stage_table import KINDS, key_types
from geodistill.training.recipe import list_recipes

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_LOOSER: dict[tuple[str, str], dict[str, Any]] = {
    ("predict", "bands"): {"type": "array", "items": {"type": ["string", "integer"]}},
    ("predict", "max_memory"): {"type": ["integer", "string", "null"]},
}
"""Values that the reader of project files brings into the verb's form."""


def project_schema() -> dict[str, Any]:
    """Return the JSON Schema of project files, with every key of every method's recipe."""
    schemas = _Schemas()
    properties = {name: schemas.of_key(ProjectKeys, name, hint) for name, hint in get_type_hints(ProjectKeys).items()}
    stages = {name: _stage(name, schemas) for name in KINDS}
    return {
        "$schema": DRAFT,
        "title": "geodistill project",
        "type": "object",
        "properties": properties | {name: {"$ref": f"#/$defs/stage-{name}"} for name in KINDS},
        "patternProperties": {f"^{name}-": {"$ref": f"#/$defs/stage-{name}"} for name in KINDS},
        "additionalProperties": False,
        "$defs": {f"stage-{name}": stage for name, stage in stages.items()} | schemas.shared,
    }


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes: which keys there are depends on ``method``."""
    schemas, methods = _Schemas(), load("geodistill.methods.method:METHODS")
    branches = []
    for name, plug in _methods():
        keys = {key: schemas.of_key(plug, key, hint) for key, hint in get_type_hints(plug).items()}
        keys |= {"method": {"const": name}, "presets": {"type": "object"}}
        condition = {"properties": {"method": {"const": name}}, "required": ["method"]}
        branches.append({"if": condition, "then": {"properties": keys, "additionalProperties": False}})
    return {
        "$schema": DRAFT,
        "title": "geodistill recipe",
        "type": "object",
        "required": ["method"],
        "properties": {"method": {"enum": list(methods)}},
        "allOf": branches,
        "$defs": schemas.shared,
    }


def _methods() -> Iterator[tuple[str, type[Any]]]:
    for name in load("geodistill.methods.method:METHODS"):
        yield name, load("geodistill.methods.method:find_method")(name).recipe


def _stage(name: str, schemas: _Schemas) -> dict[str, Any]:
    """Return the schema of a kind of stage: its keys, the path of what stands in its place, or nothing."""
    kind, properties = KINDS[name], dict[str, Any]()
    owners = [load(target) for target in kind.options]
    for key, hint in key_types(name).items():
        owner = next(owner for owner in owners if key in owner.__dataclass_fields__)
        properties[key] = schemas.of_key(owner, key, hint)
        if (name, key) in _LOOSER:
            properties[key] = {"description": properties[key]["description"]} | _LOOSER[name, key]
    if kind.is_fit:
        properties["recipe"] |= {"anyOf": [{"enum": list_recipes()}, {"type": "string"}]}
        properties |= _recipe_properties(schemas)
    keys = {"type": "object", "properties": properties, "additionalProperties": False}
    if kind.is_fit:  # factors of loss terms, and teachers, have names of the user's
        keys["patternProperties"] = {r"^(losses\..*weights\.|teachers?\.)": {}}
    described = {"description": kind.about}
    if kind.required:
        required = [key for key in kind.required if key in properties]
        return described | {"anyOf": [keys | {"required": required}, {"type": "string"}]}
    return described | {"anyOf": [keys, {"type": ["string", "null"]}]}


def _recipe_properties(schemas: _Schemas) -> dict[str, Any]:
    """Return every key of every method's recipe, nested as in recipes and dotted as in flags."""
    options_of: dict[str, list[dict[str, Any]]] = {}
    for _, recipe in _methods():
        for key, schema in _keys(schemas, recipe):
            if schema not in options_of.setdefault(key, []):
                options_of[key].append(schema)
    return {key: options[0] if len(options) == 1 else {"anyOf": options} for key, options in options_of.items()}


def _keys(schemas: _Schemas, kind: type[Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, hint in get_type_hints(kind).items():
        yield f"{prefix}{key}", schemas.of_key(kind, key, hint)
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _keys(schemas, hint, f"{prefix}{key}.")


class _Schemas:
    """Schemas of keys; what several share stands in ``shared``, by the names of its dataclasses."""

    def __init__(self) -> None:
        self.shared: dict[str, Any] = {}

    def of_key(self, owner: type[Any], key: str, hint: Any) -> dict[str, Any]:
        """Return the schema of a dataclass's field, with what its docstring says of it."""
        if hint is Any:
            return {}
        schema = TypeAdapter(hint).json_schema()
        self._share(schema.pop("$defs", {}), hint)
        if "properties" in schema:  # the field is a dataclass itself
            name = schema.get("title", key)
            self._share({name: schema}, hint)
            schema = {"$ref": f"#/$defs/{name}"}
        text = attribute_texts(owner).get(key)
        return schema if text is None else {"description": text} | schema

    def _share(self, definitions: Mapping[str, Any], hint: Any) -> None:
        kinds = {kind.__name__: kind for kind in _dataclasses(hint)}
        for name, schema in definitions.items():
            schema.pop("required", None)
            texts = attribute_texts(kinds[name]) if name in kinds else {}
            for key, value in schema.get("properties", {}).items():
                value |= {"description": texts[key]} if key in texts else {}
            self.shared[name] = {**schema, "additionalProperties": False} if "properties" in schema else schema


def _dataclasses(hint: Any) -> Iterator[type[Any]]:
    if isinstance(hint, type) and is_dataclass(hint):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from _dataclasses(inner)
    for part in get_args(hint):
        yield from _dataclasses(part)


def attribute_texts(kind: type[Any]) -> dict[str, str]:
    """Return what a dataclass's docstring, and those of its bases, say of each field under ``Attributes``."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = inspect.cleandoc(base.__doc__ or "").partition("\nAttributes:\n")[2].partition("\n\n")[0]
        for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
            texts[name] = " ".join(text.replace("`", "").split())
    return texts
