"""Tables run end to end on tiny made-up sets: figures, resume, steps before rows, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import official_sets
from factories import make_raster, noise
from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import ArtifactError, DataError, OutputError, RecipeError, UnknownNameError
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce import prompt_table, runner, table_data
from geodistill.papers.reproduce import row_scores as running
from geodistill.papers.reproduce.result_table import PaperTable
from geodistill.papers.reproduce.table_data import MadeUpSets, OfficialSets
from geodistill.papers.table import Column, PaperRow, Table
from paper_tables import reproduce

pytestmark = pytest.mark.slow

TINY = ["trainer.max_steps=2", "data.crop=32", "data.batch_size=2"]
TINY_PHASE = [*TINY, "losses.phase.steps=2"]


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_data, "SIDE", 48)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the runs that were trained."""
    names: list[str] = []
    true_fit = running.fit

    def counted(recipe: object, folder: Path) -> object:
        names.append(folder.name)
        return true_fit(recipe, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "fit", counted)
    return names


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def table(out: Path) -> PaperTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_data, "SIDE", 48)
        return reproduce("ktda/2", out, overrides=TINY)


def test_every_row_of_a_table_is_run_and_scored(table: PaperTable) -> None:
    assert table.table.name == "ktda/II"
    assert [row.state for row in table.rows] == ["done"] * 4
    for row in table.rows:
        assert set(row.seeds) == {42}
        assert set(row.seeds[42]) == {"mIoU", "OA", "F1"}
        assert row.wrong_in_ours == []
        assert row.published == find_table("ktda/2").rows[row.label].figures
    assert "SMOKE RUN" in table.to_text()
    figures = [row.seeds[42]["mIoU"] for row in table.rows]
    assert all(0 <= figure <= 100 for figure in figures)


def test_the_files_hold_what_is_printed(table: PaperTable, out: Path) -> None:
    assert json.loads((out / "ktda-II-smoke.json").read_text()) == table.to_dict()
    assert (out / "ktda-II-smoke.md").read_text() == table.to_markdown()
    assert (out / "ktda-II-smoke.csv").is_file()


def test_what_is_done_is_not_run_again_by_any_table(table: PaperTable, out: Path, fits: list[str]) -> None:
    again = reproduce("ktda/II", out, overrides=TINY)
    assert again == table
    shared = reproduce("ktda/IV", out, overrides=TINY, rows=["4"])
    assert shared.rows[4].seeds == table.rows[0].seeds
    assert [row.state for row in shared.rows] == ["left out"] * 4 + ["done"]
    assert fits == []


def test_a_second_seed_adds_a_run_and_a_spread(table: PaperTable, out: Path, fits: list[str]) -> None:
    both = reproduce("ktda/2", out, overrides=TINY, rows=["all losses"], seeds=[42, 1])
    assert len(fits) == 1
    assert "seed1" in fits[0]
    full = both.rows[0]
    assert full.seeds[42] == table.rows[0].seeds[42]
    assert full.spread("mIoU") is not None
    assert "±" in both.to_text()


def test_an_interrupted_table_goes_on(tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    true_evaluate = running.evaluate

    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "evaluate", stopped)
    with pytest.raises(KeyboardInterrupt):
        reproduce("ktda/4", tmp_path, overrides=TINY, rows=["0", "1"])
    assert len(fits) == 1
    monkeypatch.setattr(running, "evaluate", true_evaluate)
    found = reproduce("ktda/4", tmp_path, overrides=TINY, rows=["0", "1"])
    assert len(fits) == 2
    assert [row.state for row in found.rows] == ["done", "done", "left out", "left out", "left out"]


