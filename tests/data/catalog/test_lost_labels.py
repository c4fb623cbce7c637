"""Pixels that lose their label are counted by their value, and a set that loses its foreground is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from factories import make_raster
from geodistill.cli import main
from geodistill.data.catalog.declarations import CATALOG
from geodistill.data.catalog.find import scan_set
from geodistill.data.check import check
from geodistill.data.scan import scan
from geodistill.data.statistics import Statistics
from geodistill.errors import DataError
from geodistill.spec import Legend
from official_sets import BUILDERS

CAS = CATALOG["cas-landslide"]


def recode(root: Path, site: str = "*") -> None:
    """Write the landslides of a CAS set as 255."""
    for path in sorted(root.glob(f"{site}/mask/*.tif")):
        with rasterio.open(path, "r+") as mask:
            values = mask.read(1)
            mask.write(np.where(values == 1, 255, values).astype(np.uint8), 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_landslides_coded_255_are_refused_and_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    BUILDERS["cas-landslide"](tmp_path / "set")
    assert scan_set(CAS, tmp_path / "set", tmp_path / "m.parquet").manifest.problems == ()
    recode(tmp_path / "set")
    with pytest.raises(DataError, match=r"no class but one has a pixel.*255 \(\d+\.\d% of the pixels\).*landslide 1"):
        scan_set(CAS, tmp_path / "set", tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
    flags = ["--root", str(tmp_path / "set"), "--out", str(tmp_path / "all.parquet")]
    assert main(["data", "scan", "--dataset", "cas-landslide", *flags]) == 2
    assert "recode the masks" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_one_site_coded_255_is_a_problem_that_names_value_and_count(tmp_path: Path) -> None:
    BUILDERS["cas-landslide"](tmp_path / "set")
    recode(tmp_path / "set", "Wenchuan")
    manifest = scan_set(CAS, tmp_path / "set", tmp_path / "some.parquet").manifest
    assert manifest.statistics is not None
    assert list(manifest.statistics.unknown_labels) == ["255"]
    assert manifest.problems
    assert all("Wenchuan" in problem and "has label 255" in problem for problem in manifest.problems)
    assert {finding.kind for finding in check(manifest) if finding.severity == "error"} >= {"unknown_label"}


def test_scan_and_check_report_the_share_of_each_ignored_value(tmp_path: Path) -> None:
    pixels = np.zeros((1, 10, 10), np.uint8)
    pixels[0, :3], pixels[0, 3, :5], pixels[0, 5:] = 255, 9, 1
    for name in ("a", "b", "c"):
        image = np.arange(100, dtype=np.uint8).reshape(1, 10, 10) + ord(name)
        make_raster(tmp_path / "images" / f"{name}.tif", pixels=image)
        make_raster(tmp_path / "masks" / f"{name}.tif", pixels=pixels)
    legend = Legend(("ground", "roof"), ignore_values=(9, 255))
    report = scan(tmp_path, None, tmp_path / "m.parquet", legend=legend)
    line = "mask values that are ignored, as the legend says: 255 (30.0% of the pixels), 9 (5.0% of the pixels)"
    assert line in report.to_dict()["notes"]
    findings = [finding for finding in check(report.manifest) if finding.kind == "ignored_labels"]
    assert [(finding.message, finding.severity) for finding in findings] == [(line, "warning")]
    statistics = report.manifest.statistics
    assert statistics is not None
    assert statistics.ignored_labels == {"255": 90, "9": 15}
    written = statistics.to_dict()
    assert Statistics.from_dict(written) == statistics
    del written["ignored_labels"]  # as in manifests of before
    assert Statistics.from_dict(written).ignored_labels == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_with_a_fourth_band_is_read_by_its_first_three(tmp_path: Path) -> None:
    BUILDERS["cas-landslide"](tmp_path / "set")
    changed = tmp_path / "set" / "Wenchuan" / "img" / "We3.tif"
    with rasterio.open(changed) as file:
        pixels, profile = file.read(), file.profile | {"count": 4, "photometric": "minisblack"}
    with rasterio.open(changed, "w", **profile) as file:
        file.write(np.concatenate([pixels, np.full_like(pixels[:1], 7)]))
    manifest = scan_set(CAS, tmp_path / "set", tmp_path / "out" / "m.parquet").manifest
    assert manifest.problems == ()
    assert manifest.bands == ("red", "green", "blue")
    copies = [row.image for row in manifest.entries if not row.image.is_relative_to(tmp_path / "set")]
    assert copies == [tmp_path / "out" / "cas-landslide-first-bands" / "Wenchuan" / "We3.tif"]
    with rasterio.open(copies[0]) as file:
        assert np.array_equal(file.read(), pixels)
    written = copies[0].stat().st_mtime_ns
    scan_set(CAS, tmp_path / "set", tmp_path / "out" / "m.parquet")
    assert copies[0].stat().st_mtime_ns == written
    with rasterio.open(changed, "w", **profile) as file:
        file.write(np.concatenate([pixels + 1, np.full_like(pixels[:1], 7)]))
    scan_set(CAS, tmp_path / "set", tmp_path / "out" / "m.parquet")
    with rasterio.open(copies[0]) as file:
        assert np.array_equal(file.read(), pixels + 1)
