"""What a network's input is normalised by: the statistics of its pretrained weights, or the data's own."""

from __future__ import annotations

from dataclasses import replace

from geodistill.errors import RecipeError
from geodistill.lazy import load
from geodistill.methods.schema import Recipe
from geodistill.methods.teacher import is_8_bit
from geodistill.nn.encoders import weights_statistics
from geodistill.spec import Spec


def network_spec(recipe: Recipe, spec: Spec) -> tuple[Spec, str | None]:
    """Return the Spec with the statistics that the network's input is normalised by: ``data.statistics``.

    A pretrained encoder is given what its weights were trained with, frozen or not: the teacher's way, see
    `geodistill.methods.teacher.build_teacher`.

    Args:
        recipe: Names the weights, as ``init`` or ``network.encoder_weights``.
        spec: The data's own.

    Returns:
        The Spec, and a line on what was chosen where there are weights.

    Raises:
        RecipeError: ``data.statistics`` is ``encoder`` and there are none for such images.
        ArtifactError: The weights are missing or wrongly described.
    """
    weights, encoder = (getattr(recipe.network, key, None) for key in ("encoder_weights", "encoder"))
    source, how = recipe.init or weights, recipe.data.statistics
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
