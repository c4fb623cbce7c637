"""Features written as they come: what ends the making of them ends their writing, by its own name."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from rasterio.transform import from_origin

from class_maps import LEGEND, blobs, write_map
from geodistill.errors import DataError, OutputError
from geodistill.inference.feature_file import write_features
from geodistill.inference.map_file import read_map_grid
from geodistill.inference.options import VECTOR_FORMATS
from geodistill.inference.vector import write_vectors
from geodistill.inference.vector_tiles import write_vector_tiles
from geodistill.raster.ground import Ground

SCHEMA = pa.schema({"class": pa.int32(), "geometry": pa.binary()})
ENDS = [KeyboardInterrupt, DataError("half a map", "a whole one"), pa.ArrowInvalid("broken"), MemoryError("no more")]


def batches(end: type[KeyboardInterrupt] | Exception | None) -> Iterator[pa.RecordBatch]:
    """Yield squares; then end, by an error or a signal as a person's Ctrl-C sends it where asked for."""
    squares = shapely.to_wkb(shapely.box(np.arange(3.0), 0, np.arange(3.0) + 0.5, 1))
    yield pa.RecordBatch.from_arrays([pa.array([0, 1, 1], pa.int32()), pa.array(squares, pa.binary())], schema=SCHEMA)
    if isinstance(end, Exception):
        raise end
    if end:
        signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts what runs behind it deaf to Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kind", VECTOR_FORMATS)
@pytest.mark.parametrize("end", ENDS, ids=lambda end: getattr(end, "__name__", type(end).__name__))
def test_what_ends_the_features_is_raised_and_nothing_stays(
    end: type[KeyboardInterrupt] | Exception, kind: str, tmp_path: Path
) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5))
    expected = OutputError if isinstance(end, pa.ArrowException) else end if isinstance(end, type) else type(end)
    with pytest.raises(expected):
        write_features(tmp_path / f"map.{kind}", kind, batches(end), SCHEMA, Ground(read_map_grid(made)), LEGEND)
    assert list(tmp_path.iterdir()) == [made]


def test_what_the_caller_handles_meanwhile_is_no_failure(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5))
    try:
        raise RuntimeError("the GPU has gone")
    except RuntimeError:
        write_features(tmp_path / "map.gpkg", "gpkg", batches(None), SCHEMA, Ground(read_map_grid(made)), LEGEND)
    assert (tmp_path / "map.gpkg").exists()


def test_tiles_of_polygons_too_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5))
    polygons = write_vectors(made, "parquet").path
    read = pq.ParquetFile.iter_batches

    def stopped(file: pq.ParquetFile, size: int) -> Iterator[pa.RecordBatch]:
        yield from read(file, size)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", stopped)
    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        write_vector_tiles(made, polygons, "polygons", "pmtiles")
    assert set(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_a_signal_at_any_moment_is_told_as_one(tmp_path: Path) -> None:
    made = write_map(tmp_path / "map.tif", blobs(), "EPSG:32636", from_origin(500_000, 3.3e6, 0.5, 0.5))
    ground, before = Ground(read_map_grid(made)), signal.signal(signal.SIGALRM, signal.default_int_handler)
    stopped = 0
    try:
        for place in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0005 * (1 + place))
                write_features(tmp_path / "map.gpkg", "gpkg", batches(None), SCHEMA, ground, LEGEND)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped > 5
