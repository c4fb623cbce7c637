"""The catalogue: benchmark sets as declarations, and how one is read from its official layout."""

from geodistill.data.catalog.benchmark import Benchmark, Layout
from geodistill.data.catalog.declarations import (
    CAS_LANDSLIDE,
    DETECTION,
    GRASS,
    ISAID,
    L8_BIOME,
    L8_BIOME_PATCHES,
    LOVEDA,
    OPENEARTHMAP,
    POTSDAM,
    VAIHINGEN,
)
from geodistill.data.catalog.find import SetFiles, find_set
from geodistill.data.catalog.samrs import SAMRS

CATALOG: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        VAIHINGEN, POTSDAM, LOVEDA, OPENEARTHMAP, ISAID, L8_BIOME, L8_BIOME_PATCHES, GRASS, CAS_LANDSLIDE, *SAMRS,
        *DETECTION,
    )
}  # fmt: skip
"""Every set by its name."""

__all__ = ["CATALOG", "Benchmark", "Layout", "SetFiles", "find_set"]
