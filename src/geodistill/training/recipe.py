"""Recipes: short YAML with flat keys, read into typed dataclasses; any field can be overridden by a flag."""

from __future__ import annotations

import json
import re
from argparse import ArgumentError, ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, is_dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from geodistill.errors import RecipeError, UnknownNameError, check_name
from geodistill.lazy import load
from geodistill.reading import YAML_BYTES, parse_yaml, read_text

if TYPE_CHECKING:  # both bring what takes seconds to import
    from jsonargparse import ArgumentParser, Namespace

    from geodistill.methods.schema import Recipe

LISTS = ("--data.manifests", "--data.names")
"""Flags whose values may simply follow, also where there is one only."""

_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "NoneType": "null",
}
"""What a type is called to a user."""


def recipe_keys(kind: type[Any], prefix: str = "") -> list[str]:
    """Return every dotted key of a recipe dataclass, such as ``data.crop``; ``NAME`` where the user names the part."""
    keys: list[str] = []
    for name, hint in get_type_hints(kind).items():
        key = f"{prefix}{name}"
        keys.append(key)
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and is_dataclass(part):
                inner = f"{key}.NAME" if get_origin(hint) is dict else key
                keys += [inner, *recipe_keys(part, f"{inner}.")]
    return list(dict.fromkeys(keys))


def load_recipe(
    config: str | Path | Mapping[str, Any] | Recipe | None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    idle: bool = False,
) -> Recipe:
    """Read a recipe and apply overrides.

    Later wins: the method's preset, then the file, then what the file says of that preset under ``presets``, then the
    overrides. Mappings such as ``losses.weights`` are merged key by key with what came before.

    Args:
        config: A YAML file, the name of a shipped recipe (see `list_recipes`), a mapping of recipe keys, a Recipe, or
            ``None`` for the defaults of ``--method``.
        overrides: Values by dotted key, such as ``{"trainer.max_steps": 100}``, or flags as on the command line, such
            as ``["--trainer.max_steps", "100"]``.
        idle: Accept keys that do nothing beside the others, for a recipe that more is to be added to.

    Raises:
        RecipeError: A value does not fit its field, does nothing beside the others, or the file is not a mapping.
        UnknownNameError: The method, the preset or a key is unknown; the message lists near names.

    Example:
        >>> gd.load_recipe("ktda-folder", {"trainer.max_steps": 500}).trainer.max_steps
        500
    """
    from geodistill.methods.method import choose_preset, find_method

    asked = dict(overrides) if isinstance(overrides, Mapping) else {}
    overrides = as_flags(overrides) if isinstance(overrides, Mapping) else overrides
    name, data = config if isinstance(config, str | Path) else None, _given_keys(config)
    blocks = _preset_blocks(data, str(name or "given"))
    overrides = _join_lists(overrides)
    flags = _flags(overrides)
    method = str(flags.get("method", data.get("method", "supervised")))
    plug = find_method(method)
    kind = plug.recipe
    preset = choose_preset(flags, data, blocks, plug, method)
    block = blocks.get(preset, {})
    known = set(recipe_keys(kind))
    of_blocks = [key for values in blocks.values() for key in _dotted(values, known)]
    for key in [*_dotted(data, known), *of_blocks, *flags, *_dotted(asked, known)]:
        if not _is_known(key, known):
            mend = "it is trainer.accelerator" if key == "device" else "see 'geodistill fit --print_config'"
            raise UnknownNameError("recipe key", key, known, mend)
    parser, defaults = _parser(kind)  # type: ignore[arg-type]  # mypy looks at the hash of instances
    # A key that a whole recipe does not have was not known then: it is as by default, whatever its preset has become.
    named = {} if _is_whole(data, known) else plug.presets.get(preset, {})
    whole = partial(parser.parse_object, defaults=False)  # each is laid over all values
    try:
        before = whole(_deep_merge(deepcopy(defaults.as_dict()), named)) if named else defaults
        weights, others = _weight_flags(overrides, known)
        written = whole(_deep_merge(_deep_merge(deepcopy(before.as_dict()), data), block))
        base = whole(_deep_merge(written.as_dict(), weights)) if weights else written.clone()
        parsed: Namespace = parser.parse_args(others, namespace=base)
        of_file, recipe = (kind(**parser.instantiate(values).as_dict()) for values in (written, parsed))
    except (ArgumentError, ArgumentTypeError, ValueError, TypeError, RecursionError) as error:
        raise _value_error(str(name or method), error) from error
    if idle:
        return recipe
    left_aside = ("data.unlabelled",) if is_planned(config) else ()  # by the plan, which says so
    still = {key: reason for key, reason in recipe.idle_keys().items() if key not in left_aside}
    if not is_dataclass(config) and not _is_whole(data, known):  # a whole one was looked at when it was written
        in_file = {key: reason for key, reason in of_file.idle_keys().items() if key in still}
        _refuse_idle(in_file, written, before, defaults)
    _refuse_idle(still, parsed, written, defaults)  # a flag may switch off what the file has settings for
    return recipe


