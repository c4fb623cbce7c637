"""KDA's decoder table (the paper's Table IV): every decoder on one encoder, weighed without training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from geodistill.errors import RecipeError
from geodistill.methods.kda.network import DECODER_WIDTHS, KdaNetwork
from geodistill.methods.kda.training import KdaRecipe
from geodistill.papers.registry import find_table
from geodistill.training.inspect import check_counts
from geodistill.training.recipe import load_recipe
from geodistill.writing import aligned


def printed(metric: str) -> dict[str, float]:
    """Return a column of Table IV by decoder: ``gflops``, of the whole model, or ``decoder_parameters`` in millions.

    The paper counts two operations per multiply-add, norms too, and transposed convolutions four times over. Its U-Net
    and UPerNet are not the publications' own, so ours differ from them.
    """
    table = find_table("kda/IV")
    heading = next(column.heading for column in table.columns if column.metric == metric)
    rows = table.rows.values()
    return {row.overrides.get("network.decoder", "dcf"): row.figures[heading] for row in rows}  # type: ignore[misc]


@dataclass(frozen=True)
class DecoderRow:
    """One decoder.

    Attributes:
        decoder: Its name.
        parameters: Its own.
        whole: Parameters of encoder and decoder.
        macs: Multiply-adds of the whole model on one image (convolutions, linear layers and attention).
        published_parameters: Printed, in millions.
        published_gflops: Printed for the whole model at 224 pixels.
    """

    decoder: str
    parameters: int
    whole: int
    macs: int
    published_parameters: float | None
    published_gflops: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready form."""
        return asdict(self)


@dataclass(frozen=True)
class DecoderTable:
    """Every decoder on one encoder.

    Attributes:
        rows: One row per decoder.
        size: Side of the square input in pixels that operations are counted for.
    """

    rows: tuple[DecoderRow, ...]
    size: int

    def to_text(self) -> str:
        """Return an aligned table."""
        head = (
            "decoder",
            "parameters",
            "whole model",
            f"G multiply-adds at {self.size}",
            "printed (M)",
            "printed G, 224",
        )
        cells = [
            (
                row.decoder,
                f"{row.parameters:,}",
                f"{row.whole:,}",
                f"{row.macs / 1e9:.2f}",
                "-" if row.published_parameters is None else f"{row.published_parameters:.2f}",
                "-" if row.published_gflops is None else f"{row.published_gflops:.2f}",
            )
            for row in self.rows
        ]
        return "\n".join(aligned([head, *cells]))


def weigh_decoders(target: str, size: int = 224, channels: int = 3, classes: int | None = None) -> DecoderTable:
    """Weigh every decoder on the encoder of a KDA recipe.

    Args:
        target: Recipe, file or shipped name.
        size: Side of the square input in pixels.
        channels: Bands of the input.
        classes: Classes of the output; 2, as in the paper, where not given.

    Raises:
        RecipeError: The recipe is of another method, or a number is below 1.
    """
    check_counts(size, channels, classes)
    recipe = load_recipe(target)
    if not isinstance(recipe, KdaRecipe):
        raise RecipeError(f"--decoders with {target}, a recipe of {recipe.method}", "a recipe of kda", "kda-landslide")
    rows = []
    for decoder in DECODER_WIDTHS:
        is_default = decoder == recipe.network.decoder
        config = replace(recipe.network, decoder=decoder, encoder_weights=None)  # type: ignore[arg-type]
        arguments = asdict(config) | ({} if is_default else {"decoder_channels": None})
        with torch.device("meta"), torch.no_grad():
            network = KdaNetwork(channels, 2 if classes is None else classes, **arguments, auxiliary=False).eval()
            with FlopCounterMode(display=False) as flops:
                network(torch.zeros(1, channels, size, size))
        parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
        published = (printed("decoder_parameters").get(decoder), printed("gflops").get(decoder))
        whole = sum(parts.values())
        rows.append(DecoderRow(decoder, whole - parts["encoder"], whole, flops.get_total_flops() // 2, *published))
    return DecoderTable(tuple(rows), size)
