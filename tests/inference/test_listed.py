"""STAC items, item collections and tile indexes of any shape: scenes, or one clear line."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from factories import make_raster
from geodistill.errors import DataError
from geodistill.inference import listed
from geodistill.inference.inputs import find_scenes

RGB = ("red", "green", "blue")
ODD: list[Any] = [None, 5, 0.5, True, "text", [], [5], [None], [[]], {}, {"a": 1}, [{"name": 5}], [{"name": []}]]


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_an_odd_asset_beside_the_mapped_one_is_passed_over(tmp_path: Path) -> None:
    assets = {"data": {"href": "a.tif", "type": "image/tiff"}, "odd": {"href": "<VRTDataset/>", "type": "image/tiff"}}
    path = write(tmp_path / "item.json", {"type": "Feature", "id": "x", "assets": assets})
    assert listed.listed_rasters(str(path)) == [str(tmp_path / "a.tif")]


def refused_or_read(path: Path) -> None:
    """Nothing but scenes or the one kind of error comes out, in one line."""
    for bands in (None, RGB, ("1", "2")):
        told = ""
        try:
            assert find_scenes([path], bands=bands, model_bands=RGB)
        except DataError as error:
            told = str(error)
        assert "\n" not in told
        assert len(told) < 2500


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_a_stac_item_with_anything_anywhere(tmp_path: Path, odd: Any) -> None:
    path = tmp_path / "item.json"
    asset = {"href": "a.tif", "roles": ["data"], "type": "image/tiff", "bands": [{"name": "red"}]}
    whole = {"type": "Feature", "id": "x", "assets": {"data": asset}}
    refused_or_read(write(path, odd))
    refused_or_read(write(path, {"type": "FeatureCollection", "features": odd}))
    refused_or_read(write(path, {"type": "FeatureCollection", "features": [odd, whole]}))
    for key in whole:
        refused_or_read(write(path, whole | {key: odd}))
    refused_or_read(write(path, whole | {"assets": {"data": odd, "other": asset}}))
    for key in (*asset, "eo:bands"):
        refused_or_read(write(path, whole | {"assets": {"data": asset | {key: odd}}}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deep"),
        ('{"type": "Feature", "id": "x", "id": "y", "assets": {}}', "'id' stands twice"),
        ('{"id": ' + "9" * 5000 + ', "assets": {}}', "is not JSON that can be used"),
        ("\ud800", "is not UTF-8"),
    ],
)
def test_text_that_is_no_json(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "item.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=says):
        find_scenes([tmp_path / "item.json"])


@pytest.mark.parametrize(
    "href",
    [
        "<VRTDataset rasterXSize='1' rasterYSize='1'/>",
        "  <VRTDataset/>",
        "WMS:http://127.0.0.1/wms.tif",
        'NETCDF:"/etc/passwd":red.tif',
        "vrt:///etc/passwd.tif?bands=1",
        "GTI:tiles.gti.gpkg.tif",
        "",
        "\0.tif",
    ],
)
def test_what_is_no_address_and_no_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, href: str) -> None:
    monkeypatch.chdir(tmp_path)  # the item is named without a folder, so nothing comes before the href
    asset = {"href": href, "type": "image/tiff", "roles": ["data"]}
    write(tmp_path / "item.json", {"type": "Feature", "id": "x", "assets": {"data": asset}})
    with pytest.raises(DataError, match=r"refers to .*expected an address or a path"):
        find_scenes(["item.json"])
    pyarrow.parquet.write_table(pyarrow.table({"location": [href]}), "tiles.parquet")
    with pytest.raises(DataError, match=r"refers to .*expected an address or a path"):
        find_scenes(["tiles.parquet"])


def test_a_file_address_is_a_path(tmp_path: Path) -> None:
    source = make_raster(tmp_path / "a b.tif")
    asset = {"href": source.as_uri(), "roles": ["data"]}
    (scene,) = find_scenes([write(tmp_path / "i.json", {"type": "Feature", "id": "x", "assets": {"data": asset}})])
    assert scene.source == str(source)
    assert scene.listed == str(tmp_path / "i.json")


INDEXES: dict[str, tuple[dict[str, Any], str]] = {
    "no rows": ({"location": pyarrow.array([], pyarrow.string())}, "has no rows"),
    "null": ({"location": ["a.tif", None]}, "location of row 1 is None"),
    "numbers": ({"location": [1, 2]}, "location of row 0 is 1"),
    "lists": ({"location": [["a.tif"]]}, r"location of row 0 is \['a.tif'\]"),
    "no column": ({f"c{i}": [1] for i in range(40)}, "with the columns c0, .* and 28 more"),
    "null assets": ({"id": ["x"], "assets": pyarrow.array([None], pyarrow.string())}, "with the assets None"),
    "text assets": ({"id": ["x"], "assets": ["a.tif"]}, "with the assets 'a.tif'"),
    "empty assets": ({"id": ["x"], "assets": [{"data": None}]}, "has 0 raster assets"),
}


@pytest.mark.parametrize("case", INDEXES)
def test_a_tile_index_of_any_shape(tmp_path: Path, case: str) -> None:
    columns, says = INDEXES[case]
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "tiles.parquet")
    with pytest.raises(DataError, match=says):
        find_scenes([tmp_path / "tiles.parquet"])


def test_a_tile_index_that_was_cut_or_altered(tmp_path: Path) -> None:
    path = tmp_path / "tiles.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"location": [f"{i}.tif" for i in range(500)]}), path)
    whole = path.read_bytes()
    for end in (0, 3, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="cannot be read"):
            find_scenes([path])
    for place in range(4, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        refused_or_read(path)


@contextmanager
def answering(write_body: Any) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            write_body(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/item.json"
    finally:
        server.shutdown()
        server.server_close()


def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 2**16)
    except OSError:
        pass


def dripping(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    dripping_on(handler)


def dripping_on(handler: http.server.BaseHTTPRequestHandler) -> None:
    try:
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.05)
    except OSError:
        pass


def dripping_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    dripping_on(handler)


def broken_off(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"type"')


def in_a_circle(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/item.json")
    handler.end_headers()


def to_a_file(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


def no_http(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"SSH-2.0-x\r\n\r\n")


@pytest.mark.slow
@pytest.mark.parametrize("answer", [endless, dripping, dripping_headers, broken_off, in_a_circle, to_a_file, no_http])
def test_an_answer_of_any_kind_ends_soon_in_one_line(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    monkeypatch.setattr(listed, "MOST_BYTES", 2**22)
    monkeypatch.setattr(listed, "SECONDS", 1.0)
    begun = time.monotonic()
    with answering(answer) as address, pytest.raises(DataError) as caught:
        find_scenes([address])
    assert time.monotonic() - begun < 20
    assert "\n" not in str(caught.value)
