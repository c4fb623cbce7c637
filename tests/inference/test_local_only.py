"""Under ``--local-only`` no address is asked and nothing outside the folder of what was named is read."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import escape

import geopandas
import numpy as np
import pytest
import rasterio.shutil
import shapely

from factories import make_raster, noise
from geodistill.errors import GeodistillError
from geodistill.inference.local_only import OFFLINE
from geodistill.inference.options import PredictOptions
from geodistill.inference.predict import predict
from geodistill.raster.source import source_files
from served import serve
from tiny import tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")

LOCAL = PredictOptions(backend="torch", device="cpu", local_only=True)


def vrt(path: Path, source: str, raw: bool = False) -> Path:
    kind = ' subClass="VRTRawRasterBand"' if raw else ""
    held = (
        f'<SourceFilename relativeToVRT="{int(raw or not source.startswith(("/", "http")))}">{source}</SourceFilename>'
    )
    inner = held if raw else f"<SimpleSource>{held}<SourceBand>1</SourceBand></SimpleSource>"
    bands = "".join(f'<VRTRasterBand dataType="Byte" band="{i}"{kind}>{inner}</VRTRasterBand>' for i in (1, 2, 3))
    path.write_text(f'<VRTDataset rasterXSize="20" rasterYSize="20">{bands}</VRTDataset>')
    return path


def hidden(folder: Path, change: Callable[[str], str]) -> Path:
    """A mosaic of what lies outside, named in a way that GDAL reads as well."""
    path = vrt(folder / "m.vrt", str(folder.parent / "secret.tif"))
    path.write_text(change(path.read_text()))
    return path


def item(path: Path, href: str) -> Path:
    asset = {"href": href, "type": "image/tiff", "roles": ["data"]}
    path.write_text(json.dumps({"type": "Feature", "id": "x", "assets": {"data": asset}}))
    return path


def index(path: Path, place: str) -> Path:
    table = geopandas.GeoDataFrame({"location": [place]}, geometry=[shapely.Point(0, 0)], crs=4326)
    table.to_parquet(path)
    return path


def link(folder: Path) -> Path:
    (folder / "in.tif").symlink_to(folder.parent / "secret.tif")
    return item(folder / "i.json", "in.tif")


def tile_index(folder: Path) -> Path:
    (folder / "t.vrt").write_text("<GDALTileIndexDataset><IndexDataset>x.gpkg</IndexDataset></GDALTileIndexDataset>")
    return folder / "t.vrt"


FORBIDDEN: dict[str, Callable[[Path, str], Path | str]] = {
    "address": lambda folder, far: far,
    "vsicurl": lambda folder, far: f"/vsicurl/{far}",
    "item to an address": lambda folder, far: item(folder / "i.json", far),
    "item to vsicurl": lambda folder, far: item(folder / "i.json", f"/vsicurl/{far}"),
    "index to an address": lambda folder, far: index(folder / "i.parquet", far),
    "mosaic of an address": lambda folder, far: vrt(folder / "m.vrt", far),
    "mosaic of vsicurl": lambda folder, far: vrt(folder / "m.vrt", f"/vsicurl/{far}"),
    "mosaic of a mosaic": lambda folder, far: vrt(folder / "o.vrt", vrt(folder / "m.vrt", f"/vsicurl/{far}").name),
    "item outside": lambda folder, far: item(folder / "i.json", "../secret.tif"),
    "item outside in full": lambda folder, far: item(folder / "i.json", str(folder.parent / "secret.tif")),
    "index outside": lambda folder, far: index(folder / "i.parquet", "../secret.tif"),
    "mosaic outside": lambda folder, far: vrt(folder / "m.vrt", str(folder.parent / "secret.tif")),
    "mosaic of a mosaic in other letters": lambda folder, far: vrt(
        folder / "o.vrt", hidden(folder, lambda text: text.replace("SourceFilename", "sourcefilename")).name
    ),
    "mosaic of a mosaic with literal text": lambda folder, far: vrt(
        folder / "o.vrt", hidden(folder, lambda text: re.sub("(>)(/[^<]*)(</)", r"\1<![CDATA[\2]]>\3", text)).name
    ),
    "mosaic of a mosaic with a comment": lambda folder, far: vrt(
        folder / "o.vrt",
        hidden(folder, lambda text: text.replace(">/", "><!-- x -->/").replace('"0"', '"0" n=">"')).name,
    ),
    "mosaic of a mosaic with a blank before the name": lambda folder, far: vrt(
        folder / "o.vrt", hidden(folder, lambda text: text.replace("<SourceFilename", "< SourceFilename")).name
    ),
    "mosaic of a mosaic between comments and literal text": lambda folder, far: vrt(
        folder / "o.vrt",
        hidden(
            folder,
            lambda text: text.replace(
                "<SourceFilename", '<!-- <Option><![CDATA[ --><X a="<!--"/><SourceFilename'
            ).replace("</SourceFilename>", "</SourceFilename><!-- ]]> -->"),
        ).name,
    ),
    "raw bands": lambda folder, far: vrt(folder / "m.vrt", "../secret.tif", raw=True),
    "item to a mosaic outside": lambda folder, far: item(
        folder / "i.json", vrt(folder / "m.vrt", str(folder.parent / "secret.tif")).name
    ),
    "link": lambda folder, far: link(folder),
    "tile index": lambda folder, far: tile_index(folder),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_is_forbidden(tmp_path: Path, case: str) -> None:
    folder = tmp_path / "from a stranger"
    folder.mkdir()
    make_raster(tmp_path / "secret.tif")
    asked: list[str] = []
    with serve(tmp_path / "served") as server:
        make_raster(server.folder / "far.tif")
        plain = server.RequestHandlerClass.answer  # type: ignore[attr-defined]

        def noted(handler: object, body: bool) -> None:
            asked.append(str(handler))
            plain(handler, body)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(server.RequestHandlerClass, "answer", noted)
            named = FORBIDDEN[case](folder, f"{server.address}/far.tif")
            with pytest.raises(GeodistillError) as caught:
                predict(tiny_segmenter(), [named], tmp_path / "out.tif", LOCAL)
    assert asked == []
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.tif").exists()
    assert not set(OFFLINE) - {"NO_PROXY", "no_proxy"} & set(os.environ)


def mrf(folder: Path, named: str) -> str:
    """A raster of three bands whose description names its data, or what it is a copy of."""
    pages = '<Size x="20" y="20" c="3"/><PageSize x="20" y="20" c="3"/><Compression>NONE</Compression>'
    places = f"<DataFile>{named}</DataFile><IndexFile>{folder / 'm.idx'}</IndexFile>"
    if named.endswith(".tif"):
        return f"<MRF_META><CachedSource><Source>{named}</Source></CachedSource><Raster>{pages}</Raster></MRF_META>"
    (folder / "m.idx").write_bytes(struct.pack(">QQ", 0, 1200))
    return f"<MRF_META><Raster>{pages}{places}</Raster></MRF_META>"


@pytest.mark.parametrize(
    ("way", "named"),
    [
        ("itself", "raw.bin"),
        ("itself", "secret.tif"),
        ("in a mosaic", "raw.bin"),
        ("in a mosaic", "secret.tif"),
        ("in the text of a mosaic", "raw.bin"),
    ],
)
def test_a_description_that_names_its_data(tmp_path: Path, way: str, named: str) -> None:
    folder = tmp_path / "from a stranger"
    folder.mkdir()
    make_raster(tmp_path / "secret.tif", pixels=noise((3, 20, 20), "uint8"))
    (tmp_path / "raw.bin").write_bytes(noise((3, 20, 20), "uint8").tobytes())
    text, scene = mrf(folder, str(tmp_path / named)), folder / "m.mrf"
    scene.write_text(text)
    if way != "itself":
        scene = vrt(folder / "m.vrt", "m.mrf" if way == "in a mosaic" else escape(text))
    if way == "in the text of a mosaic":
        scene.write_text(scene.read_text().replace('relativeToVRT="1"', 'relativeToVRT="0"'))
    predict(tiny_segmenter(), [scene], tmp_path / "out.tif", replace(LOCAL, local_only=False))
    assert str(tmp_path / named) in source_files(scene)  # so that a map is not written over it either
    (tmp_path / "out.tif").unlink()
    with pytest.raises(GeodistillError, match=r"may refer to anything|lies outside"):
        predict(tiny_segmenter(), [scene], tmp_path / "out.tif", LOCAL)


def test_names_of_items_are_addresses(tmp_path: Path) -> None:
    make_raster(tmp_path / "s 1.tif")
    for href in ("s%201.tif", "s 1.tif", (tmp_path / "s 1.tif").as_uri(), f"file://localhost{tmp_path}/s%201.tif"):
        (made,) = predict(tiny_segmenter(), [item(tmp_path / "i.json", href)], tmp_path / "out.tif", LOCAL)
        assert made.path.exists()
    with pytest.raises(GeodistillError, match="no file"):
        predict(tiny_segmenter(), [item(tmp_path / "i.json", "x" * 5000)], tmp_path / "o.tif", LOCAL)


def test_what_stays_in_its_folder_is_read(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "scenes" / "below" / "s.tif")
    rasterio.shutil.copy(source, tmp_path / "scenes" / "m.vrt", driver="VRT")
    (tmp_path / "mine.tif").symlink_to(source)  # a link that the user names
    inputs = [source, tmp_path / "scenes" / "m.vrt", item(tmp_path / "scenes" / "i.json", "below/s.tif")]
    made = predict(tiny_segmenter(), [*inputs, tmp_path / "mine.tif"], tmp_path / "maps", LOCAL)
    first = None
    for one in made:
        with rasterio.open(one.path) as file:
            first = file.read() if first is None else first
            np.testing.assert_array_equal(file.read(), first)
    assert len(made) == 4


def test_a_model_must_be_here_too(tmp_path: Path) -> None:
    with pytest.raises(GeodistillError, match="a model on this machine, for --local-only"):
        predict("owner/name", [make_raster(tmp_path / "s.tif")], tmp_path / "m.tif", LOCAL)
