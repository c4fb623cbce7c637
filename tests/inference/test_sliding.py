"""Whole-scene inference: the same numbers for any window, batch and strip, and nothing computed that has no data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy

from factories import make_raster, noise, truncate
from geodistill.errors import DataError, RecipeError, UnknownNameError
from geodistill.inference.network import as_network
from geodistill.inference.options import PredictOptions, SlidingOptions
from geodistill.inference.sliding import STEPS, confidence_of, stream
from geodistill.inference.windows import Area, Part, WindowPlan, axis_weights
from geodistill.raster import Raster, Window
from geodistill.segmenter import Segmenter
from geodistill.spec import IGNORE_INDEX
from tiny import BandNetwork, brightest, tiny_segmenter

pytestmark = pytest.mark.usefixtures("tiny_models")


def segment(
    segmenter: Segmenter,
    path: Path,
    window: Window | None = None,
    *,
    part: Part | None = None,
    **settings: Any,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return ``(K, H, W)`` probabilities and ``(H, W)`` validity of a whole raster, or of a part of it."""
    network = as_network(segmenter, tta=settings.pop("tta", "none"))
    with Raster(path) as raster:
        area = Area.whole(raster) if window is None else Area(raster, window)
        batch = PredictOptions(batch=settings.pop("batch", 4)).batch
        asked = SlidingOptions(probabilities="float32", **settings)
        windows = area.windows(network.size, asked.overlap)
        parts = list(stream(network, area, windows, asked, batch=batch, part=part))
    first = parts[0].first
    assert [p.first - first for p in parts] == np.cumsum([0, *(p.valid.shape[0] for p in parts)])[:-1].tolist()
    for found in parts:
        expected = np.where(found.valid, np.nan_to_num(found.layers["probabilities"]).argmax(0), IGNORE_INDEX)
        np.testing.assert_array_equal(found.classes, expected)
    probabilities = np.concatenate([p.layers["probabilities"] for p in parts], 1).astype(np.float32)
    return probabilities, np.concatenate([p.valid for p in parts])


@pytest.mark.slow
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from([8, 16, 33]),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
    st.sampled_from(["cosine", "none"]),
    st.integers(1, 9),
)
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_network_without_context_gives_the_pixelwise_result(
    tmp_path: Path, height: int, width: int, tile: int, overlap: float, blend: str, batch_size: int
) -> None:
    pixels = noise((3, height, width))
    path = make_raster(tmp_path / "scene.tif", pixels=pixels)
    segmenter = tiny_segmenter(tile=tile)
    found, valid = segment(segmenter, path, overlap=overlap, blend=blend, batch=batch_size)
    with torch.no_grad():
        expected = segmenter(torch.from_numpy(pixels[None]).float()).softmax(1)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert valid.all()


def test_windows_with_context_are_blended_as_over_the_whole_scene(tmp_path: Path) -> None:
    pixels = noise((3, 75, 61), seed=3)
    path = make_raster(tmp_path / "scene.tif", pixels=pixels)
    segmenter, tile = tiny_segmenter("context", tile=32), 32
    plan = WindowPlan.of(75, 61, tile, 0.25)
    tops, lefts = plan.tops, plan.lefts
    factors = axis_weights(tops, tile, "cosine"), axis_weights(lefts, tile, "cosine")
    total, weight = np.zeros((3, 75, 61)), np.zeros((75, 61))
    for i, top in enumerate(tops):
        for j, left in enumerate(lefts):
            part = np.s_[top : top + tile, left : left + tile]
            with torch.no_grad():
                logits = segmenter(torch.from_numpy(pixels[(slice(None), *part)][None]).float())
            factor = np.outer(factors[0][i], factors[1][j])
            total[(slice(None), *part)] += factor * logits.softmax(1)[0].numpy()
            weight[part] += factor
    found, _ = segment(segmenter, path)
    np.testing.assert_allclose(found, total / weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)


def test_any_batch_size_gives_the_same_map(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "scene.tif", height=200, width=300)
    segmenter = tiny_segmenter("context", tile=48)
    first, _ = segment(segmenter, path, batch=1)
    for batch_size in (2, 5, 64):
        again, _ = segment(segmenter, path, batch=batch_size)
        np.testing.assert_allclose(again, first, rtol=1e-5, atol=1e-6)
        assert (again.argmax(0) != first.argmax(0)).mean() <= 1e-5
    same, _ = segment(segmenter, path, batch=1)
    np.testing.assert_array_equal(same, first)