def test_phase_1_is_run_once_for_all_that_need_it(tmp_path: Path, fits: list[str]) -> None:
    found = reproduce("kda/IV", tmp_path, overrides=TINY_PHASE, rows=["DCF(Ours)", "SegFormer-Head"])
    assert [name.rsplit("-seed", 1)[0] for name in fits] == ["kda-landslide-distil", "kda-landslide", "kda-landslide"]
    recipes = [path.read_text() for path in (tmp_path / "runs").glob("kda-landslide-seed*/recipe.yaml")]
    assert len(recipes) == 2
    assert all(f"encoder_weights: {tmp_path / 'runs' / fits[0] / 'encoder'}" in text for text in recipes)
    dcf = next(row for row in found.rows if row.label == "DCF(Ours)")
    assert set(dcf.seeds[42]) == {"IoU", "mIoU", "OA", "F1", "P", "F"}
    assert set(MadeUpSets(tmp_path).identity("cas-landslide").values()) != set(
        MadeUpSets(tmp_path).identity("grass").values()
    )
    assert dcf.wrong_in_ours == []


def test_a_row_is_tuned_from_what_three_sets_taught(tmp_path: Path, fits: list[str]) -> None:
    found = reproduce("samrs/3", tmp_path, overrides=TINY[:2], rows=["Mask2Former, IMP+SEP, ResNet-50"])
    assert [name.split("-seed")[0] for name in fits] == ["sep", "sep-finetune"]
    recipe = (tmp_path / "runs" / fits[1] / "recipe.yaml").read_text()
    assert f"init: {tmp_path / 'runs' / fits[0] / 'segmenter'}" in recipe
    pre_trained = (tmp_path / "runs" / fits[0] / "recipe.yaml").read_text()
    assert all(f"{name}.parquet" in pre_trained for name in ("sota", "sior", "fast"))
    (done,) = [row for row in found.rows if row.state == "done"]
    assert {"OA", "mF1", "Building"} <= set(done.seeds[42])


def test_a_student_learns_from_the_row_above_it(tmp_path: Path, fits: list[str]) -> None:
    found = reproduce("maflnet/1", tmp_path, overrides=TINY, rows=["MAFLNet-T", "MAFLNet-S"])
    assert [name.split("-seed")[0] for name in fits] == ["mafl-teacher", "mafl-student"]
    assert sum(row.state == "open" for row in found.rows) == 12
    assert found.rows[-1].published["parameters (text)"] == 12.52
    assert found.rows[-1].seeds[42]["parameters (text)"] > 0


def test_rows_that_tiny_networks_make_equal_say_so(tmp_path: Path, fits: list[str]) -> None:
    found = reproduce("kda/III", tmp_path, overrides=TINY_PHASE, rows=["KDA(Ours) / Dinov2-B", "KDA(Ours) / Dinov2-L"])
    assert len(fits) == 2
    assert "the same run as KDA(Ours) / Dinov2-L" in next(
        row.note for row in found.rows if row.label == "KDA(Ours) / Dinov2-B"
    )


def write_grass(root: Path) -> Path:
    """The grass set's official layout, small."""
    for part, count in (("train", 2), ("val", 1)):
        for number in range(count):
            name = f"{part}{number}"
            make_raster(root / "img_dir" / part / f"{name}.tif", height=32, width=32, seed=len(part) + number)
            mask = noise((1, 32, 32), seed=number) % 5
            make_raster(root / "ann_dir" / part / f"{name}.png", pixels=mask, crs=None)
    return root


def test_a_full_run_reads_the_official_set(tmp_path: Path, fits: list[str]) -> None:
    write_grass(tmp_path / "sets" / "grass")
    small = [*TINY, "network.encoder=test_convnext", "network.encoder_weights=null", "network.decoder_channels=16"]
    small += ["teacher.encoder=test_vit", "teacher.weights=null", "data.workers=0", "trainer.accelerator=cpu"]
    found = reproduce(
        "ktda/2", tmp_path / "out", scale="full", root=tmp_path / "sets", rows=["all losses"], overrides=small
    )
    full = found.rows[0]
    assert (found.scale, full.state) == ("full", "done")
    assert set(full.seeds[42]) == {"mIoU", "OA", "F1"}
    assert "SMOKE" not in found.to_text()
    assert (tmp_path / "out" / "ktda-II-full.md").is_file()
    # The set's own folder may be the root as well.
    reproduce(
        "ktda/2",
        tmp_path / "out",
        scale="full",
        root=tmp_path / "sets" / "grass",
        rows=["without L_kl"],
        overrides=small,
    )
    assert len(fits) == 2


