"""The recipe ``student``, adapted to what there is, and what it is going to do in four lines."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, listed
from geodistill.lazy import load
from geodistill.methods.method import DEFAULT_TEACHER, PSEUDO, parse_term, split_weights
from geodistill.methods.schema import Recipe
from geodistill.methods.teacher import OWN_STUDENT
from geodistill.nn.device import resolve_device
from geodistill.nn.encoders import build_encoder
from geodistill.training.recipe import as_flags, is_planned, load_recipe

RARE = 0.05
"""Share of the labelled pixels below which a class counts as rare."""

OBJECT_CLASSES = 2
"""Classes of a set that shows one kind of object: it, and all else."""

PLANTS = re.compile(
    "(?<![a-z])(bush|canop|crop|farmland|forest|grass|hedge|lawn|mangrove|meadow|orchard|palm|pasture|plant|shrub|tree"
    "|vegetat|vineyard|weed|wood)",
    re.IGNORECASE,
)
"""How words of classes begin whose colour is their own and not that of the place (docs/measured.md, "What colour
tells")."""

UNLABELLED_TERMS = {PSEUDO: 0.5}
"""Factors by which images without labels are learnt from a teacher, beside labels (docs/measured.md)."""

LABELLED_TERMS = {"dist_intra": 1.0, "dist_inter": 1.0}
"""Factors by which a teacher is learnt from where there are labelled images alone, as in ``distil-folder``; the second
tells nothing of two classes."""


WARMUP = 10
"""A short training warms up for one step of so many."""


def plan_recipe(
    config: str | Path | Mapping[str, Any] | Recipe | None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    manifest: Manifest | None = None,
) -> tuple[Recipe, list[str]]:
    """Read a recipe; adapt the shipped ``student`` or ``self-training`` to its data and to what weights there are.

    Where pretrained weights are not available, the encoder starts at random and learns as fast as the rest. Where a
    class is rare, classes are weighed. Style noise, recolouring and hollow objects are for sets of one kind of
    object, which looks otherwise in other places; where colours tell several classes from one another, or plants from
    all else, all three are left out. An encoder that stands still or has no stages gets no style noise. Images without
    labels are drawn where a teacher is named, and the student learns the teacher's classes on them unless the recipe
    already has a term for that teacher. A short training warms up for a tenth of its steps.

    What is chosen here is laid under the overrides: what they set stays.

    Args:
        config: As for `load_recipe`.
        overrides: As for `load_recipe`.
        manifest: The data, where the recipe does not name them.

    Returns:
        The recipe, and what it will do and why: four lines, none for another recipe, which is as it was read.

    Raises:
        RecipeError: As for `load_recipe`.
        UnknownNameError: As for `load_recipe`.
        DataError: The manifest is missing or unreadable.
    """
    if not is_planned(config):
        return load_recipe(config, overrides), []
    recipe = load_recipe(config, overrides, idle=True)
    if manifest is None:
        recipe.data.check()
        manifest = Manifest.load(recipe.data.manifest)
    facts = _gather_facts(recipe, manifest)
    asked = as_flags(overrides) if isinstance(overrides, Mapping) else overrides
    chosen = _choose_start(recipe, facts) | _choose_colours(facts) | _choose_data(recipe, facts)
    recipe = load_recipe(config, [*as_flags(chosen), *asked], idle=True)
    chosen |= _choose_terms(recipe, facts)
    recipe = load_recipe(config, [*as_flags(chosen), *asked])
    return recipe, [line(recipe, facts) for line in (_start_line, _labels_line, _teacher_line, _steps_line)]


def accelerator_of(device: str) -> dict[str, str]:
    """Return the override that trains a recipe on a device of this machine; none for ``auto``, which changes nothing.

    Raises:
        RecipeError: The device does not exist here.
    """
    return {} if device == "auto" else {"trainer.accelerator": resolve_device(device).type}


@dataclass(frozen=True)
class _Facts:
    """What there is to learn from, which settings and sentences depend on.

    Attributes:
        manifest: The data.
        missing: What is missing where pretrained weights are asked for and not available.
        several: Whether the set shows more than one kind of object.
        by_colour: What colours tell, if so: several classes from one another, or plants, by the names of classes.
        no_noise: Why the encoder cannot have style noise, if so.
        rare: Names of rare classes.
    """

    manifest: Manifest
    missing: str | None
    several: bool
    by_colour: str | None
    no_noise: str | None
    rare: list[str]


def _gather_facts(recipe: Recipe, manifest: Manifest) -> _Facts:
    names = () if manifest.legend is None else manifest.legend.names
    several = len(names) > OBJECT_CLASSES
    plants = [name for name in names if PLANTS.search(re.sub("(?<=[a-z])(?=[A-Z])", " ", name))]
    by_colour = "them apart" if several else listed(plants) if plants else None
    counts = () if manifest.statistics is None else manifest.statistics.class_pixels.get("train", ())
    rare = [name for name, count in zip(names, counts, strict=False) if 0 < count < RARE * sum(counts)]
    return _Facts(manifest, _missing_weights(recipe), several, by_colour, _no_style_noise(recipe), rare)


def _missing_weights(recipe: Recipe) -> str | None:
    if recipe.network.encoder_weights != "pretrained" or recipe.init is not None:
        return None
    try:
        build_encoder(recipe.network.encoder, 3, "pretrained")
    except ArtifactError as error:
        return error.received
    return None


def _no_style_noise(recipe: Recipe) -> str | None:
    if recipe.network.frozen_encoder:
        return "as it stands still"
    takes = load("geodistill.nn.style_noise:takes_style_noise")
    return None if takes(recipe.network.encoder) else "for want of stages"


def _choose_start(recipe: Recipe, facts: _Facts) -> dict[str, Any]:
    """Return no weights where there are none, and a rate for all where the encoder starts at random."""
    if recipe.init is not None:
        return {"network.encoder_weights": None}  # those of that model
    if recipe.network.encoder_weights is None:
        return {"optimizer.encoder_lr": None}
    return {} if facts.missing is None else {"network.encoder_weights": None, "optimizer.encoder_lr": None}


def _choose_colours(facts: _Facts) -> dict[str, Any]:
    """Return objects as they are where colours tell classes, and no style noise there or where it cannot be."""
    if facts.by_colour is not None:
        return {"network.style_noise": 0.0, "data.recolour": 0.0, "data.hollow": 0.0}
    return {} if facts.no_noise is None else {"network.style_noise": 0.0}


def _choose_data(recipe: Recipe, facts: _Facts) -> dict[str, Any]:
    """Return weights for rare classes, images for a teacher, no calibration without val, and a warm-up that ends."""
    chosen, manifest = dict[str, Any](), facts.manifest
    if facts.rare and recipe.losses.weights.get("ce") != 0:
        chosen["losses.class_weights"] = "auto"
    if _teachers(recipe) and recipe.data.unlabelled is None and recipe.data.manifest and manifest.rows("unlabelled"):
        chosen["data.unlabelled"] = recipe.data.manifest
    if not manifest.rows("val"):
        chosen["trainer.calibrate"] = False
    if recipe.schedule.warmup_steps > (most := max(recipe.trainer.max_steps // WARMUP, 1)):
        chosen["schedule.warmup_steps"] = most
    return chosen


def _teachers(recipe: Recipe) -> list[str]:
    """Return what the recipe's teachers are called."""
    teachers = [*([] if recipe.teacher is None else [recipe.teacher]), *recipe.teachers.values()]
    return [", ".join(teacher.segmenters) or teacher.encoder for teacher in teachers]


def _choose_terms(recipe: Recipe, facts: _Facts) -> dict[str, Any]:
    """Return loss terms for the teacher where the recipe names none.

    The student does not teach itself unless it is asked to: with few labels its errors become labels too.
    """
    segmenters = () if recipe.teacher is None else recipe.teacher.segmenters
    weights = split_weights(recipe.losses.weights, recipe.terms())[1]
    teachers = [DEFAULT_TEACHER, *recipe.teachers]
    if not segmenters or any(parse_term(name, teachers).teacher == DEFAULT_TEACHER for name in weights):
        return {}
    terms = UNLABELLED_TERMS
    if recipe.data.unlabelled is None:
        if OWN_STUDENT in segmenters:
            return {}  # there is nothing that it could tell itself
        terms = {name: factor for name, factor in LABELLED_TERMS.items() if facts.several or name != "dist_inter"}
    return {f"losses.weights.{name}": factor for name, factor in terms.items()}


def start_line(recipe: Recipe, missing: str | None = None) -> str:
    """Return which weights a run begins with; ``missing``: what it asked for and does not get."""
    weights = getattr(recipe.network, "encoder_weights", None)
    encoder = getattr(recipe.network, "encoder", recipe.method)
    if recipe.init is not None:
        return f"start: {recipe.init}, a trained model"
    if weights is None:
        why = "as asked" if missing is None else f"for {missing}; others: --network.encoder_weights FILE or FOLDER"
        return f"start: {encoder} from random weights, {why}"
    if weights == "pretrained":
        return f"start: {encoder} from its pretrained weights, which know edges and textures already"
    return f"start: {encoder} from {weights}"


def _start_line(recipe: Recipe, facts: _Facts) -> str:
    line = start_line(recipe, facts.missing)
    needless = recipe.network.style_noise or facts.by_colour is not None
    return line if needless or facts.no_noise is None else f"{line}; no style noise, {facts.no_noise}"


def _labels_line(recipe: Recipe, facts: _Facts) -> str:
    images = sum(row.mask is not None for row in facts.manifest.rows("train"))
    classes = 0 if facts.manifest.legend is None else len(facts.manifest.legend)
    line, rare = f"labels: {images:,} training images of {classes} classes", facts.rare
    few = f"{listed(rare) if rare else 'none'} below {100 * RARE:.0f} % of the pixels"
    if recipe.losses.class_weights != ("auto" if rare else None):
        line = f"{line}, {few}: weighed as asked"
    elif rare:
        line = f"{line}, of which {few}: rare classes count more"
    else:
        line = f"{line}, {few}: all pixels count alike"
    ways = {"recolour": "in other colours", "hollow": "with the ground inside"}
    if shown := [name for name in ways if getattr(recipe.data, name)]:
        line = f"{line}; objects are shown {' or '.join(ways[name] for name in shown)} too"
        flags = " ".join(f"--data.{name} 0" for name in shown)
        return line if facts.by_colour is not None else f"{line}; where colour tells them, as with plants, name {flags}"
    kept = facts.by_colour is not None and not recipe.network.style_noise
    return f"{line}; colours tell {facts.by_colour} and stay" if kept else line


def _teacher_line(recipe: Recipe, facts: _Facts) -> str:
    images, teachers = len(facts.manifest.rows("unlabelled")), ", ".join(_teachers(recipe))
    if not teachers and not images and recipe.data.unlabelled is None:
        return "images without labels: none; with a teacher they can be learnt from too"
    if not teachers:
        how = "name a trained Segmenter, best a larger one: --teacher.segmenter RUN"
        return f"images without labels: left aside; to learn from them, {how}"
    if recipe.data.unlabelled is None:
        return f"images without labels: {'left aside' if images else 'none'}; the teacher {teachers} on labelled ones"
    return (
        f"images without labels: {100 * recipe.data.unlabelled_share:.0f} % of the crops, under the teacher {teachers}"
    )


def _steps_line(recipe: Recipe, facts: _Facts) -> str:
    trainer, data, images = recipe.trainer, recipe.data, len(facts.manifest.rows("val"))
    averaged = trainer.ema is not None or trainer.average_last is not None
    if images:
        better = "the better of the weights and their average" if averaged else "the best weights"
        kept = f"{better} on {images:,} validation images {'is' if averaged else 'are'} kept"
        kept += ", its confidence fitted to them" if trainer.calibrate else ""
    else:
        kept = "the average of the last weights is kept" if averaged else "the last weights are kept"
    batch = "as many as fit" if data.batch_size == "auto" else data.batch_size
    return f"steps: {trainer.max_steps:,} of {batch} crops of {data.crop} x {data.crop} px; {kept}"