def test_a_part_of_a_raster_is_segmented_as_if_it_were_all(tmp_path: Path) -> None:
    pixels = noise((3, 80, 90))
    segmenter = tiny_segmenter("context", tile=32)
    whole = make_raster(tmp_path / "whole.tif", pixels=pixels)
    cut = make_raster(tmp_path / "cut.tif", pixels=pixels[:, 11:61, 20:85])
    part, _ = segment(segmenter, whole, Window(11, 20, 50, 65))
    np.testing.assert_array_equal(part, segment(segmenter, cut)[0])


def test_an_image_smaller_than_a_window_is_padded_with_zeros_and_cropped(tmp_path: Path) -> None:
    pixels = noise((3, 20, 11))
    segmenter = tiny_segmenter("context", tile=32)
    padded = torch.zeros(1, 3, 32, 32)
    padded[0, :, :20, :11] = torch.from_numpy(pixels).float()
    found, valid = segment(segmenter, make_raster(tmp_path / "small.tif", pixels=pixels))
    with torch.no_grad():
        expected = segmenter(padded).softmax(1)[0, :, :20, :11].numpy()
    assert valid.shape == (20, 11)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def network_of(segmenter: Segmenter) -> BandNetwork:
    network = segmenter.network.network
    assert isinstance(network, BandNetwork)
    return network


def test_windows_without_data_never_reach_the_network(tmp_path: Path) -> None:
    pixels = noise((3, 64, 64))
    pixels[:, :, 16:] = 0
    pixels[:, 20:] = 0
    segmenter = tiny_segmenter(tile=16)
    found, valid = segment(segmenter, make_raster(tmp_path / "a.tif", pixels=pixels, nodata=0), overlap=0)
    assert network_of(segmenter).windows == 2
    np.testing.assert_array_equal(valid, (pixels > 0).all(0))
    np.testing.assert_array_equal(found.argmax(0)[valid], brightest(pixels)[valid])
    assert np.isnan(found[:, ~valid]).all()
    assert np.isfinite(found[:, valid]).all()


def test_a_raster_without_any_data_costs_nothing(tmp_path: Path) -> None:
    segmenter = tiny_segmenter(tile=16)
    path = make_raster(tmp_path / "a.tif", pixels=np.zeros((3, 40, 40), np.uint8), nodata=0)
    _, valid = segment(segmenter, path)
    assert not valid.any()
    assert network_of(segmenter).windows == 0


def test_each_window_is_computed_once(tmp_path: Path) -> None:
    segmenter = tiny_segmenter(tile=16)
    segment(segmenter, make_raster(tmp_path / "a.tif", height=100, width=60), overlap=0.25)
    assert network_of(segmenter).windows == WindowPlan.of(100, 60, 16, 0.25).count


def test_flips_average_over_four_mirrors(tmp_path: Path) -> None:
    pixels = noise((3, 32, 32))
    segmenter = tiny_segmenter("context", tile=32)
    image = torch.from_numpy(pixels[None]).float()
    with torch.no_grad():
        mirrors = [segmenter(image.flip(axes)).softmax(1).flip(axes) for axes in ([], [3], [2], [2, 3])]
    found, _ = segment(segmenter, make_raster(tmp_path / "a.tif", pixels=pixels), tta="flips")
    np.testing.assert_allclose(found, torch.stack(mirrors).mean(0)[0].numpy(), rtol=1e-4, atol=1e-6)
    assert abs(found - segment(segmenter, tmp_path / "a.tif")[0]).max() > 1e-3


def test_a_raster_with_other_bands_is_refused(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "four.tif", channels=4)
    with pytest.raises(DataError, match=r"four.tif has 4 bands; expected 3 \(b0, b1, b2\) for this model"):
        segment(tiny_segmenter(), path)


@pytest.mark.parametrize("overlap", [-0.1, 0.8, float("nan")])
def test_an_overlap_out_of_range(tmp_path: Path, overlap: float) -> None:
    with pytest.raises(RecipeError, match="overlap"):
        segment(tiny_segmenter(), make_raster(tmp_path / "a.tif"), overlap=overlap)


