"""Padding scored as a class: off unless asked for, marked where it is, and how far it raises the scores."""

import json
from pathlib import Path

import numpy as np
import pytest

from geodistill.cli import main
from geodistill.data.manifest import Manifest
from geodistill.errors import GeodistillWarning, RecipeError, UnknownNameError
from geodistill.evaluation.evaluate import evaluate
from geodistill.evaluation.evaluate_options import EvaluateOptions
from geodistill.evaluation.scoring import ScoringSettings
from geodistill.inference.network import as_network
from geodistill.papers.padding import Padding
from geodistill.segmenter import Segmenter

# The band network calls black its first class, c0, as a network does that has learnt padding as impervious surface.
# Images of 40 x 50, 30 x 20 and 17 x 64 pixels, padded to multiples of 16 on both sides.
PADDED = 48 * 64 - 40 * 50 + 32 * 32 - 30 * 20 + 32 * 64 - 17 * 64


def test_padding_raises_every_mean_and_the_class_it_is_taken_for(manifest: Manifest, segmenter: Segmenter) -> None:
    plain = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"))
    with pytest.warns(GeodistillWarning, match=f"{PADDED:,} of the .* are padding counted as c0"):
        raised = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"), extra=Padding("c0"))
    assert raised.oa > plain.oa
    assert raised.miou > plain.miou
    assert raised.mf1 > plain.mf1
    assert raised.iou[0] > plain.iou[0]
    np.testing.assert_array_equal(raised.iou[1:], plain.iou[1:])
    added = raised.counts - plain.counts
    assert added[0, 0] == added.sum() == PADDED


def test_the_network_is_asked_what_it_sees_there(manifest: Manifest, segmenter: Segmenter) -> None:
    plain = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"))
    with pytest.warns(GeodistillWarning):
        other = evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"), extra=Padding("c1"))
    # It sees c0, so nothing is gained by calling the padding c1.
    assert (other.counts - plain.counts)[1, 0] == PADDED
    assert other.oa < plain.oa


def test_a_larger_window_pads_more(manifest: Manifest, segmenter: Segmenter) -> None:
    assert manifest.legend is not None
    image = (as_network(segmenter), manifest.entries[0], manifest.legend, ScoringSettings())
    assert Padding("c0", 128).count(*image).counts.sum() == 128 * 128 - 40 * 50
    none = Padding("c0", 10).count(*image)
    assert none.counts.sum() == 0


def test_the_results_say_so(tmp_path: Path, manifest: Manifest, segmenter: Segmenter) -> None:
    evaluate(segmenter, manifest, out=tmp_path / "plain", options=EvaluateOptions(device="cpu"))
    with pytest.warns(GeodistillWarning):
        evaluate(
            segmenter, manifest, out=tmp_path / "padded", options=EvaluateOptions(device="cpu"), extra=Padding("c0", 64)
        )
    about = [json.loads((tmp_path / name / "metrics.json").read_text())["about"] for name in ("plain", "padded")]
    assert about[0]["padding"] is None
    pixels = 64 * 64 * 3 - 40 * 50 - 30 * 20 - 17 * 64
    assert about[1]["padding"] == {"as": "c0", "window": 64, "pixels": pixels}


def test_mistakes_are_told(manifest: Manifest, segmenter: Segmenter, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownNameError, match="c0"):
        evaluate(segmenter, manifest, options=EvaluateOptions(device="cpu"), extra=Padding("cO"))
    with pytest.raises(RecipeError, match="padding window -1"):
        Padding("c0", -1)
    command = ["evaluate", "--model", "m", "--manifest", "x", "--out", "o", "--padding-window", "64"]
    assert main(command) == 2
    assert "--padding-window without --padding-as" in capsys.readouterr().err
