"""The benchmark sets of the five papers, each as its publisher distributes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from geodistill.data.catalog.benchmark import Benchmark, Divide, Layout, Split
from geodistill.spec import Colour, Legend

RGB = ("red", "green", "blue")


def drawn(*shares: float, seed: int = 42) -> Divide:
    """Divide at random, as the papers' scripts do: a test share is drawn first, from ids in sorted order.

    The scripts list folders in whatever order the disk gives, so their very files cannot be drawn again.
    """

    def divide(ids: Sequence[str]) -> Split:
        order = [sorted(ids)[i] for i in np.random.RandomState(seed).permutation(len(ids))]
        rest_count = math.ceil((1 - shares[0]) * len(order) - 1e-9)
        rest, train = order[:rest_count], order[rest_count:]
        if len(shares) == 2:
            return {"train": train, "test": rest}
        test = math.ceil(rest_count * shares[2] / (shares[1] + shares[2]))
        return {"train": train, "val": rest[test:], "test": rest[:test]}

    return divide


def by_site(*shares: float) -> Divide:
    """Divide whole sites (an id's part before its last ``/``), so that no site is in two splits."""

    def divide(ids: Sequence[str]) -> Split:
        sites = sorted({name.rpartition("/")[0] for name in ids})
        of_site = drawn(*shares)(sites)
        return {split: [name for name in ids if name.rpartition("/")[0] in chosen] for split, chosen in of_site.items()}

    return divide


def per_site(*shares: float) -> Divide:
    """Divide each site's ids by themselves."""

    def divide(ids: Sequence[str]) -> Split:
        total: dict[str, list[str]] = {}
        for site in sorted({name.rpartition("/")[0] for name in ids}):
            for split, drawn_names in drawn(*shares)([n for n in ids if n.rpartition("/")[0] == site]).items():
                total.setdefault(split, []).extend(drawn_names)
        return total

    return divide


ISPRS = Legend(
    ("impervious surface", "building", "low vegetation", "tree", "car", "clutter"),
    ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0)),
    ignore_colours=((0, 0, 0),),
    nearest=True,
)

_VAIHINGEN_TRAIN = [
    "1", "3", "5", "7", "11", "13", "15", "17", "21", "23", "26", "28", "30", "32", "34", "37",
]  # fmt: skip
_VAIHINGEN_TEST = [
    "2", "4", "6", "8", "10", "12", "14", "16", "20", "22", "24", "27", "29", "31", "33", "35", "38",
]  # fmt: skip
_VAIHINGEN_FULL = (
    "*ground_truth_COMPLETE/**/top_mosaic_09cm_area{tile}.tif",
    "gts*/**/top_mosaic_09cm_area{tile}.tif",
)

VAIHINGEN = Benchmark(
    "vaihingen", "ISPRS 2D Semantic Labeling, Vaihingen",
    source="the ISPRS benchmark's download page, on request", licence="ISPRS terms: research, with citation",
    legend=ISPRS, bands=("near infrared", "red", "green"), gsd=0.09,
    layouts={
        "full": Layout(("top/top_mosaic_09cm_area{tile}.tif",), _VAIHINGEN_FULL, "{tile}"),
        "eroded": Layout(("top/top_mosaic_09cm_area{tile}.tif",), ("top_mosaic_09cm_area{tile}_noBoundary.tif",),
                         "{tile}"),
    },
    splits={
        "official": {"train": _VAIHINGEN_TRAIN, "test": _VAIHINGEN_TEST},
        "val-30": {"train": [t for t in _VAIHINGEN_TRAIN if t != "30"], "val": ["30"], "test": _VAIHINGEN_TEST},
    },
    note="published scores of GeoSeg's tools count padding as impervious surface (21 to 46 % of a padded tile)",
)  # fmt: skip

_POTSDAM_TRAIN = [
    "2_10", "2_11", "2_12", "3_10", "3_11", "3_12", "4_10", "4_11", "4_12", "5_10", "5_11", "5_12", "6_7", "6_8",
    "6_9", "6_10", "6_11", "6_12", "7_7", "7_8", "7_9", "7_10", "7_11", "7_12",
]  # fmt: skip
_POTSDAM_TEST = [
    "2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13",
]  # fmt: skip


