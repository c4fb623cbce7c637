"""Terms on feature maps against sums written out, and PHI-S against what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geodistill.errors import RecipeError
from geodistill.nn.feature_losses import (
    FeatureTerms,
    QueryAttention,
    cosine_distance,
    feature_kd,
    hidden_error,
    hide_patches,
    token_relation,
)
from geodistill.nn.phi_s import MEASURED_BATCHES, PhiS, equalising_rotation


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_features_are_matched_to_standardised_targets_of_their_shape() -> None:
    teacher = [100 * maps(2, 8, 3, 3) + 40, maps(2, 4, 2, 2)]
    expected = [(t - t.mean(1, keepdim=True)) / (t.var(1, keepdim=True, correction=0) + 1e-5).sqrt() for t in teacher]
    assert feature_kd(expected, teacher).item() == pytest.approx(0, abs=1e-6)
    assert feature_kd([torch.zeros_like(t) for t in teacher], teacher).item() == pytest.approx(1, abs=1e-3)
    with pytest.raises(RecipeError, match="project and resize"):
        feature_kd([maps(2, 8, 3, 2)], teacher[:1])


def test_cosine_is_the_mean_over_pixels_and_does_not_mind_lengths() -> None:
    student, teacher = maps(2, 3, 2, 2), maps(2, 3, 2, 2, seed=1)
    total = 0.0
    for image, row, col in np.ndindex(2, 2, 2):
        a, b = student[image, :, row, col].numpy(), teacher[image, :, row, col].numpy()
        total += 1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    assert float(cosine_distance(student, teacher)) == pytest.approx(total / 8, abs=1e-6)
    assert float(cosine_distance(7 * teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_token_relation_is_the_divergence_of_similarity_rows() -> None:
    student, teacher = maps(2, 5, 2, 3), maps(2, 4, 2, 3, seed=1)

    def rows(image: torch.Tensor) -> np.ndarray:
        pixels = image.reshape(len(image), -1).T.double().numpy()
        pixels /= np.linalg.norm(pixels, axis=1, keepdims=True)
        weights = np.exp(pixels @ pixels.T / 0.5)
        return weights / weights.sum(1, keepdims=True)

    total = sum(float((rows(t) * np.log(rows(t) / rows(s))).sum()) for s, t in zip(student, teacher, strict=True))
    assert float(token_relation(student, teacher, 0.5)) == pytest.approx(total / 12, abs=1e-6)
    turned = torch.einsum("dc,bchw->bdhw", torch.linalg.qr(maps(4, 4))[0], teacher)
    assert float(token_relation(3 * turned, teacher)) == pytest.approx(0, abs=1e-5)


def test_token_relation_of_large_maps_is_that_of_their_means() -> None:
    student, teacher = maps(1, 4, 32, 32), maps(1, 4, 32, 32, seed=1)
    means = [torch.nn.functional.avg_pool2d(each, 2) for each in (student, teacher)]
    torch.testing.assert_close(token_relation(student, teacher), token_relation(*means))


def test_query_attention_is_gkds() -> None:
    torch.manual_seed(0)
    match = QueryAttention(4)
    student, teacher = maps(2, 4, 2, 3), maps(2, 4, 2, 3, seed=1)
    own, keys = student.flatten(2).mT, teacher.flatten(2).mT
    gathered = torch.nn.functional.scaled_dot_product_attention(match.queries(own), keys, match.values(own), scale=1.0)
    torch.testing.assert_close(match(student, teacher), (gathered - keys).square().mean())


def test_terms_are_means_over_levels_and_only_those_asked_for() -> None:
    levels = [(maps(2, c, 4, 4), maps(2, c, 4, 4, seed=1)) for c in (3, 5)]
    student, teacher = zip(*levels, strict=True)
    terms = FeatureTerms(["cosine", "query", "feature"], [3, 5])
    result = terms(student, teacher)
    assert set(result) == {"cosine", "query"}
    torch.testing.assert_close(result["cosine"], sum(cosine_distance(s, t) for s, t in levels) / 2)
    result["query"].backward()
    assert all(parameter.grad is not None for parameter in terms.parameters())
    assert {key.split(".")[0] for key in terms.state_dict()} == {"query"}
    assert not list(FeatureTerms(["relation"], [3, 5]).parameters())


def test_hidden_patches_are_of_one_colour_and_the_error_is_theirs_alone() -> None:
    torch.manual_seed(0)
    image = maps(3, 2, 20, 24)
    fill = torch.tensor([5.0, 7.0])[:, None, None]
    shown, hidden = hide_patches(image, fill, 0.5, 8)
    assert hidden.shape == (3, 1, 3, 3)
    assert hidden.flatten(1).sum(1).tolist() == [4, 4, 4]
    assert not torch.equal(hidden[0], hidden[1])
    for index, row, col in np.ndindex(3, 20, 24):
        expected = fill[:, 0, 0] if hidden[index, 0, row // 8, col // 8] else image[index, :, row, col]
        assert torch.equal(shown[index, :, row, col], expected)
    teacher = maps(3, 2, 3, 3, seed=1)
    student = teacher + torch.where(hidden, 2.0, 100.0)
    assert float(hidden_error([student], [teacher], hidden)) == pytest.approx(4)


@pytest.mark.parametrize("channels", [1, 3, 8, 24])
def test_the_rotation_gives_every_channel_the_mean_variance(channels: int) -> None:
    rng = np.random.default_rng(channels)
    root = rng.normal(size=(channels, channels)) * np.geomspace(1, 100, channels)
    covariance = root.T @ root
    rotation = equalising_rotation(covariance)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(channels), atol=1e-9)
    np.testing.assert_allclose(np.diag(rotation @ covariance @ rotation.T), np.trace(covariance) / channels, rtol=1e-6)


def test_phi_s_standardises_every_channel_by_one_factor_and_is_undone() -> None:
    mixing = maps(6, 6) * torch.tensor([1e-3, 1, 1, 1, 1, 50.0])
    batches = [torch.einsum("dc,bchw->bdhw", mixing, maps(4, 6, 5, 5, seed=seed)) + 100 for seed in range(3)]
    phi = PhiS(6)
    for batch in batches:
        phi.update(batch)
    whole = torch.cat(batches)
    standard = phi.standardise(whole)
    flat = standard.transpose(0, 1).flatten(1)
    torch.testing.assert_close(flat.mean(1), torch.zeros(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(flat.std(1, correction=0), torch.ones(6), atol=1e-3, rtol=0)
    torch.testing.assert_close(phi.restore(standard), whole, rtol=1e-4, atol=1e-2)
    distances = [torch.pdist(each.transpose(0, 1).flatten(1).T[:20]) for each in (standard, whole)]
    ratio = distances[0] / distances[1]
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)


def test_phi_s_stands_still_after_its_first_batches_and_resumes_from_its_state() -> None:
    phi = PhiS(4)
    for seed in range(MEASURED_BATCHES):
        phi.update(maps(1, 4, 2, 2, seed=seed))
    state = {name: value.clone() for name, value in phi.state_dict().items()}
    phi.update(1000 * maps(1, 4, 2, 2))
    assert all(torch.equal(state[name], value) for name, value in phi.state_dict().items())
    again = PhiS(4)
    again.load_state_dict(state)
    torch.testing.assert_close(again.standardise(maps(1, 4, 2, 2)), phi.standardise(maps(1, 4, 2, 2)))