def _value_error(name: str, error: Exception) -> RecipeError:
    """Return what is wrong with a recipe's value, in plain words where jsonargparse's message has its usual form."""
    text = " ".join(str(error).split())
    match = re.match(r'Parser key "(?P<key>[^"]+)": (?P<why>.*?)(?:Given value type: .*?)?(?:Got|Given) value: ', text)
    kinds = re.findall(r"<class '(\w+)'>|Literal\[(.*?)\]", match["why"]) if match else []
    if match is None or not kinds:
        return RecipeError(f"recipe {name}: {text}", "a value of that type")
    words = dict.fromkeys(_TYPES.get(kind, kind) or choices.replace("'", "") for kind, choices in kinds)
    return RecipeError(f"recipe {name}: {match['key']} {text[match.end() :]}", " or ".join(words))


@cache
def _parser(kind: type[Recipe]) -> tuple[ArgumentParser, Namespace]:
    """Return the parser of a kind of recipe, and its defaults as it reads them; to be read only."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="geodistill fit", exit_on_error=False)
    parser.add_class_arguments(kind, sub_configs=False)
    return parser, parser.parse_object(parser.get_defaults().as_dict(), defaults=False)


def _is_whole(data: dict[str, Any], known: set[str]) -> bool:
    """Whether a file has nearly all keys, as ``recipe.yaml`` and ``--print_config`` do, also of an earlier version."""
    given = set(_dotted(data, known))
    containers = {key.rpartition(".")[0] for key in known}
    parts = [key.split(".") for key in known - containers if ".NAME" not in key]
    present = [any(".".join(names[: n + 1]) in given for n in range(len(names))) for names in parts]
    return sum(present) > 0.9 * len(present)


def _refuse_idle(idle: Mapping[str, str], values: Namespace, before: Namespace, defaults: Namespace) -> None:
    """Refuse a key that was changed, but for one taken back to its default, and does nothing beside the others.

    Raises:
        RecipeError: There is one.
    """
    for key, reason in idle.items():
        if values.get(key) not in (before.get(key), defaults.get(key)):
            raise RecipeError(f"recipe key {key}, which does nothing: {reason}", "keys that change the run")


def _preset_blocks(data: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Take out of a recipe what it says of each preset under ``presets``.

    Raises:
        RecipeError: It is no mapping of such mappings.
    """
    blocks = data.pop("presets", None) or {}
    if not isinstance(blocks, dict) or not all(isinstance(block, dict) for block in blocks.values()):
        raise RecipeError(f"presets of recipe {name}", "a mapping from presets to recipe keys")
    return {str(preset): block for preset, block in blocks.items()}


def _given_keys(config: str | Path | Mapping[str, Any] | Recipe | None) -> dict[str, Any]:
    """Return the keys that a recipe sets, in whatever form it is given."""
    if isinstance(config, str | Path):
        return _mapping(recipe_text(config), str(config))
    return dict(config or {}) if config is None or isinstance(config, Mapping) else recipe_dict(config)


def recipe_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a YAML- and JSON-ready form of a recipe that `load_recipe` reads back."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Return values by dotted key as flags."""
    texts = {k: str(v) if isinstance(v, str | Path) else json.dumps(v, default=list) for k, v in values.items()}
    return [f"--{key}={text}" for key, text in texts.items()]


def _mapping(text: str, name: str) -> dict[str, Any]:
    data = parse_yaml(text, f"recipe {name}", RecipeError)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise RecipeError(f"recipe {name} is a {type(data).__name__}", "a mapping of recipe keys")
    return data


def _join_lists(overrides: Sequence[str]) -> list[str]:
    """Write what follows a flag of several values, as in ``--data.manifests A B``, as one list."""
    joined: list[str] = []
    values: list[str] = []
    for token in [*overrides, "--"]:
        if not token.startswith("--"):
            values.append(token)
            continue
        listed = bool(joined) and joined[-1] in LISTS and not (values and values[0].startswith("["))
        joined += [json.dumps(values)] if values and (listed or len(values) > 1) else values
        values = []
        joined.append(token)
    return joined[:-1]