def _potsdam(kind: str, ending: str) -> Layout:
    images, masks = f"top_potsdam_{{tile}}_{kind}.tif", f"top_potsdam_{{tile}}_{ending}.tif"
    letters = {"R": "red", "G": "green", "B": "blue", "I": "near infrared"}
    bands = tuple(letters[letter] for letter in kind.replace("IR", "I"))
    return Layout((images,), (masks,), "{tile}", bands=bands)


POTSDAM = Benchmark(
    "potsdam", "ISPRS 2D Semantic Labeling, Potsdam",
    source="the ISPRS benchmark's download page, on request", licence="ISPRS terms: research, with citation",
    legend=ISPRS, bands=RGB, gsd=0.05,
    layouts={
        "full": _potsdam("RGB", "label"), "eroded": _potsdam("RGB", "label_noBoundary"),
        "irrg": _potsdam("IRRG", "label"), "irrg-eroded": _potsdam("IRRG", "label_noBoundary"),
        "rgbir": _potsdam("RGBIR", "label"), "rgbir-eroded": _potsdam("RGBIR", "label_noBoundary"),
    },
    splits={
        "official": {"train": _POTSDAM_TRAIN, "test": _POTSDAM_TEST},
        "val-2_10": {"train": [t for t in _POTSDAM_TRAIN if t not in ("2_10", "7_10")], "val": ["2_10"],
                     "test": _POTSDAM_TEST},
        "without-7_10": {"train": [t for t in _POTSDAM_TRAIN if t != "7_10"], "test": _POTSDAM_TEST},
    },
    note="7_10 has wrong labels; some label tiles hold colours off the palette, decoded by the nearest",
)  # fmt: skip

LOVEDA = Benchmark(
    "loveda", "LoveDA", source="Zenodo 5706578", licence="CC BY-NC-SA 4.0",
    legend=Legend(
        ("background", "building", "road", "water", "barren", "forest", "agriculture"),
        ((255, 255, 255), (255, 0, 0), (255, 255, 0), (0, 0, 255), (159, 129, 183), (0, 255, 0), (255, 195, 128)),
        values=(1, 2, 3, 4, 5, 6, 7), ignore_values=(0,),
    ),
    gsd=0.3,
    layouts={"official": Layout(("{part}/{area}/images_png/{id}.png",), ("{part}/{area}/masks_png/{id}.png",),
                                split={"train": "train", "val": "val", "test": "test"})},
    unlabelled=("test",), note="test labels are withheld; background is a scored class; 0 means no data",
)  # fmt: skip

_OEM = Layout(("{region}/images/{id}.tif",), ("{region}/labels/{id}.tif",),
              lists={"train": "train.txt", "val": "val.txt", "test": "test.txt"})  # fmt: skip

OPENEARTHMAP = Benchmark(
    "openearthmap", "OpenEarthMap", source="Zenodo 7223446; xBD images apart, from xView2",
    licence="CC BY-NC-SA 4.0 labels; images under their sources' terms",
    legend=Legend(
        ("background", "bareland", "rangeland", "developed space", "road", "tree", "water", "agriculture", "building"),
        ((0, 0, 0), (128, 0, 0), (0, 255, 36), (148, 148, 148), (255, 255, 255), (34, 97, 38), (0, 69, 255),
         (75, 181, 73), (222, 31, 7)),
    ),
    layouts={"official": _OEM}, unlabelled=("test",),
    note="the official mean leaves background out (evaluate --classes ...); MetaSegNet's 70.4 has it in",
)  # fmt: skip

ISAID = Benchmark(
    "isaid", "iSAID", source="captain-whu.github.io/iSAID, with the images of DOTA-v1.0",
    licence="academic use only",
    legend=Legend(
        ("background", "ship", "storage tank", "baseball diamond", "tennis court", "basketball court",
         "ground track field", "bridge", "large vehicle", "small vehicle", "helicopter", "swimming pool", "roundabout",
         "soccer ball field", "plane", "harbor"),
        ((0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63),
         (0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255),
         (0, 100, 155)),
    ),
    layouts={"official": Layout(("{part}/images/**/{id}.png",),
                                ("{part}/Semantic_masks/**/{id}_instance_color_RGB.png",),
                                split={"train": "train", "val": "val", "test": "test"})},
    unlabelled=("test",),
    note="SOTA is made from DOTA's train and val images, so pre-training on it sees iSAID's val pixels",
)  # fmt: skip