def test_a_full_run_knows_where_images_without_position_lie(
    tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenEarthMap's files are named by their region; Potsdam, which is only scored, lies in one place."""
    official_sets.openearthmap(tmp_path / "sets" / "openearthmap")
    official_sets.potsdam(tmp_path / "sets" / "potsdam")
    small = [*TINY, "data.workers=0", "trainer.accelerator=cpu", "trainer.precision=32-true"]
    small += ["network.encoder=test_resnet", "network.encoder_weights=null", "network.width=32", "network.heads=4"]
    small += ["text.encoder=words", "data.resize=32"]
    where = {"scale": "full", "root": tmp_path / "sets", "overrides": small}
    own = reproduce("metasegnet/I", tmp_path / "out", rows=["MetaSegNet (Ours)"], **where)
    assert {"Background", "Building", "mIoU", "parameters (text)"} <= set(own.rows[-1].seeds[42])
    other = reproduce("metasegnet/VI", tmp_path / "out", rows=["MetaSegNet"], **where)
    assert set(other.rows[-1].seeds[42]) == {"IoU-Building", "IoU-Tree"}
    scored: list[Path] = []
    true_evaluate = running.evaluate
    monkeypatch.setattr(running, "evaluate", lambda s, m, *a, **k: scored.append(m) or true_evaluate(s, m, *a, **k))
    eroded = reproduce("metasegnet/VI", tmp_path / "out", rows=["MetaSegNet"], scored_layout="eroded", **where)
    assert "layout eroded" in eroded.to_text()
    assert all("noBoundary" in str(row.mask) for row in Manifest.load(scored[0]).rows("test"))
    assert len(fits) == 1


def test_a_root_of_another_set_says_what_it_looks_like(tmp_path: Path) -> None:
    write_grass(tmp_path / "set")
    with pytest.raises(DataError, match="looks like Grass"):
        reproduce("kda/II", tmp_path / "out", scale="full", root=tmp_path / "set", rows=["FCN"])
    with pytest.raises(DataError, match="no folder"):
        reproduce("kda/II", tmp_path / "out", scale="full", root=tmp_path / "nowhere", rows=["FCN"])


def test_missing_weights_are_told_before_anything_is_run(tmp_path: Path, fits: list[str]) -> None:
    write_grass(tmp_path / "set")
    with pytest.raises(ArtifactError, match=r"weights dino.pth .teacher.weights. are neither here nor at"):
        reproduce(
            "ktda/2", tmp_path / "out", scale="full", root=tmp_path / "set", overrides=["teacher.weights=dino.pth"]
        )
    assert fits == []


def test_sets_of_a_pre_training_lie_beside_each_other(tmp_path: Path) -> None:
    source = OfficialSets(tmp_path, tmp_path / "out", find_table("samrs/3"))
    with pytest.raises(DataError, match=r"no folder .*sior; expected SAMRS SIOR, from DIOR"):
        source.manifest("sior")
    names = {source.identity(name)["set"] for name in ("sota", "sior", "fast")}
    assert names == {"sota", "sior", "fast"}
    drawn = {MadeUpSets(tmp_path).manifest(name).name for name in ("sota", "sior", "fast")}
    assert drawn == {"sota.parquet", "sior.parquet", "fast.parquet"}


def test_a_model_is_scored_on_a_set_that_it_never_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = PaperRow("ours", recipe="supervised-folder", overrides={"network.encoder": "test_resnet"})
    columns = (Column("tree", "iou:tree"), Column("car", "iou:car"), Column("building", "iou:building"))
    mapping = {"tree": "tree", "car": "car"}
    table = Table(
        "x", "I", "zero-shot", "openearthmap", columns, {"ours": row}, scored_set="potsdam", class_map=mapping
    )
    monkeypatch.setattr(runner, "find_table", lambda name: table)
    found = reproduce("x/I", tmp_path, overrides=TINY)
    assert set(found.rows[0].seeds[42]) == {"tree", "car"}
    drawn = sorted(path.stem for path in (tmp_path / "data").rglob("*.parquet"))
    assert drawn == ["openearthmap", "potsdam"]


def test_a_row_that_fails_is_one_line_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    true_fit = running.fit

    def failing(recipe: Any, folder: Path) -> object:
        if recipe.network.fmm_blocks == 0:
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2 GiB")
        assert (tmp_path / "ktda-IV-smoke.json").is_file()  # the table stands as it is after each row
        return true_fit(recipe, folder)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "fit", failing)
    command = ["reproduce", "ktda/4", "--out", str(tmp_path), "--rows", "0", "1", "2", "--set", *TINY]
    assert main(command) == 2
    captured = capsys.readouterr()
    assert "failed: 0: CUDA out of memory. Tried to allocate 2 GiB" in captured.out
    assert "ktda/IV 0 failed: CUDA out of memory. Tried to allocate 2 GiB\n" in captured.err
    assert "rows of ktda/4 without figures: 0" in captured.err
    assert "(3 of 3, about 1 min left)" in captured.err
    states = [row["state"] for row in json.loads((tmp_path / "ktda-IV-smoke.json").read_text())["rows"]]
    assert states == ["failed", "done", "done", "left out", "left out"]


