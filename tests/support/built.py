"""Methods built straight from parts of a recipe, without a file or data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geodistill.data.manifest import Row
from geodistill.methods.method import BuildContext, Method, find_method
from geodistill.methods.teacher import TeacherConfig, build_teacher
from geodistill.spec import Spec


def built(
    name: str, spec: Spec, parts: Mapping[str, Any], rows: Sequence[Row] = (), sets: Mapping[str, Spec] | None = None
) -> Method:
    """Return a method of a recipe with these fields, and with the teacher that it names."""
    plug = find_method(name)
    recipe = plug.recipe(**{field: value for field, value in parts.items() if value is not None})
    teachers = {} if recipe.teacher is None else {"teacher": build_teacher(recipe.teacher, spec)}
    return plug.build(recipe, BuildContext(spec, teachers, rows, sets or {}))


def build_ktda(spec: Spec, network: Any, teacher: TeacherConfig, losses: Any) -> Method:
    """Return KTDA."""
    return built("ktda", spec, {"network": network, "losses": losses, "teacher": teacher})


def build_kda(spec: Spec, network: Any, losses: Any, teacher: TeacherConfig | None = None) -> Method:
    """Return KDA."""
    return built("kda", spec, {"network": network, "losses": losses, "teacher": teacher})


def build_maflnet(spec: Spec, network: Any, losses: Any) -> Method:
    """Return SAM2-MAFLNet."""
    return built("maflnet", spec, {"network": network, "losses": losses})


def build_supervised(spec: Spec, network: Any, losses: Any) -> Method:
    """Return a supervised baseline."""
    return built("supervised", spec, {"network": network, "losses": losses})


def build_sep(spec: Spec, network: Any, losses: Any, sets: Mapping[str, Spec] | None = None) -> Method:
    """Return SEP."""
    return built("sep", spec, {"network": network, "losses": losses}, sets=sets)


def build_metasegnet(spec: Spec, network: Any, text: Any, losses: Any, rows: Sequence[Row] = ()) -> Method:
    """Return MetaSegNet."""
    return built("metasegnet", spec, {"network": network, "text": text, "losses": losses}, rows)