_CLOUD = ("clear", "cloud shadow", "thin cloud", "cloud")
_CLOUD_COLOURS = ((79, 253, 199), (221, 53, 223), (251, 255, 41), (77, 2, 115))

L8_BIOME = Benchmark(
    "l8-biome", "Landsat 8 Cloud Cover Assessment (Biome)", source="USGS, doi 10.5066/F7251GDH",
    licence="public domain",
    legend=Legend(_CLOUD, _CLOUD_COLOURS, values=(128, 64, 192, 255), ignore_values=(0,)),
    bands=("coastal", "blue", "green", "red", "nir", "swir1", "swir2", "pan", "cirrus", "tir1", "tir2"), gsd=30.0,
    layouts={"official": Layout(("{biome}/{id}/{id}.TIF",), ("{biome}/{id}/{id}_fixedmask.TIF",), "{biome}/{id}")},
    splits={"drawn": per_site(0.6, 0.2, 0.2)},
    note="fill (0) is ignored; the papers' patches count it as clear",
)  # fmt: skip

L8_BIOME_PATCHES = Benchmark(
    "l8-biome-patches", "L8 Biome as 512 px patches (KTDA, Cloud-Adapter)", source="HF XavierJiezou/ktda-datasets",
    licence="CC BY-NC 4.0", legend=Legend(_CLOUD, _CLOUD_COLOURS), gsd=30.0, archive="cloud",
    layouts={"official": Layout(("img_dir/{part}/{id}.png",), ("ann_dir/{part}/{id}.png",),
                                split={"train": "train", "val": "val", "test": "test"})},
    note="each patch is stretched by its own range, so thin cloud and bright ground look alike",
)  # fmt: skip

GRASS = Benchmark(
    "grass", "Grass cover (KTDA)", source="HF XavierJiezou/ktda-datasets", licence="CC BY-NC 4.0",
    legend=Legend(
        ("low", "middle low", "middle", "middle high", "high"),
        ((185, 101, 71), (248, 202, 155), (211, 232, 158), (138, 191, 104), (92, 144, 77)),
    ),
    gsd=8.0,
    layouts={"official": Layout(("img_dir/{part}/{id}.tif",), ("ann_dir/{part}/{id}.png",),
                                split={"train": "train", "val": "test"})},
    note="the published validation split is the test split; patches of one scene are in both",
)  # fmt: skip

CAS_LANDSLIDE = Benchmark(
    "cas-landslide", "CAS Landslide", source="Zenodo 10294997", licence="CC BY 4.0",
    # Nothing is ignored: a 255 would be landslide in another coding, so it must not pass as "no label".
    legend=Legend(("background", "landslide"), ((0, 0, 0), (255, 0, 0)), ignore_values=(-1,)),
    layouts={"official": Layout(("{site}/img/{id}.tif",), ("{site}/mask/{id}.tif",), "{site}/{id}",
                                first_bands=True)},
    splits={"drawn": per_site(0.8, 0.1, 0.1), "by-site": by_site(0.8, 0.1, 0.1)},
    note="the papers draw at random within each site, where neighbouring patches overlap; by-site keeps sites whole",
)  # fmt: skip


def _detection(name: str, title: str, source: str, licence: str, labels: str) -> Benchmark:
    return Benchmark(name, title, source=source, licence=licence, kind="boxes", labels=labels)


DETECTION = (
    _detection("dota", "DOTA", "captain-whu.github.io/DOTA", "academic use only", "--format dota --preset sota"),
    _detection("dior", "DIOR", "gcheng-nwpu.github.io", "academic use only", "--format voc --preset sior"),
    _detection("fair1m", "FAIR1M", "gaofen-challenge.com", "CC BY-NC-SA 3.0", "--format fair1m --preset fast"),
    _detection("hrsc2016", "HRSC2016", "Kaggle guofeng/hrsc2016", "academic use only", "--format hrsc"),
)


