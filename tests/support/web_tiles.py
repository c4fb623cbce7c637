"""A server of map tiles and of a WMS, which counts what it is asked for and can be slow, missing or broken."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from PIL import Image

EDGE = 20037508.342789244
Fault = Callable[[int, int, int], str]
"""From column, row and how often the tile was asked for, to ``ok``, ``missing``, ``broken``, ``busy`` or ``slow``."""


def pixels_at(col: np.ndarray, row: np.ndarray) -> np.ndarray:
    """The colours of pixels of level 10 by their column and row on the Earth: ``(..., 3)`` uint8."""
    return np.stack([col * 7 + row, row * 5, col + row * 3], -1).astype(np.uint8)


def capabilities(address: str) -> str:
    """A WMTS's description of its one layer, with the addresses of its tiles."""
    levels = "".join(
        f"<TileMatrix><ows:Identifier>{z}</ows:Identifier><ScaleDenominator>{559082264.0287178 / 2**z!r}"
        f"</ScaleDenominator><TopLeftCorner>{-EDGE!r} {EDGE!r}</TopLeftCorner><TileWidth>256</TileWidth>"
        f"<TileHeight>256</TileHeight><MatrixWidth>{1 << z}</MatrixWidth><MatrixHeight>{1 << z}</MatrixHeight>"
        "</TileMatrix>"
        for z in range(19)
    )
    spaces = 'xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1" version="1.0.0"'
    tiles = f"{address}/{{TileMatrix}}/{{TileCol}}/{{TileRow}}.png"
    return (
        f'<?xml version="1.0"?><Capabilities {spaces}><Contents><Layer><ows:Identifier>aerial</ows:Identifier>'
        '<Style isDefault="true"><ows:Identifier>default</ows:Identifier></Style><Format>image/png</Format>'
        "<TileMatrixSetLink><TileMatrixSet>web</TileMatrixSet></TileMatrixSetLink>"
        f'<ResourceURL format="image/png" resourceType="tile" template="{tiles}"/></Layer>'
        "<TileMatrixSet><ows:Identifier>web</ows:Identifier>"
        f"<ows:SupportedCRS>urn:ogc:def:crs:EPSG::3857</ows:SupportedCRS>{levels}</TileMatrixSet>"
        "</Contents></Capabilities>"
    )


class TileServer(http.server.ThreadingHTTPServer):
    daemon_threads = True
    asked: Counter[str]
    times: list[float]
    fault: Fault

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class TileHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TileServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path.startswith("/wmts"):
            self.answer(200, capabilities(self.server.address).encode())
            return
        query = {key.lower(): value for key, value in parse_qsl(parts.query)}
        self.server.times.append(time.monotonic())
        if "bbox" in query:
            left, _, _, top = (float(v) for v in query["bbox"].split(","))
            width, height = int(query["width"]), int(query["height"])
            size = 2 * EDGE / (256 << 10)
            col, row = round((left + EDGE) / size), round((EDGE - top) / size)
        else:
            names = parts.path.strip("/").split("/")
            col, row = (256 * int(name.split(".")[0]) for name in names[1:])
            width = height = 256
        key = f"{col // 256}/{row // 256}"
        self.server.asked[key] += 1
        fault = self.server.fault(col // 256, row // 256, self.server.asked[key])
        if fault == "slow":
            time.sleep(3)
        grid = np.meshgrid(np.arange(col, col + width), np.arange(row, row + height))
        file = io.BytesIO()
        Image.fromarray(pixels_at(*grid)).save(file, "PNG")
        codes = {"missing": 404, "busy": 503}
        self.answer(codes.get(fault, 200), file.getvalue()[: 60 if fault == "broken" else None])

    def do_HEAD(self) -> None:
        self.answer(404, b"")

    def answer(self, code: int, body: bytes) -> None:
        try:
            self.send_response(code)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(body) if code == 200 else 0))
            self.end_headers()
            if code == 200:
                self.wfile.write(body)
        except OSError:
            pass  # whoever asked had no patience

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serve_tiles() -> Iterator[TileServer]:
    """Serve tiles of any level as ``/{z}/{x}/{y}.png``, a WMTS of them, and a WMS of level 10's pixels."""
    with TileServer(("127.0.0.1", 0), TileHandler) as held:
        held.asked, held.times, held.fault = Counter(), [], lambda *_: "ok"
        thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield held
        held.shutdown()
        thread.join()
