"""What a page says is said as people say it: no log names, no settings in brackets, no factors of 1.0."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from geodistill.errors import OutputError
from geodistill.evaluation.comparison import ComparedModel, Comparison
from geodistill.folders import mark_folder, refuse_foreign
from geodistill.report.cost import cost_section
from geodistill.report.evaluated import Calibration
from geodistill.report.learning import curve_title
from geodistill.report.reliability_chart import confidence_section
from geodistill.report.story import plain_encoder
from geodistill.report.trained import Curve


def compared(parameters: int, speed: float) -> str:
    """The sentence on a student of 100 parameters and 10 images per second, under a teacher of these."""
    costs: dict[str, Any] = {"file_bytes": 1, "flops": 1, "miou": None, "kept": None}
    models = (
        ComparedModel("t", None, parameters, images_per_second=speed, **costs),
        ComparedModel("s", "t", 100, images_per_second=10.0, **costs),
    )
    body = str(cost_section(Comparison(models, 64, 1, "cpu", "nothing", ())).body)
    return re.findall(r"s has .*?\.(?=<)", body)[0]


def test_absolute_paths_are_named_from_the_folder_that_all_lie_in(tmp_path: Path) -> None:
    costs: dict[str, Any] = {"file_bytes": 1, "flops": 1, "miou": None, "kept": None, "images_per_second": 1.0}
    teacher, student = (str(tmp_path / "results" / name) for name in ("teacher", "distil"))
    models = (
        ComparedModel(teacher, None, 200, **costs),
        ComparedModel(student, teacher, 100, **costs),
        ComparedModel("owner/hub", None, 100, **costs),
    )
    section = cost_section(Comparison(models, 64, 1, "cpu", "nothing", ()))
    assert "distil has 2.0 times fewer parameters than its teacher teacher," in str(section.body)
    assert "owner/hub" in str(section.body)
    assert str(tmp_path) not in str(section.body)
    assert section.figures["models"][1]["name"] == student


def test_paths_are_named_whole_where_a_relative_one_ends_alike() -> None:
    costs: dict[str, Any] = {"file_bytes": 1, "flops": 1, "miou": None, "kept": None, "images_per_second": 1.0}
    models = (ComparedModel("/r/student", None, 200, **costs), ComparedModel("student", "/r/student", 100, **costs))
    body = str(cost_section(Comparison(models, 64, 1, "cpu", "nothing", ())).body)
    assert "student has 2.0 times fewer parameters than its teacher /r/student," in body


@pytest.mark.parametrize(
    ("parameters", "speed", "sentence"),
    [
        (100, 10.1, "s has as many parameters as its teacher t, is as fast here."),
        (104, 20.0, "s has as many parameters as its teacher t, is half as fast here."),
        (250, 4.0, "s has 2.5 times fewer parameters than its teacher t, is 2.5 times as fast here."),
        (50, 40.0, "s has 2.0 times more parameters than its teacher t, is 4.0 times slower here."),
    ],
)
def test_costs_are_said_as_people_say_them(parameters: int, speed: float, sentence: str) -> None:
    assert compared(parameters, speed) == sentence


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("val/miou", "Validation mIoU"),
        ("val/miou_ema", "Validation mIoU, averaged weights"),
        ("val/north.oa_ema", "Validation accuracy, north, averaged weights"),
    ],
)
def test_curves_of_averaged_weights_are_named(name: str, title: str) -> None:
    assert curve_title(Curve("", name, (1,), (0.5,))) == title


def test_an_encoder_has_its_name_alone() -> None:
    assert plain_encoder("unet mobilenetv2_100(pad_type=same)") == "unet mobilenetv2_100"


def test_the_last_label_of_the_confidence_chart_fits_into_it() -> None:
    body = str(confidence_section(Calibration(0.1, 0.2, ((0.9, 10, 0.95, 0.9),))).body)
    width = re.search(r'viewBox="0 0 ([\d.]+) ', body)
    last = [float(x) for x in re.findall(r'<text class="tick" x="([\d.]+)"[^>]*text-anchor="middle"', body)][-1]
    assert width is not None
    assert float(width[1]) - last >= 22  # half of "100 %" at the size of a tick


def test_kinds_of_folders_have_their_article(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    mark_folder(tmp_path, "run of fit", ["model"])
    with pytest.raises(OutputError, match="holds a run of fit; expected a new folder, or an evaluation"):
        refuse_foreign(tmp_path, "evaluation")