def _flags(overrides: Sequence[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    for position, token in enumerate(overrides):
        if token.startswith("--"):
            key, _, value = token[2:].partition("=")
            following = overrides[position + 1] if position + 1 < len(overrides) else ""
            flags[key] = value or following
    return flags


def _weight_flags(overrides: Sequence[str], known: set[str]) -> tuple[dict[str, Any], list[str]]:
    """Separate flags that the parser cannot merge from the others.

    These set one factor, where a term's name may hold a dot, or one field of a teacher that may be absent.
    """
    layer: dict[str, Any] = {}
    others: list[str] = []
    rest = iter(overrides)
    for token in rest:
        key, given, value = token.removeprefix("--").partition("=")
        mapping = next((k for k in known if k.endswith("weights") and key.startswith(f"{k}.")), None)
        teacher = key.startswith(("teacher.", "teachers."))
        if (mapping is None and not teacher) or not token.startswith("--"):
            others.append(token)
            continue
        text = value if given else next(rest, "")
        names = key.split(".") if mapping is None else [*mapping.split("."), key.removeprefix(f"{mapping}.")]
        part: Any = parse_yaml(text, f"--{key}", RecipeError) if mapping is None else _number(text)
        for name in reversed(names):
            part = {name: part}
        layer = _deep_merge(layer, part)
    return layer, others


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _is_known(key: str, known: set[str]) -> bool:
    """Whether a key is a field, an entry of a mapping of weights, or in a part that the user names."""
    if key in known or any(key.startswith(f"{k}.") and k.endswith("weights") for k in known):
        return True
    first, _, rest = key.partition(".")
    return ".".join([first, "NAME", *rest.split(".")[1:]]) in known


def _dotted(data: dict[str, Any], known: set[str], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, value in data.items():
        key = f"{prefix}{name}"
        nested = isinstance(value, dict) and any(k.startswith(f"{key}.") for k in known)
        keys += _dotted(value, known, f"{key}.") if nested else [key]
    return keys


def _deep_merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in layer.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _deep_merge(merged[key], value) if both else value
    return merged


STUDENT, PLANNED = "student", ("student", "self-training")
"""The recipe that is used where none is named; those that `plan_recipe` adapts, under these names alone."""


def is_planned(config: object) -> bool:
    """Whether a recipe is one of `PLANNED`, and no file of that name."""
    named = isinstance(config, str | Path) and str(config) in PLANNED
    return named and not Path(str(config)).is_file()


_ROLES = {
    **dict.fromkeys(("manifest", "manifests", "unlabelled"), "manifest"),
    **dict.fromkeys(("init", "weights", "encoder_weights", "segmenter", "answers", "text.encoder"), "model"),
}
"""What a key names, by the last part of the dotted key or by all of it: a file, or where it is a model also a name."""


def role_of(key: str) -> str | None:
    """Return what a recipe's dotted key names, ``manifest`` or ``model``; ``None`` where it names no file."""
    return _ROLES.get(key.rpartition(".")[2]) or _ROLES.get(key)


def recipe_files(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the key, the name and the role of every file that a recipe may name, of its values by dotted key."""
    for key, value in values.items():
        role = role_of(key)
        if role is not None and not is_own_student(key, value):
            yield from ((key, text, role) for text in texts_of(value))


def texts_of(value: Any) -> list[str]:
    """Return the texts of a list, or the one text that a value is; no empty ones."""
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str) and text]


def is_own_student(key: str, value: object) -> bool:
    """Whether a recipe's dotted key has the student itself for a teacher, whatever folder has that name."""
    named: bool = key.rpartition(".")[2] == "segmenter" and value == load("geodistill.methods.teacher:OWN_STUDENT")
    return named


def list_recipes() -> list[str]:
    """Return the names of the recipes shipped with the package.

    Example:
        >>> "ktda-folder" in gd.list_recipes()
        True
    """
    folder = resources.files("geodistill.recipes")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe_text(name: str | Path) -> str:
    """Return the text of a recipe: a YAML file, or the name of one shipped with the package.

    Raises:
        RecipeError: The file cannot be read.
        UnknownNameError: No file and no shipped recipe has that name.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return read_text(path, YAML_BYTES, RecipeError)
    check_name("recipe", str(name), list_recipes(), "see 'geodistill recipes', or give a .yaml file")
    return (resources.files("geodistill.recipes") / f"{name}.yaml").read_text(encoding="utf-8")