def test_a_number_of_seeds_stands_for_so_many(tmp_path: Path, fits: list[str]) -> None:
    assert main(["reproduce", "ktda/4", "--out", str(tmp_path), "--rows", "4", "--seeds", "2", "--set", *TINY]) == 0
    assert [name.split("-")[2] for name in fits] == ["seed42", "seed43"]
    figures = json.loads((tmp_path / "ktda-IV-smoke.json").read_text())["rows"][4]["figures"]["mIoU"]
    values = list(figures["seeds"].values())
    # Student's t of one degree of freedom is 12.706; half the difference of two is spread / sqrt(2).
    assert figures["interval"] == pytest.approx(12.7062 * abs(values[0] - values[1]) / 2, rel=1e-3, abs=1e-3)


def test_columns_of_few_labels_are_runs_of_their_own(tmp_path: Path, fits: list[str]) -> None:
    found = reproduce("samrs/5", tmp_path, overrides=TINY[:2], rows=["UNet, IMP, ResNet-50"])
    assert len(fits) == 3
    assert set(found.rows[0].seeds[42]) == {"5%", "3%", "1%"}
    assert found.rows[2].reason == "the difference of the two rows above it"


def test_hub_weights_of_every_row_are_looked_for_before_anything_is_run(
    tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_grass(tmp_path / "set")
    asked: list[str] = []

    def missing(name: str, weights: str) -> None:
        asked.append(name)
        raise ArtifactError(f"pretrained weights of {name} are not available", "weights on the hub")

    monkeypatch.setattr(table_data, "build_encoder", missing)
    with pytest.raises(ArtifactError, match=r"resnet50.tv_in1k are not available.*rows FCN, PSPNet") as caught:
        reproduce("ktda/V", tmp_path / "out", scale="full", root=tmp_path / "set")
    assert {"resnet50.tv_in1k", "mit_b0", "vit_base_patch14_dinov2"} <= set(asked)
    assert len(asked) == len(set(asked))
    assert "--rows" in str(caught.value)
    assert fits == []


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        (UnknownNameError, {"rows": ["all loses"]}, "unknown row of ktda/II 'all loses'; expected one of all losses"),
        (RecipeError, {"scale": "full"}, "--root DIR with Grass cover .KTDA.*HF XavierJiezou"),
        (RecipeError, {"root": "set"}, "a smoke run draws its own"),
        (RecipeError, {"scored_layout": "eroded"}, "made-up scenes have one layout"),
        (UnknownNameError, {"scale": "full", "root": "s", "scored_layout": "x"}, "unknown layout of grass 'x'"),
        (RecipeError, {"seeds": []}, "seeds .none."),
        (RecipeError, {"seeds": [1, 1]}, "distinct numbers"),
        (RecipeError, {"overrides": ["steps"]}, "KEY=VALUE"),
        (UnknownNameError, {"overrides": ["trainer.max_stepz=3"]}, "unknown recipe key.*trainer.max_steps"),
        (RecipeError, {"overrides": ["losses.kd_temperature=4"]}, "kd_temperature, which does nothing: losses.weights"),
        (RecipeError, {"overrides": ["all losses:teacher.cache_gb=1"]}, "cache_gb, which does nothing: teacher.cache"),
    ],
)
def test_bad_arguments_are_refused_before_any_work(
    kind: type[Exception], arguments: dict[str, object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=told):
        reproduce("ktda/2", tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_an_open_row_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"row MFFENet of kda/II cannot be run .a network that no kept library has"):
        reproduce("kda/II", tmp_path, rows=["MFFENet"])


def test_prompts_are_compared_on_made_up_objects_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_table, "SIDE", 96)
    first = reproduce("samrs/1", tmp_path, rows=["H-Box", "RH-Box"], overrides=["segmenter=box"])
    assert [row.label for row in first.rows if row.state == "done"] == ["H-Box", "RH-Box"]
    figures = first.rows[1].seeds[42]
    assert 20 < figures["mIOU_I"] <= 100
    assert 20 < figures["mIOU_P"] <= 100
    assert first.rows[1].published == {"mIOU_I": 89.97, "mIOU_P": 79.40}
    calls = []
    true_ablate = prompt_table.ablate
    monkeypatch.setattr(prompt_table, "ablate", lambda *a, **k: calls.append(a[3].prompts) or true_ablate(*a, **k))
    both = reproduce("samrs/1", tmp_path, rows=["H-Box", "CP"], overrides=["segmenter=box"])
    assert both.rows[1].seeds == first.rows[1].seeds
    assert calls == [(("cp",),)]


