"""SAMRS's tables from raw annotations: detection sets in their official layouts, labels, pre-training, figures."""

from __future__ import annotations

from pathlib import Path

import pytest

import official_sets
from detection_layouts import dior, dota, fair1m, hrsc
from geodistill.cli import main
from geodistill.errors import RecipeError
from geodistill.papers.registry import find_table
from paper_tables import reproduce

pytestmark = pytest.mark.slow

TINY = [
    "trainer.max_steps=2", "trainer.val_every_steps=2", "trainer.accelerator=cpu", "trainer.precision=32-true",
    "trainer.pictures=0", "data.crop=16", "data.batch_size=6", "data.workers=0", "network.encoder=test_resnet",
    "network.encoder_weights=null", "network.decoder_channels=16", "schedule.hold_steps=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets of the paper's tables below one folder, those of SAMRS as `label build` makes them of raw boxes."""
    root = tmp_path_factory.mktemp("sets")
    for name, write in (("sota", dota), ("sior", dior), ("fast", fair1m)):
        given = write(root / "raw" / name)
        assert main(["label", "build", "--preset", name, *given, "--segmenter", "box", "--out", str(root / name)]) == 0
    hrsc(root / "hrsc2016")
    side = official_sets.SIDE
    try:
        for name, official_sets.SIDE in (("potsdam", 41), ("isaid", 128)):
            official_sets.BUILDERS[name](root / name)
    finally:
        official_sets.SIDE = side
    return root


def test_raw_annotations_become_rows_of_the_tables(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    prompts = reproduce("samrs/1", out, scale="full", root=root, overrides=["segmenter=box"])
    assert [row.state for row in prompts.rows] == ["done"] * 15
    assert {figure for row in prompts.rows for figure in row.seeds[42]} == {"mIOU_I", "mIOU_P"}
    assert "; box on 2 images, 4 objects" in prompts.to_text(), "as released: an uncoloured ship takes its image out"
    monkeypatch.setattr(
        "geodistill.label.tables.write_figure", lambda *_: None
    )  # for these see tests/label/test_stats.py
    assert main(["label", "stats", "--set", *(str(root / name) for name in ("sota", "sior", "fast")),
                 "--out", str(tmp_path / "stats")]) == 0  # fmt: skip
    assert (tmp_path / "stats" / "comparison.csv").is_file()
    rows = {"3": "UNet, SEP, ResNet-50", "4": "UNet, IMP+SEP, ResNet-50", "5": "UNet, IMP+SEP, ResNet-50",
            "6": "UNet, IMP+SEP, ResNet-50"}  # fmt: skip
    for number, label in rows.items():
        table = reproduce(f"samrs/{number}", out, scale="full", root=root, rows=[label], overrides=TINY)
        (done,) = [row for row in table.rows if row.state == "done"]
        assert set(done.seeds[42]) <= {column.heading for column in find_table(f"samrs/{number}").columns}
        assert len(done.seeds[42]) >= (3 if number in "56" else 1)
    runs = sorted(path.name for path in (out / "runs").iterdir())
    assert sum(name.startswith("sep-seed") for name in runs) == 1, "one pre-training for all"
    assert sum(name.startswith("sep-finetune") for name in runs) == 8


def test_a_share_of_too_few_labels_is_told_before_the_pre_training(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"data\.fraction 0\.0[135] of 2 labelled training windows.*less than one"):
        reproduce(
            "samrs/6", tmp_path, scale="full", root=root, rows=["UNet, IMP+SEP, ResNet-50"],
            overrides=[*TINY, "data.crop=128"],
        )  # fmt: skip
    assert not list(tmp_path.rglob("sep-*"))