def test_an_unknown_blending_and_an_empty_batch(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif")
    with pytest.raises(UnknownNameError, match="unknown blending 'cosin'; expected one of cosine"):
        segment(tiny_segmenter(), path, blend="cosin")
    with pytest.raises(RecipeError, match="batch size 0"):
        segment(tiny_segmenter(), path, batch=0)


def test_a_file_that_ends_in_the_middle_of_the_scene(tmp_path: Path) -> None:
    path = truncate(make_raster(tmp_path / "a.tif", height=400, width=100, tiled=True))
    with pytest.raises(DataError, match=r"a\.tif is truncated or corrupt at row"):
        segment(tiny_segmenter(), path)


def test_the_reader_has_ended_when_a_stream_is_closed_early(tmp_path: Path) -> None:
    with Raster(make_raster(tmp_path / "a.tif", height=300, width=50)) as raster:
        area, options = Area.whole(raster), SlidingOptions()
        rows = stream(as_network(tiny_segmenter()), area, area.windows(16, 0.25), options, batch=4)
        next(rows)
        rows.close()
        assert raster.read(Window(0, 0, 5, 5))[1].all()


def test_turns_and_mirrors_average_over_eight(tmp_path: Path) -> None:
    pixels = noise((3, 32, 32))
    segmenter = tiny_segmenter("context", tile=32)
    image = torch.from_numpy(pixels[None]).float()
    with torch.no_grad():
        turned = [torch.rot90(image, k, (2, 3)) for k in range(4)]
        every = [torch.rot90(segmenter(t).softmax(1), -k, (2, 3)) for k, t in enumerate(turned)]
        mirrored = [torch.rot90(image.flip(3), k, (2, 3)) for k in range(4)]
        every += [torch.rot90(segmenter(t).softmax(1), -k, (2, 3)).flip(3) for k, t in enumerate(mirrored)]
    found, _ = segment(segmenter, make_raster(tmp_path / "a.tif", pixels=pixels), tta="d4")
    np.testing.assert_allclose(found, torch.stack(every).mean(0)[0].numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_readers_gives_the_same_bits(tmp_path: Path, threads: int) -> None:
    path = make_raster(tmp_path / "a.tif", height=300, width=90, tiled=True)
    segmenter = tiny_segmenter("context", tile=32)
    found, _ = segment(segmenter, path, readers=threads)
    np.testing.assert_array_equal(found, segment(segmenter, path)[0])


@pytest.mark.parametrize("overlap", [0.25, 0.75])
def test_rows_from_the_middle_are_the_same_bits(tmp_path: Path, overlap: float) -> None:
    path = make_raster(tmp_path / "a.tif", height=200, width=90)
    segmenter = tiny_segmenter("context", tile=32)
    whole, _ = segment(segmenter, path, overlap=overlap)
    plan = WindowPlan.of(200, 90, 32, overlap)
    for first in (1, 4, len(plan.tops) - 1):
        part = Part(first, len(plan.tops), 0, len(plan.lefts))
        found, _ = segment(segmenter, path, part=part, overlap=overlap)
        np.testing.assert_array_equal(found, whole[:, plan.tops[first] :])


@pytest.mark.slow
def test_what_cannot_be_read_becomes_a_hole_where_asked_for(tmp_path: Path) -> None:
    path = make_raster(tmp_path / "a.tif", height=300, width=200, tiled=True)
    whole, _ = segment(tiny_segmenter(), path)
    with Raster(truncate(path)) as raster:
        area, options = Area.whole(raster), SlidingOptions(keep_going=True)
        parts = list(stream(as_network(tiny_segmenter()), area, area.windows(16, 0.25), options, batch=4))
    holes = [hole for part in parts for hole in part.holes]
    unread = np.zeros((300, 200), bool)
    for hole in holes:
        assert "truncated or corrupt" in hole.reason
        unread[hole.window.slices] = True
    assert 0.2 < unread.mean() < 0.8
    valid = np.concatenate([part.valid for part in parts])
    np.testing.assert_array_equal(valid, ~unread)
    # Windows that reach a hole see zeros there, as at the edge of nodata; this network looks at no neighbour.
    classes = np.concatenate([part.classes for part in parts])
    np.testing.assert_array_equal(classes[valid], whole.argmax(0)[valid])
    assert (classes[unread] == IGNORE_INDEX).all()


def test_holes_are_told_with_the_rows_they_lie_in_wherever_a_run_begins(tmp_path: Path) -> None:
    path = truncate(make_raster(tmp_path / "a.tif", height=300, width=200, tiled=True), 0.4)
    segmenter, settings = tiny_segmenter(tile=48), SlidingOptions(keep_going=True)
    with Raster(path) as raster:
        area, plan = Area.whole(raster), WindowPlan.of(300, 200, 48, 0.25)
        told = {rows.row: rows.holes for rows in stream(as_network(segmenter), area, plan, settings, batch=4)}
        assert len([row for row, holes in told.items() if holes]) > 3
        # Each new row is told of once: with the first strip that has it.
        bottoms = [top + plan.size for top in plan.tops]
        for row, holes in told.items():
            first = bottoms[row - 1] if row else 0
            assert all(first <= h.window.row and h.window.row + h.window.height <= bottoms[row] for h in holes)
        for begun in (1, 4, len(plan.tops) - 1):
            part = Part(begun, len(plan.tops), 0, len(plan.lefts))
            for rows in stream(as_network(segmenter), area, plan, settings, batch=4, part=part):
                assert rows.holes == told[rows.row]


@pytest.mark.parametrize(("tile", "overlap"), [(64, 0.25), (80, 0.5), (100, 0.0), (40, 0.25)])
def test_each_block_of_the_file_is_read_for_one_strip_alone(
    tmp_path: Path, tile: int, overlap: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_raster(tmp_path / "a.tif", height=700, width=90, tiled=True)  # in blocks of 64
    read: list[Window] = []
    plain = Area.read

    def note(self: Area, part: Window) -> Any:
        read.append(part)
        return plain(self, part)

    monkeypatch.setattr(Area, "read", note)
    segment(tiny_segmenter(tile=tile), path, overlap=overlap)
    edges = [read[0].row, *(window.row + window.height for window in read)]
    assert (edges[0], edges[-1]) == (0, 700)
    assert [window.row for window in read] == edges[:-1]
    if tile >= 64:
        assert all(edge % 64 == 0 for edge in edges[:-1])


def test_how_sure_the_network_is() -> None:
    """Against sorting and SciPy's entropy; one class is sure, equal classes are not."""
    probabilities = torch.rand(5, 7, 9, generator=torch.Generator().manual_seed(0)) ** 3
    probabilities /= probabilities.sum(0)
    highest = probabilities.amax(0)
    ordered = np.sort(probabilities.numpy(), axis=0)
    expected = {
        "probability": ordered[-1],
        "margin": ordered[-1] - ordered[-2],
        "entropy": 1 - entropy(probabilities.numpy(), base=5, axis=0),
    }
    for kind, values in expected.items():
        np.testing.assert_allclose(confidence_of(probabilities, highest, kind), values, atol=1e-6)
        certain = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
        assert confidence_of(certain, certain.amax(0), kind).item() == 1
        assert confidence_of(torch.ones(1, 2, 2), torch.ones(2, 2), kind).eq(1).all()
    for kind in ("margin", "entropy"):
        assert confidence_of(torch.full((4, 1, 1), 0.25), torch.full((1, 1), 0.25), kind).item() == pytest.approx(0)


def test_the_layer_of_confidence_is_the_kind_asked_for(tmp_path: Path) -> None:
    segmenter = tiny_segmenter("context", classes=3)
    with Raster(make_raster(tmp_path / "scene.tif", height=30, width=40)) as raster:
        layers = {
            kind: segmenter.predict(
                raster, probabilities=True, options=PredictOptions(confidence_as=kind, backend="torch")
            )
            for kind in ("probability", "margin", "entropy")
        }
    for kind, made in layers.items():
        assert made.probabilities is not None
        ours = torch.from_numpy(made.probabilities)
        steps = np.rint(confidence_of(ours, ours.amax(0), kind).numpy() * STEPS)
        assert np.abs(made.confidence * STEPS - steps).max() <= 1
        assert (made.classes == layers["probability"].classes).all()
