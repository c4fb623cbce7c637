"""Small folders named exactly as the publishers name theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from geodistill.data.catalog.declarations import CATALOG
from geodistill.spec import Legend

SIDE = 24


def write(path: Path, pixels: NDArray[np.generic]) -> Path:
    """Write ``(C, H, W)`` as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    driver = {".png": "PNG", ".jpg": "JPEG"}.get(path.suffix.lower(), "GTiff")
    profile = {"driver": driver, "count": len(pixels), "dtype": pixels.dtype, "height": SIDE, "width": SIDE}
    if driver == "GTiff" and len(pixels) > 3:
        profile["photometric"] = "minisblack"
    with rasterio.open(path, "w", **profile) as file:
        file.write(pixels)
    return path


def image(path: Path, seed: int, bands: int = 3, dtype: str = "uint8") -> Path:
    low, high = (1, 255) if dtype == "uint8" else (1, 30000)
    return write(path, np.random.default_rng(seed).integers(low, high, (bands, SIDE, SIDE)).astype(dtype))


def classes(seed: int, count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, count, (SIDE, SIDE)).astype(np.uint8)


def values(path: Path, seed: int, legend: Legend) -> Path:
    """Write a mask of class values, with a row that means no label where a byte can say so."""
    table = np.array(legend.values, np.uint8)
    mask = table[classes(seed, len(legend))]
    mask[0] = next((value for value in legend.ignore_values if value in range(256)), mask[0])
    return write(path, mask[None])


def colours(path: Path, seed: int, legend: Legend) -> Path:
    """Write a mask of colours, with a row that means no label where the legend has one."""
    mask = np.array(legend.colours, np.uint8)[classes(seed, len(legend))]
    if legend.ignore_colours:
        mask[0] = legend.ignore_colours[0]
    return write(path, mask.transpose(2, 0, 1))


def legend_of(name: str) -> Legend:
    legend = CATALOG[name].legend
    assert legend is not None
    return legend


def vaihingen(root: Path) -> None:
    split = CATALOG["vaihingen"].splits["official"]
    assert not callable(split)
    for i, tile in enumerate([*split["train"], *split["test"]]):
        image(root / f"ISPRS_semantic_labeling_Vaihingen/top/top_mosaic_09cm_area{tile}.tif", i)
        for folder, ending in (("ground_truth_COMPLETE", ""), ("ground_truth_eroded_COMPLETE", "_noBoundary")):
            colours(
                root / f"ISPRS_semantic_labeling_Vaihingen_{folder}/top_mosaic_09cm_area{tile}{ending}.tif",
                i,
                legend_of("vaihingen"),
            )


def potsdam(root: Path) -> None:
    split = CATALOG["potsdam"].splits["official"]
    assert not callable(split)
    for i, tile in enumerate([*split["train"], *split["test"]]):
        for folder, kind, bands in (
            ("2_Ortho_RGB", "RGB", 3),
            ("3_Ortho_IRRG", "IRRG", 3),
            ("4_Ortho_RGBIR", "RGBIR", 4),
        ):
            image(root / folder / f"top_potsdam_{tile}_{kind}.tif", i, bands)
        for folder, ending in (("5_Labels_all", "label"), ("5_Labels_all_noBoundary", "label_noBoundary")):
            colours(root / folder / f"top_potsdam_{tile}_{ending}.tif", i, legend_of("potsdam"))


def loveda(root: Path) -> None:
    number = 0
    for part in ("Train", "Val", "Test"):
        for area in ("Rural", "Urban"):
            for _ in range(2):
                image(root / part / area / "images_png" / f"{number}.png", number)
                if part != "Test":
                    values(root / part / area / "masks_png" / f"{number}.png", number, legend_of("loveda"))
                number += 1


def openearthmap(root: Path) -> None:
    base = root / "OpenEarthMap_wo_xBD"
    names = {"train": ["aachen_1", "lima_2"], "val": ["aachen_2"], "test": ["lima_9"]}
    for seed, (split, stems) in enumerate(names.items()):
        for stem in stems:
            image(base / stem.rpartition("_")[0] / "images" / f"{stem}.tif", seed)
            if split != "test":
                values(base / stem.rpartition("_")[0] / "labels" / f"{stem}.tif", seed, legend_of("openearthmap"))
        (base / f"{split}.txt").write_text("".join(f"{stem}.tif\n" for stem in stems))


def isaid(root: Path) -> None:
    for part, names in {"train": ["P0000", "P0001"], "val": ["P0003"], "test": ["P0006"]}.items():
        for name in names:
            image(root / "iSAID" / part / "images" / "images" / f"{name}.png", int(name[1:]))
            if part != "test":
                place = root / "iSAID" / part / "Semantic_masks" / "images" / f"{name}_instance_color_RGB.png"
                colours(place, int(name[1:]), legend_of("isaid"))


def l8_biome(root: Path) -> None:
    for biome in ("barren", "water"):
        for i in range(5):
            scene = f"LC8{i:03d}0282014{i:03d}LGN00"
            image(root / biome / scene / f"{scene}.TIF", i, 11, "uint16")
            values(root / biome / scene / f"{scene}_fixedmask.TIF", i, legend_of("l8-biome"))


def l8_biome_patches(root: Path) -> None:
    for i, part in enumerate(("train", "val", "test")):
        name = f"barren_LC8_patch_{i}_0"
        image(root / "img_dir" / part / f"{name}.png", i)
        values(root / "ann_dir" / part / f"{name}.png", i, legend_of("l8-biome-patches"))


def grass(root: Path) -> None:
    for i, part in enumerate(("train", "train", "val")):
        image(root / "img_dir" / part / f"{i}.tif", i)
        values(root / "ann_dir" / part / f"{i}.png", i, legend_of("grass"))


def cas_landslide(root: Path) -> None:
    for site in ("Hokkaido", "Lombok(UAV)", "Palu(Planet)", "Wenchuan"):
        for i in range(10):
            image(root / site / "img" / f"{site[:2]}{i}.tif", i)
            values(root / site / "mask" / f"{site[:2]}{i}.tif", i, legend_of("cas-landslide"))


def samrs(name: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        for stem in ("a", "b", "c"):
            image(root / "images" / f"{stem}.png", ord(stem))
            values(root / "gray" / f"{stem}.png", ord(stem), legend_of(name))
        (root / "train.txt").write_text("a\nb\n")
        (root / "valid.txt").write_text("c\n")

    return build


BUILDERS: dict[str, Callable[[Path], None]] = {
    "vaihingen": vaihingen,
    "potsdam": potsdam,
    "loveda": loveda,
    "openearthmap": openearthmap,
    "isaid": isaid,
    "l8-biome": l8_biome,
    "l8-biome-patches": l8_biome_patches,
    "grass": grass,
    "cas-landslide": cas_landslide,
    "sota": samrs("sota"),
    "sior": samrs("sior"),
    "fast": samrs("fast"),
}
