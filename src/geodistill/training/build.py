"""A recipe put together: teachers, the method, the distillation terms, and the caches of the teachers."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from geodistill.data.datamodule import DataModule
from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.methods.method import (
    DEFAULT_TEACHER,
    PSEUDO,
    BuildContext,
    Method,
    find_method,
    no_context,
    parse_term,
    split_weights,
)
from geodistill.methods.schema import Recipe
from geodistill.methods.teacher import FrozenTeacher, TeacherConfig, is_8_bit
from geodistill.nn.encoders import weights_statistics
from geodistill.raster.bands import lie_otherwise
from geodistill.spec import Spec

if TYPE_CHECKING:
    from geodistill.methods.cache import TeacherCache

TEACHERS: dict[str, str] = {
    "encoder": "geodistill.methods.teacher:build_teacher",
    "segmenter": "geodistill.training.segmenter_teacher:open_segmenter_teacher",
    "student": "geodistill.methods.self_training:open_student_teacher",
}
"""What opens a teacher of each kind for the images of a Spec, from a `TeacherConfig`; see `TeacherConfig.kind`."""


def build_method(recipe: Recipe, context: BuildContext) -> Method:
    """Build the network, the objective and the teachers that a recipe names.

    Raises:
        RecipeError: Parts do not fit each other, or a teacher is named that no term asks.
        UnknownNameError: Unknown encoder, choice, loss term, band or weighting.
        ArtifactError: Weights or a Segmenter are not available.
    """
    method_weights, distilled = split_weights(recipe.losses.weights, recipe.terms())
    if context.sets and distilled:
        raise RecipeError(f"loss term {next(iter(distilled))} with data.manifests", "one data set", "use data.manifest")
    configs = teacher_configs(recipe)
    pseudo = {name: weight for name, weight in distilled.items() if weight != 0 and name.endswith(PSEUDO)}
    _check_terms(recipe, pseudo, distilled)
    asked = _asked_teachers(recipe, configs, distilled)
    teachers = {name: open_teacher(configs[name], context.data_spec or context.spec) for name in sorted(asked)}
    of_method = replace(recipe, losses=replace(recipe.losses, weights=method_weights))
    try:
        method = find_method(recipe.method).build(of_method, replace(context, teachers=teachers))
    except (ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        # timm, segmentation-models-pytorch and torch check sizes by errors of their own.
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        failed = f"the recipe's network cannot be built ({reason})"
        raise RecipeError(failed, "sizes that its parts take", "change the network's keys") from error
    if method.context is not no_context and any(configs[name].kind == "student" for name in asked):
        raise RecipeError(f"teacher.segmenter student with {recipe.method}, which takes more than images", "another")
    if used := {name: weight for name, weight in distilled.items() if weight != 0 and name not in pseudo}:
        method = load("geodistill.methods.distillation:add_distillation")(method, used, teachers, recipe.losses)
    if pseudo:
        add_self_training = load("geodistill.methods.self_training:add_self_training")
        method = add_self_training(method, pseudo, teachers, recipe.losses, list(context.spec.legend.names))
    if recipe.losses.weighting == "fixed":
        return method
    weighting = load("geodistill.nn.weighting:build_weighting")
    return replace(method, weighting=weighting(recipe.losses.weighting, tuple(method.objective.weights)))


def _check_terms(recipe: Recipe, pseudo: Mapping[str, float], distilled: Mapping[str, float]) -> None:
    """Refuse what terms that ask a teacher, or a teacher's cache, cannot go with.

    Raises:
        RecipeError: It is so.
    """
    if len(pseudo) > 1:
        raise RecipeError(f"the loss terms {' and '.join(pseudo)}", "one of them: an image has one set of classes")
    if pseudo and recipe.data.unlabelled is None:
        raise RecipeError(f"loss term {next(iter(pseudo))} without data.unlabelled", "a manifest of images to label")
    taught = next((name for name, weight in distilled.items() if weight), None)
    cached = cached_views(recipe) is not None
    recipe.check_teachers(taught, cached)
    if cached and recipe.data.unlabelled_from:
        raise RecipeError("data.unlabelled_from beside teacher.cache", "one of them: views are kept in a fixed order")
    others = recipe.needs_teacher or any(weight and name not in pseudo for name, weight in distilled.items())
    if cached and recipe.data.mix and others:
        raise RecipeError("data.mix beside teacher.cache", "one of them: what is kept is of an image as it was")


def _asked_teachers(recipe: Recipe, configs: Mapping[str, TeacherConfig], distilled: Mapping[str, float]) -> set[str]:
    """Return the names of the teachers that the method or a distillation term with a factor asks.

    Raises:
        RecipeError: A teacher is named that neither asks.
    """
    of_method = {DEFAULT_TEACHER} & set(configs) if recipe.needs_teacher else set()
    # A method that has a teacher by default leaves it out where its terms weigh nothing.
    default = set() if type(recipe)().teacher is None else {DEFAULT_TEACHER}
    terms = {parse_term(name, list(configs)): weight for name, weight in distilled.items()}
    if unasked := sorted(set(configs) - {term.teacher for term in terms} - of_method - default):
        raise RecipeError(
            f"the recipe's teacher {unasked[0]!r}, which no loss term asks",
            "a term such as kd, cwd, dist_inter, dist_intra or feature",
            "give it a factor in losses.weights",
        )
    return of_method | {term.teacher for term, weight in terms.items() if weight != 0}


def teacher_configs(recipe: Recipe) -> dict[str, TeacherConfig]:
    """Return the recipe's teachers by name; its ``teacher`` is called ``teacher``.

    Raises:
        RecipeError: One of ``teachers`` has a name that a loss term cannot hold.
    """
    for name in recipe.teachers:
        if name == DEFAULT_TEACHER or not name.isidentifier():
            raise RecipeError(f"teachers.{name}", f"a name of letters and digits that is not {DEFAULT_TEACHER!r}")
    return ({} if recipe.teacher is None else {DEFAULT_TEACHER: recipe.teacher}) | recipe.teachers


def open_teacher(config: TeacherConfig, spec: Spec) -> FrozenTeacher:
    """Build a teacher for images of a Spec, of whichever kind.

    Raises:
        RecipeError: Bands, units or settings do not fit.
        ArtifactError: Weights or a Segmenter are not available.
        UnknownNameError: No such encoder or band.
    """
    if config.logits_stride < 1 or config.views < 1:
        raise RecipeError(f"teacher.logits_stride {config.logits_stride}, views {config.views}", "at least 1")
    teacher: FrozenTeacher = load(TEACHERS[config.kind])(config, spec)
    return teacher


def cached_views(recipe: Recipe) -> int | None:
    """Return how many views of each sample a run shows; ``None`` where no teacher has a cache.

    Raises:
        RecipeError: Two cached teachers differ in it.
    """
    views = {config.views for config in teacher_configs(recipe).values() if config.cache is not None}
    if len(views) > 1:
        raise RecipeError(f"cached teachers with views {sorted(views)}", "one number for all of them")
    return next(iter(views), None)


def open_caches(
    configs: Mapping[str, TeacherConfig], teachers: Mapping[str, FrozenTeacher], data: DataModule, accelerator: str
) -> list[str]:
    """Open the cache of each teacher that is to have one, once it was asked for all that it will have to return.

    Args:
        configs: The recipe's teachers by name.
        teachers: The same, built.
        data: Whose views are kept.
        accelerator: The recipe's: a teacher computes in another precision on another device.

    Returns:
        A line per cache: its size, its records, the disk's free space.

    Raises:
        RecipeError: Not one record fits under ``cache_gb``.
        ArtifactError: A cache of that name holds something else.
        OutputError: It cannot be made.
    """
    lines: list[str] = []
    device = torch.device("cuda" if torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda") else "cpu")
    for name, teacher in teachers.items():
        config = configs[name]
        if config.cache is None:
            continue
        description = {
            "weights": load("geodistill.nn.weights:weights_hash")(teacher.module),
            "teacher": teacher.description(device),
            "views": data.view_description(),
        }
        shapes = teacher.output_shapes(data.config.crop, data.spec.classes)
        cache: TeacherCache = load("geodistill.methods.cache:TeacherCache")(
            config.cache, description, shapes, data.slots, config.cache_gb * 1e9, config.cache_storage
        )
        teacher.cache = cache
        free = shutil.disk_usage(config.cache).free / 1e9
        lines.append(f"{name} cache {cache.folder}: {cache.size}; {len(cache):,} are there, {free:.1f} GB disk free")
    return lines


def network_spec(recipe: Recipe, spec: Spec, begins: bool = True) -> tuple[Spec, str | None]:
    """Return the Spec with the statistics that the network's input is normalised by: ``data.statistics``.

    A pretrained encoder is given what its weights were trained with, frozen or not: the teacher's way, see
    `geodistill.methods.teacher.build_teacher`.

    Args:
        recipe: Names the weights, as ``init`` or ``network.encoder_weights``.
        spec: The data's own.
        begins: Whether the weights are still to be taken.

    Returns:
        The Spec, and a line on what was chosen where there are weights.

    Raises:
        RecipeError: ``data.statistics`` is ``encoder`` and there are none for such images; or the weights are of the
            images' bands in another order.
        ArtifactError: The weights are missing or wrongly described.
    """
    weights, encoder = (getattr(recipe.network, key, None) for key in ("encoder_weights", "encoder"))
    source, how = recipe.init or weights, recipe.data.statistics
    if begins and source not in (None, "pretrained"):
        _refuse_other_bands(recipe, str(source), spec)
    if how == "data" or (how == "auto" and source is None):
        return spec, None
    reason, mean, std = "without network.encoder_weights or init", tuple[float, ...](), tuple[float, ...]()
    if recipe.init is not None:
        start = load("geodistill.segmenter:read_description")(recipe.init)[2]
        mean, std, sensor = start.mean, start.std, True
    elif weights is not None and encoder is not None:
        mean, std, sensor = weights_statistics(encoder, weights)
    if mean and len(mean) != spec.channels:
        reason = f"with weights for {len(mean)} bands and images of {spec.channels}"
    elif mean and not sensor and not is_8_bit(spec, range(spec.channels)):
        reason = f"with weights for 8-bit images and band means of {', '.join(f'{value:.4g}' for value in spec.mean)}"
    elif mean:
        return replace(spec, mean=mean, std=std), f"input normalised by the statistics of {source}"
    if how == "encoder":
        raise RecipeError(f"data.statistics encoder {reason}", "weights for such images", "set data.statistics: data")
    return spec, f"input normalised by the data's own statistics, {reason}"


def _refuse_other_bands(recipe: Recipe, source: str, spec: Spec) -> None:
    """Refuse weights of a trained model whose bands are the images' in another order; other bands may be learnt anew.

    Raises:
        RecipeError: They have.
        ArtifactError: The weights are missing or wrongly described.
    """
    if recipe.init is not None:
        bands = load("geodistill.segmenter:read_description")(source)[2].bands
    else:
        bands = load("geodistill.nn.encoder_weights:describe_weights")(source).bands or ()
    if lie_otherwise(bands, spec.bands):
        raise RecipeError(
            f"weights {source} for the bands {', '.join(bands)} and images of {', '.join(spec.bands)}",
            "them in the same order",
            "write the images with their bands in that order and scan again, or begin with other weights",
        )
