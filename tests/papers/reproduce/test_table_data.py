"""Where a table's set lies."""

import shutil
from pathlib import Path

import official_sets
from geodistill.data.manifest import Manifest
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.table_data import OfficialSets


def test_a_set_is_found_under_the_name_of_its_official_zip(tmp_path: Path) -> None:
    official_sets.grass(tmp_path / "sets" / "grass")
    official_sets.l8_biome_patches(tmp_path / "cloud")
    archive = shutil.make_archive(str(tmp_path / "sets" / "cloud"), "zip", tmp_path / "cloud")
    shutil.rmtree(tmp_path / "cloud")
    source = OfficialSets(Path(archive).parent, tmp_path / "out", find_table("ktda/VI"))
    assert Manifest.load(source.manifest("l8-biome-patches")).rows("test")
