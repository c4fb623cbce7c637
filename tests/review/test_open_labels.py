"""Labels that a review opens: those of earlier versions too, and never of other annotations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from geodistill.errors import DataError, OutputError
from geodistill.label.build_labels import build
from geodistill.label.output_folder import ABOUT, LISTS
from geodistill.review.review_labels import ReviewOptions, open_review
from reviewed import make_labels


def test_labels_of_before_lists_of_classes_counted_are_opened_and_continued(tmp_path: Path) -> None:
    settings, labels = make_labels(tmp_path)
    about = json.loads((labels / ABOUT).read_text())
    kept = about.pop(LISTS)
    (labels / ABOUT).write_text(json.dumps(about))
    with open_review(labels, ReviewOptions()):
        pass
    build(settings, labels, resume=True)
    assert json.loads((labels / ABOUT).read_text())[LISTS] == kept
    (labels / ABOUT).write_text(json.dumps(about | {LISTS: "another"}))
    with pytest.raises(DataError, match=r"annotations that .* are others now"), open_review(labels, ReviewOptions()):
        pass
    with pytest.raises(OutputError, match="the lists of classes, or annotation files without an image, are others"):
        build(settings, labels, resume=True)
