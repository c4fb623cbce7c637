"""A manifest at hand and its file: what a recipe names is what was meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from factories import make_dataset
from geodistill.data.manifest import Manifest
from geodistill.data.scan import scan
from geodistill.data.written_manifest import written_file
from geodistill.errors import RecipeError
from geodistill.spec import Legend


@pytest.fixture
def town(tmp_path: Path) -> Path:
    folder = make_dataset(tmp_path / "town", 6)
    scan(folder, None, folder / "m.parquet", legend=Legend(("class0", "class1", "class2")))
    return folder / "m.parquet"


def test_a_manifest_as_its_file_has_it(town: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = Manifest.load(town)
    assert written_file(manifest) == town
    monkeypatch.chdir(town.parent)
    assert written_file(Manifest.load(town.name)) == Path(town.name)
    entries = [replace(row, image=Path(row.image.relative_to(Path.cwd()))) for row in manifest.entries]
    relative = replace(manifest, entries=tuple(entries)).save("other.parquet")
    assert written_file(relative) == Path("other.parquet")
    assert written_file(replace(manifest, statistics=None)) == town  # which are measured anew where they are missing


def test_a_file_that_holds_another_one_by_now_is_refused(town: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(town)
    few = replace(manifest, entries=manifest.entries[:3])
    with pytest.raises(RecipeError, match=r"a manifest of 3 rows, where .* holds another one by now"):
        written_file(few)
    assert written_file(few.save(tmp_path / "few.parquet")) == tmp_path / "few.parquet"
    few.save(town)  # as a second scan under the default name
    with pytest.raises(RecipeError, match="to a name of its own"):
        written_file(manifest)
    with pytest.raises(RecipeError, match="was not written"):
        written_file(replace(manifest, path=None))