def test_prompts_in_full_want_hrsc2016(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no Test/Annotations; expected HRSC2016"):
        reproduce("samrs/1", tmp_path / "out", scale="full", root=tmp_path, rows=["CP"])
    with pytest.raises(UnknownNameError, match="one of segmenter"):
        reproduce("samrs/1", tmp_path / "out", rows=["CP"], overrides=["data.crop=3"])


def test_a_table_of_open_rows_is_its_published_figures(tmp_path: Path) -> None:
    found = reproduce("samrs/2", tmp_path)
    assert {row.state for row in found.rows} == {"open"}
    assert "17,480" in found.to_text()
    assert "geodistill label stats" in found.to_text()


def test_a_file_where_the_results_should_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="not a directory"):
        reproduce("ktda/2", tmp_path / "file")


def test_the_verb_prints_the_table(
    table: PaperTable, out: Path, capsys: pytest.CaptureFixture[str], fits: list[str]
) -> None:
    assert main(["reproduce", "ktda/2", "--out", str(out), "--set", *TINY]) == 0
    assert capsys.readouterr().out == table.to_text() + "\n"
    assert main(["reproduce", "ktda/2", "--out", str(out), "--set", *TINY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == table.to_dict()
    assert fits == []


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["reproduce"], "reproduce without a table"),
        (["reproduce", "ktda/99"], "unknown table"),
        (["reproduce", "ktda/2", "--scale", "large"], "--scale"),
    ],
)
def test_bad_commands_end_with_status_2(argv: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
