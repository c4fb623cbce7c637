"""The recipe ``student``, adapted to what there is, and what it is going to do in four lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, listed
from geodistill.methods.schema import PSEUDO, Recipe, split_weights
from geodistill.nn.encoders import build_encoder
from geodistill.nn.style_noise import takes_style_noise
from geodistill.training.recipe import STUDENT, asked_keys, load_recipe

PLANNED = (STUDENT, "self-training")
"""Recipes that are adapted to what there is."""

RARE = 0.05
"""Share of the labelled pixels below which a class counts as rare."""

OBJECT_CLASSES = 2
"""Classes of a set that shows one kind of object: it, and all else."""

PSEUDO_WEIGHT = 0.5
"""Factor of what a teacher sees in images without labels, beside labels (docs/measured.md)."""


def plan_recipe(
    config: str | Path | Mapping[str, Any] | Recipe | None, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> tuple[Recipe, list[str]]:
    """Read a recipe; adapt ``student`` or ``self-training`` to its manifest and to the weights that are available.

    Where pretrained weights are not available, the encoder starts at random and learns as fast as the rest. Where a
    class is rare, classes are weighed. Style noise and recolouring are for sets of one kind of object, which has other
    colours in other places; where there are several classes, colours tell one from another, and both are left out. An
    encoder that stands still or has no stages gets no style noise. Images without labels are drawn where a teacher is
    named, and what it sees in them is learnt where no other term asks it. What the overrides set stays.

    Args:
        config: As for `load_recipe`.
        overrides: As for `load_recipe`.

    Returns:
        The recipe, and what it will do and why: four lines, none for another recipe, which is as it was read.

    Raises:
        RecipeError: As for `load_recipe`.
        UnknownNameError: As for `load_recipe`.
        DataError: The manifest is missing or unreadable.
    """
    recipe = load_recipe(config, overrides)
    if config not in PLANNED:
        return recipe, []
    asked = asked_keys(overrides)
    recipe.data.check()
    manifest = Manifest.load(recipe.data.manifest)
    recipe, colours = _coloured(recipe, manifest, asked)
    recipe, start = _styled(*_started(recipe, asked))
    recipe, labels = _weighed(recipe, manifest, asked)
    recipe, more = _taught(recipe, manifest)
    trainer, data = recipe.trainer, recipe.data
    kept = f"the better of the weights and their average on {len(manifest.rows('val')):,} validation images is kept"
    if trainer.calibrate:
        kept += ", its confidence fitted to them"
    if not manifest.rows("val"):
        kept = "the average of the last weights is kept"
        recipe = replace(recipe, trainer=replace(trainer, calibrate=False))
    batch = "as many as fit" if data.batch_size == "auto" else data.batch_size
    steps = f"steps: {trainer.max_steps:,} of {batch} crops of {data.crop} x {data.crop} px; {kept}"
    return recipe, [start, labels + colours, more, steps]


def _started(recipe: Recipe, asked: set[str]) -> tuple[Recipe, str]:
    """Return the recipe with weights that are available; an encoder from random weights learns as fast as the rest."""
    network = recipe.network
    if network.encoder_weights not in (None, "pretrained"):
        return recipe, f"start: {network.encoder} from {network.encoder_weights}"
    why = "as asked"
    if network.encoder_weights is not None:
        try:
            build_encoder(network.encoder, 3, "pretrained")
        except ArtifactError as error:
            why = f"for {error.received}; others: --network.encoder_weights"
        else:
            return (
                recipe,
                f"start: {network.encoder} from its pretrained weights, which know edges and textures already",
            )
    recipe = replace(recipe, network=replace(network, encoder_weights=None))
    if "optimizer.encoder_lr" not in asked:
        recipe = replace(recipe, optimizer=replace(recipe.optimizer, encoder_lr=None))
    return recipe, f"start: {network.encoder} from random weights, {why}"


def _coloured(recipe: Recipe, manifest: Manifest, asked: set[str]) -> tuple[Recipe, str]:
    """Return the recipe without style noise and recolouring where there are several classes, and what is said of it."""
    several = manifest.legend is not None and len(manifest.legend) > OBJECT_CLASSES
    if several and "network.style_noise" not in asked:
        recipe = replace(recipe, network=replace(recipe.network, style_noise=0.0))
    if several and "data.recolour" not in asked:
        recipe = replace(recipe, data=replace(recipe.data, recolour=0.0))
    if recipe.data.recolour:
        return recipe, "; objects are shown in other colours too"
    return recipe, "; colours tell them apart and stay" if several else ""


def _styled(recipe: Recipe, start: str) -> tuple[Recipe, str]:
    """Return the recipe without style noise where its encoder cannot have any, and the line that says so."""
    network = recipe.network
    if not network.style_noise or (takes_style_noise(network.encoder) and not network.frozen_encoder):
        return recipe, start
    why = "as it stands still" if network.frozen_encoder else "for want of stages"
    return replace(recipe, network=replace(network, style_noise=0.0)), f"{start}; no style noise, {why}"


def _weighed(recipe: Recipe, manifest: Manifest, asked: set[str]) -> tuple[Recipe, str]:
    """Return the recipe with class weights where a class is rare."""
    legend, statistics = manifest.legend, manifest.statistics
    counts = () if statistics is None else statistics.class_pixels.get("train", ())
    images = sum(row.mask is not None for row in manifest.rows("train"))
    names = () if legend is None else legend.names
    line = f"labels: {images:,} training images of {len(names)} classes"
    if "losses.class_weights" in asked:
        return recipe, f"{line}, weighed as asked"
    rare = [name for name, count in zip(names, counts, strict=False) if 0 < count < RARE * sum(counts)]
    if not rare:
        return recipe, f"{line}, none below {100 * RARE:.0f} % of the pixels: all pixels count alike"
    recipe = replace(recipe, losses=replace(recipe.losses, class_weights="auto"))
    return recipe, f"{line}, of which {listed(rare)} below {100 * RARE:.0f} % of the pixels: rare classes count more"


def _taught(recipe: Recipe, manifest: Manifest) -> tuple[Recipe, str]:
    """Return the recipe with the manifest's images without labels where a teacher is named, and what becomes of them.

    The student does not teach itself unless it is asked to: with few labels its errors become labels too.
    """
    data = recipe.data
    images = len(manifest.rows("unlabelled"))
    if recipe.teacher is None:
        if not images and data.unlabelled is None:
            return recipe, "images without labels: none; with a teacher they can be learnt from too"
        how = "name a trained Segmenter, best a larger one: --teacher.segmenter RUN"
        return recipe, f"images without labels: left aside; to learn from them, {how}"
    if data.unlabelled is None and images:
        data = replace(data, unlabelled=data.manifest)
    share, teacher = 100 * data.unlabelled_share, ", ".join(recipe.teacher.segmenters) or recipe.teacher.encoder
    if data.unlabelled is None:
        return recipe, f"teacher: {teacher}, on the labelled images"
    losses = recipe.losses
    if not any(split_weights(losses.weights, recipe.terms())[1].values()):
        losses = replace(losses, weights={**losses.weights, PSEUDO: PSEUDO_WEIGHT})
    recipe = replace(recipe, data=data, losses=losses)
    return recipe, f"images without labels: {share:.0f} % of the crops, under the teacher {teacher}"