COLOURS: tuple[Colour, ...] = (
    (0, 127, 255), (0, 63, 0), (0, 127, 63), (0, 63, 255), (0, 0, 127), (0, 127, 127), (0, 0, 63), (0, 63, 127),
    (0, 63, 191), (0, 191, 127), (0, 127, 191), (0, 63, 63), (0, 100, 155), (0, 0, 255), (0, 0, 191), (64, 191, 127),
    (64, 0, 191), (128, 63, 63), (128, 0, 63), (191, 63, 0), (255, 127, 0), (63, 0, 0), (127, 63, 0), (63, 255, 0),
    (0, 127, 0), (127, 127, 0), (63, 0, 63), (63, 127, 0), (63, 191, 0), (191, 127, 0), (127, 191, 0), (63, 63, 0),
    (100, 155, 0), (0, 255, 0), (0, 191, 0), (191, 127, 64), (0, 191, 64),
)  # fmt: skip
"""Colour of each pixel value, shared by the three sets; unlabelled is white."""


SOTA = (
    "large-vehicle", "swimming-pool", "helicopter", "bridge", "plane", "ship", "soccer-ball-field", "basketball-court",
    "ground-track-field", "small-vehicle", "baseball-diamond", "tennis-court", "roundabout", "storage-tank", "harbor",
    "container-crane", "airport", "helipad",
)  # fmt: skip


SIOR = (
    "airplane", "airport", "baseballfield", "basketballcourt", "bridge", "chimney", "expressway-service-area",
    "expressway-toll-station", "dam", "golffield", "groundtrackfield", "harbor", "overpass", "ship", "stadium",
    "storagetank", "tenniscourt", "trainstation", "vehicle", "windmill",
)  # fmt: skip


FAST = (
    "A220", "A321", "A330", "A350", "ARJ21", "Baseball-Field", "Basketball-Court", "Boeing737", "Boeing747",
    "Boeing777", "Boeing787", "Bridge", "Bus", "C919", "Cargo-Truck", "Dry-Cargo-Ship", "Dump-Truck",
    "Engineering-Ship", "Excavator", "Fishing-Boat", "Football-Field", "Intersection", "Liquid-Cargo-Ship",
    "Motorboat", "other-airplane", "other-ship", "other-vehicle", "Passenger-Ship", "Roundabout", "Small-Car",
    "Tennis-Court", "Tractor", "Trailer", "Truck-Tractor", "Tugboat", "Van", "Warship",
)  # fmt: skip


def _parted(ids: Sequence[str]) -> Split:
    """Divide at random into 95 parts of a hundred to train on and 5 to validate on."""
    parts = drawn(0.95, 0.05)(ids)
    return {"train": parts["train"], "val": parts["test"]}


def _samrs(name: str, title: str, classes: tuple[str, ...], images: tuple[str, ...], masks: str) -> Benchmark:
    return Benchmark(
        name,
        title,
        source=f"github.com/ViTAE-Transformer/SAMRS, or 'label build --preset {name}' on the official detection set",
        licence="academic use only",
        legend=Legend(classes, COLOURS[: len(classes)]),
        layouts={
            "official": Layout(
                images,
                (f"{masks}/gray/{{path}}.png", "gray/{path}.png"),
                "{path}",
                lists={"train": "train.txt", "val": "valid.txt"},
            )
        },
        splits={"drawn": _parted},
        note="there is no background class: 255 is not labelled, so pre-training never sees background",
    )


_ANY = ("images/{path}.png", "images/{path}.jpg", "images/{path}.tif")
# DIOR's test images lie in a folder of their own, whose labels the paper made and did not train on.
_TRAINVAL = ("JPEGImages-trainval/{path}.jpg", "JPEGImages-trainval/{path}.png")

SAMRS = (
    _samrs("sota", "SAMRS SOTA, from DOTA-v2.0", SOTA, _ANY, "hbox_segs_init"),
    _samrs("sior", "SAMRS SIOR, from DIOR", SIOR, _TRAINVAL + _ANY, "hbox_segs_trainvaltest_init"),
    _samrs("fast", "SAMRS FAST, from FAIR1M-2.0", FAST, _ANY, "rhbox_segs_init"),
)

CATALOG: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        VAIHINGEN, POTSDAM, LOVEDA, OPENEARTHMAP, ISAID, L8_BIOME, L8_BIOME_PATCHES, GRASS, CAS_LANDSLIDE, *SAMRS,
        *DETECTION,
    )
}  # fmt: skip
"""Every set by its name."""
