"""Shipped MAFLNet recipes and the tables made of them."""

import pytest

from geodistill.data.catalog.declarations import CATALOG
from geodistill.methods.maflnet.training import MaflnetRecipe
from geodistill.methods.schema import ScheduleConfig
from geodistill.papers.registry import find_table
from geodistill.papers.reproduce.planner import Planner, TrainingRun
from geodistill.papers.reproduce.row_recipe import Settings
from geodistill.training.inspect import inspect
from geodistill.training.recipe import load_recipe


def plan(table: str, label: str, settings: Settings = "printed") -> TrainingRun:
    found = find_table(table)
    return Planner("full", dict.fromkeys(CATALOG, ""), settings=settings).run(found, found.rows[label], 0)


@pytest.mark.slow
def test_rows_have_the_length_of_their_set() -> None:
    for number, steps in (("1", 26250), ("2", 26730)):
        runs = [plan(f"maflnet/{number}", label) for label in ("PSPNet", "MAFLNet-T", "MAFLNet-S")]
        assert {run.recipe.trainer.max_steps for run in runs} == {steps}
        assert {run.recipe.schedule.cycles for run in runs} == {1}
        released = [plan(f"maflnet/{number}", label, "released") for label in ("PSPNet", "MAFLNet-T", "MAFLNet-S")]
        assert {run.recipe.schedule.cycles for run in released} == {3 if number == "1" else 2}


def test_a_student_is_behind_the_very_teacher_of_its_table() -> None:
    for number in ("1", "2"):
        student, teacher = plan(f"maflnet/{number}", "MAFLNet-S"), plan(f"maflnet/{number}", "MAFLNet-T")
        (before,) = student.before
        assert before.run.key == teacher.key
        assert (before.step.into, before.step.part) == ("teacher.segmenter", "segmenter")


def test_table_3_switches_the_modules() -> None:
    switched = {}
    for label in find_table("maflnet/3").rows:
        recipe = plan("maflnet/3", label).recipe
        assert isinstance(recipe, MaflnetRecipe)
        switched[label] = (recipe.network.maca.enabled, recipe.network.lhfem.enabled)
    assert switched == {
        "Baseline": (False, False),
        "Baseline+MACA": (True, False),
        "Baseline+LHFEM": (False, True),
        "SAM2-MAFLNet": (True, True),
    }


def test_teacher_and_student_follow_the_paper() -> None:
    teacher, student = load_recipe("mafl-teacher"), load_recipe("mafl-student")
    assert isinstance(teacher, MaflnetRecipe)
    assert isinstance(student, MaflnetRecipe)
    for recipe in (teacher, student):
        assert (recipe.optimizer.lr, recipe.optimizer.encoder_lr, recipe.data.batch_size) == (6e-4, 6e-5, 4)
        assert (recipe.data.brightness, recipe.data.contrast, recipe.data.gamma) == (0, 0, 0)
    assert teacher.losses.weights == {"ce": 1.0, "dice": 1.0, "aux": 1.0}
    assert student.losses.weights == {"ce": 1.0, "dice": 1.0, "aux": 0.0, "dist_inter": 1.0, "dist_intra": 1.0}
    assert (teacher.network.maca, teacher.network.lhfem) == (student.network.maca, student.network.lhfem)
    assert (teacher.schedule, teacher.trainer) == (student.schedule, student.trainer)


def test_the_printed_preset_changes_only_the_disputed_choices() -> None:
    coherent, printed = load_recipe("mafl-teacher"), load_recipe("mafl-teacher", ["--preset", "printed"])
    assert isinstance(printed, MaflnetRecipe)
    assert (printed.network.maca.angular_norm, printed.network.maca.temperature) == (False, "divide")
    assert (printed.network.maca.norm_axis, printed.network.maca.second_map) == ("channels", "same")
    assert (printed.network.lhfem.norm_before, printed.network.lhfem.residual) == (False, False)
    assert (printed.losses.dice, printed.losses.smoothing) == ("pixel", 0.0)
    assert (printed.optimizer, printed.data) == (coherent.optimizer, coherent.data)
    assert (printed.schedule.cycles, coherent.schedule.cycles) == (1, 3)
    assert printed.network.encoder == "sam2_hiera_tiny(adapters=stage)"


@pytest.mark.slow
def test_the_student_is_weighed_as_published_without_its_teacher_and_without_flags() -> None:
    assert inspect("mafl-student", size=64).inference_parameters == 12_520_486


@pytest.mark.parametrize(("cycles", "epochs"), [(3, [0, 30, 90]), (2, [0, 70])])
def test_warm_restarts_begin_again_at_the_peak(cycles: int, epochs: list[int]) -> None:
    schedule, steps = ScheduleConfig(kind="cosine", cycles=cycles), 210
    assert [step for step in range(steps) if schedule.factor(step, steps) > 0.9999] == epochs
    ends = [*(epoch for epoch in epochs[1:]), steps]
    for begin, end in zip(epochs, ends, strict=True):
        assert schedule.factor((begin + end) // 2, steps) == pytest.approx(0.5)
        assert schedule.factor(end - 1, steps) < 0.03
    assert schedule.factor(steps, steps) == pytest.approx(0.0, abs=1e-9)
