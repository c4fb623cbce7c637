"""Readers over real annotations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_bounds

from geodistill.errors import GeodistillWarning
from geodistill.label.boxes import Annotations
from geodistill.label.formats.detection import read_boxes
from geodistill.label.masks import Runs


def count(found: Annotations) -> tuple[int, int, dict[str, int]]:
    dropped = Counter(d.reason for image in found.images for d in image.dropped)
    return len(found.images), sum(len(image.boxes) for image in found.images), dict(dropped)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "images", "boxes"), [("hot_kampala", 147, 810), ("hot_zanzibar", 966, 1049)])
def test_buildings(shared: Path, place: str, images: int, boxes: int) -> None:
    folder = shared / "data" / place
    found = read_boxes("coco", folder / "boxes", folder / "images")
    assert count(found) == (images, boxes, {})
    assert found.unmatched == ()
    for image in found.images:
        for box in image.boxes:
            assert box.segmentation is not None
            top, left, bottom, right = Runs.from_coco(box.segmentation).bounds
            assert np.abs(np.array(box.box) - (left, top, right, bottom)).max() < 2.01, box.source


def test_trees_with_outlines(shared: Path) -> None:
    folder = shared / "data" / "oam_scenes"
    found = read_boxes("coco", folder / "boxes", folder / "images")
    assert count(found)[1:] == (48, {})
    assert set(found.categories) == {"tree", "canopy"}


def test_tree_crowns(shared: Path) -> None:
    folder = shared / "data" / "neon_trees"
    # Two images were cut at the edge of a flight, one of them on its left: their boxes have no sure place.
    with pytest.warns(GeodistillWarning, match=r"5 boxes are dropped \(another size\): .*400 x 400 .*400 x 212"):
        found = read_boxes("voc", folder / "boxes", folder / "images")
    assert count(found) == (42, 391, {"another size": 5})


def test_polygons_over_georeferenced_chips(shared: Path) -> None:
    folder = shared / "data" / "hot_kampala"
    chips = folder / "chips_tif" / "val"
    found = read_boxes("geojson", folder / "labels_wgs84.geojson", chips / "images", categories=["building"])
    assert count(found)[0] == 29
    hits, union = 0, 0
    for image in found.images:
        painted = np.zeros((image.height, image.width), bool)
        for box in image.boxes:
            painted |= fill(box.polygon, image.height, image.width)
        with rasterio.open(chips / "masks" / f"{image.key}.mask.tif") as file:
            truth = file.read(1) > 0
        hits += int((painted & truth).sum())
        union += int((painted | truth).sum())
    assert hits / union > 0.95, "the set's own masks were made from these polygons"


def test_tiles_whose_place_stands_in_their_names(shared: Path, tmp_path: Path) -> None:
    """Web-mercator tiles written anew with their place: boxes made from the same polygons must come out."""
    folder = shared / "data" / "hot_kampala"
    truth = {i.key: i for i in read_boxes("coco", folder / "boxes", folder / "images").images}
    tiles = sorted((folder / "images").glob("*-20.png"))[:12]
    for tile in tiles:
        x, y, zoom = (int(part) for part in tile.stem.split("-")[1:])
        half, side = 20037508.342789244, 2 * 20037508.342789244 / 2**zoom
        west, north = x * side - half, half - y * side
        with rasterio.open(tile) as file:
            pixels = file.read()
        profile = {"driver": "GTiff", "height": 256, "width": 256, "count": len(pixels), "dtype": "uint8"}
        place = from_bounds(west, north - side, west + side, north, 256, 256)
        (tmp_path / "i").mkdir(exist_ok=True)
        with rasterio.open(
            tmp_path / "i" / f"{tile.stem}.tif", "w", crs="EPSG:3857", transform=place, **profile
        ) as out:
            out.write(pixels)
    found = read_boxes("geojson", folder / "labels_wgs84.geojson", tmp_path / "i", categories=["building"])
    assert sum(len(image.boxes) for image in found.images) > 20
    for image in found.images:
        painted = np.zeros((256, 256), bool)
        true = np.zeros((256, 256), bool)
        for box in image.boxes:
            painted |= fill(box.polygon, 256, 256)
        for box in truth[image.key].boxes:
            crop = Runs.from_coco(box.segmentation or {}).crop()
            true[crop.place] |= crop.pixels
        if true.any():
            assert (painted & true).sum() / (painted | true).sum() > 0.9, image.key


def fill(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    from rasterio.features import rasterize
    from shapely import Polygon

    filled: np.ndarray = rasterize([Polygon(polygon)], (height, width)).astype(bool)
    return filled
