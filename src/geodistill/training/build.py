"""A recipe put together: teachers, the method's network and objective, the bench's terms, the teachers' caches."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geodistill.data.datamodule import DataModule
from geodistill.data.manifest import Row
from geodistill.errors import RecipeError
from geodistill.methods.cache import TeacherCache
from geodistill.methods.distillation import DEFAULT, add_bench, parse_term, split_weights
from geodistill.methods.method import Method
from geodistill.methods.teacher import FrozenTeacher, SegmenterTeacher, TeacherConfig, build_teacher, teacher_bands
from geodistill.nn.encoders import Encoder
from geodistill.nn.weights import weights_hash
from geodistill.segmenter import Segmenter
from geodistill.spec import Spec
from geodistill.training.schema import METHODS, MetaSegNetRecipe, Recipe, SepRecipe


def build_method(
    recipe: Recipe, spec: Spec, rows: Sequence[Row] = (), sets: Mapping[str, Spec] | None = None
) -> Method:
    """Build the network, the objective and the teachers that a recipe names.

    Args:
        recipe: The recipe.
        spec: Classes, bands and normalisation.
        rows: The labelled images that will be seen, for a method that asks where each was taken.
        sets: Spec of each data set by name, where the network learns several at once.

    Raises:
        RecipeError: Parts do not fit each other, or a teacher is named that no term asks.
        UnknownNameError: Unknown encoder, choice, loss term, band or weighting.
        ArtifactError: Weights or a Segmenter cannot be had.
    """
    module = METHODS[recipe.method][1]
    own, bench = split_weights(recipe.losses.weights, list(type(recipe.losses)().weights))
    if sets and bench:
        raise RecipeError(f"loss term {next(iter(bench))} with data.manifests", "one data set", "use data.manifest")
    configs = teacher_configs(recipe)
    method_asks = "teacher" in inspect.signature(module.build).parameters
    named = {parse_term(name, list(configs)).teacher for name in bench}
    if unasked := sorted(set(configs) - named - ({DEFAULT} if method_asks else set())):
        raise RecipeError(
            f"the recipe's teacher {unasked[0]!r}, which no loss term asks",
            "a term such as kd, cwd, dist_inter, dist_intra or feature",
            "give it a factor in losses.weights",
        )
    asked = {parse_term(name, list(configs)).teacher for name, weight in bench.items() if weight != 0}
    if method_asks and DEFAULT in configs:
        asked.add(DEFAULT)
    teachers = {name: open_teacher(configs[name], spec) for name in sorted(asked)}
    parts: dict[str, Any] = {"network": recipe.network, "losses": replace(recipe.losses, weights=own)}
    if method_asks:
        parts["teacher"] = teachers.get(DEFAULT)
    if isinstance(recipe, MetaSegNetRecipe):
        parts |= {"text": recipe.text, "rows": rows}
    if isinstance(recipe, SepRecipe):
        parts["sets"] = sets
    try:
        method: Method = module.build(spec, **parts)
    except (ValueError, AssertionError, ArithmeticError, RuntimeError) as error:
        # timm, segmentation-models-pytorch and torch check sizes by errors of their own.
        raise RecipeError(
            f"the recipe's network cannot be built ({' '.join(str(error).split())[:300] or type(error).__name__})",
            "sizes that its parts take",
            "change the network's keys",
        ) from error
    return add_bench(method, bench, teachers, recipe.losses)


def teacher_configs(recipe: Recipe) -> dict[str, TeacherConfig]:
    """Give the recipe's teachers by name; its ``teacher`` is called ``teacher``.

    Raises:
        RecipeError: One of ``teachers`` has a name that a loss term cannot hold.
    """
    for name in recipe.teachers:
        if name == DEFAULT or not name.isidentifier():
            raise RecipeError(f"teachers.{name}", f"a name of letters and digits that is not {DEFAULT!r}")
    return ({} if recipe.teacher is None else {DEFAULT: recipe.teacher}) | recipe.teachers


def open_teacher(config: TeacherConfig, spec: Spec) -> FrozenTeacher:
    """Build a teacher for images of a Spec: an encoder, or a trained Segmenter.

    Raises:
        RecipeError: Bands, units or settings do not fit.
        ArtifactError: Weights or a Segmenter cannot be had.
        UnknownNameError: No such encoder or band.
    """
    if config.logits_stride < 1 or config.views < 1:
        raise RecipeError(f"teacher.logits_stride {config.logits_stride}, views {config.views}", "at least 1")
    if config.segmenter is None:
        return build_teacher(config, spec)
    if config.statistics == "data":
        raise RecipeError("teacher.statistics data beside teacher.segmenter", "encoder: a Segmenter has its own")
    segmenter = Segmenter.load(config.segmenter)
    own = segmenter.spec
    if config.bands is None and own.channels != spec.channels and not set(own.bands) <= set(spec.bands):
        raise RecipeError(
            f"a teacher of the bands {', '.join(own.bands)} for images of {', '.join(spec.bands)}",
            "bands by the same names",
            "say which of the image's bands those are with teacher.bands",
        )
    bands = teacher_bands(config.bands, spec, own.channels, own.bands)
    encoder = getattr(segmenter.network.network, "encoder", None)
    return SegmenterTeacher(
        segmenter,
        own,
        spec,
        bands,
        encoder if isinstance(encoder, Encoder) else None,
        config.indices,
        config.logits_stride,
        config.precision,
        {"network": segmenter.name, "arguments": segmenter.arguments},
    )


def cached_views(recipe: Recipe) -> int | None:
    """Give how many views of each sample a run shows; ``None`` where no teacher has a cache.

    Raises:
        RecipeError: Two cached teachers differ in it.
    """
    views = {config.views for config in teacher_configs(recipe).values() if config.cache is not None}
    if len(views) > 1:
        raise RecipeError(f"cached teachers with views {sorted(views)}", "one number for all of them")
    return next(iter(views), None)


def open_caches(
    configs: Mapping[str, TeacherConfig],
    teachers: Mapping[str, FrozenTeacher],
    data: DataModule,
    accelerator: str,
) -> list[str]:
    """Open the cache of each teacher that is to have one.

    Args:
        configs: The recipe's teachers by name.
        teachers: The same, built, and asked for all that will be wanted of them.
        data: Whose views are kept.
        accelerator: The recipe's: a teacher computes in another precision on another device.

    Returns:
        A line for each: what it will take, what it holds, and what room the disk has.

    Raises:
        RecipeError: Not one record fits under ``cache_gb``.
        ArtifactError: A cache of that name holds something else.
        OutputError: It cannot be made.
    """
    lines: list[str] = []
    cuda = torch.cuda.is_available() and accelerator in ("auto", "gpu", "cuda")
    for name, teacher in teachers.items():
        config = configs[name]
        if config.cache is None:
            continue
        description = {
            "weights": weights_hash(teacher.module),
            "teacher": teacher.description(torch.device("cuda" if cuda else "cpu")),
            "views": data.view_description(),
        }
        shapes = teacher.output_shapes(data.config.crop, data.spec.classes)
        teacher.cache = TeacherCache(
            config.cache, description, shapes, data.slots, config.cache_gb * 1e9, config.cache_storage
        )
        free = shutil.disk_usage(Path(config.cache)).free
        lines.append(
            f"{name} cache {teacher.cache.folder}: {teacher.cache.size}; {len(teacher.cache):,} are there, "
            f"{free / 1e9:.1f} GB of the disk are free"
        )
    return lines
