"""Relative total variation against its definition with direct solutions, and its laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from photographs import strong_photograph
from scipy import sparse
from scipy.sparse.linalg import splu

from dpo_lib.operators import OPERATORS
from dpo_lib.operators.rtv import relative_total_variation

OPERATOR = OPERATORS["rtv"]
VALUES = OPERATOR.parameters[0].test_values


def blur(x, sigma):
    """Weighted mean in a square window of 4 sigma around each point, cut at the border; all pairs of points."""
    v, u = (axis.ravel() for axis in np.indices(x.shape))
    v, u = v[:, None] - v, u[:, None] - u
    weight = np.exp(-(v**2 + u**2) / (2 * sigma**2)) * (np.maximum(abs(v), abs(u)) <= 4 * sigma)
    return (weight @ x.ravel() / weight.sum(1)).reshape(x.shape)


def by_definition(image, lam, sigma=3.0, sharpness=0.02, iterations=4, epsilon=1e-3):
    height, width, _ = image.shape
    smooth = image
    across = sparse.kron(sparse.eye(height), sparse.diags([-1.0, 1.0], [0, 1], shape=(width - 1, width)))
    down = sparse.kron(sparse.diags([-1.0, 1.0], [0, 1], shape=(height - 1, height)), sparse.eye(width))
    for _ in range(iterations):
        matrix = sparse.eye(height * width)
        for axis, gradient in ((1, across), (0, down)):
            difference = np.diff(smooth, axis=axis)
            inherent = np.mean([np.abs(blur(difference[..., c], sigma)) for c in range(3)], axis=0)
            u = blur(1 / (inherent + epsilon), sigma)
            w = 1 / (np.abs(difference).mean(-1) + sharpness)
            matrix = matrix + lam / 2 * gradient.T @ sparse.diags((u * w).ravel()) @ gradient
        smooth = splu(matrix.tocsc()).solve(image.reshape(-1, 3)).reshape(image.shape)
        sigma = max(sigma / 2, 0.5)
    return smooth


def total_variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


@pytest.mark.parametrize("lam", VALUES)
def test_agrees_with_the_definition(lam):
    image = strong_photograph(29, 38)
    expected = by_definition(image, lam)
    assert np.abs(OPERATOR(image, lam) - expected).max() < 2e-6
    single = OPERATOR(image.astype(np.float32), lam)
    assert single.dtype == np.float32
    assert -10 * np.log10(np.mean((single - expected) ** 2)) > 90


@pytest.mark.parametrize(
    "settings", [{"iterations": 1}, {"iterations": 2}, {"sigma": 1.5}, {"sharpness": 0.05}, {"epsilon": 1e-2}]
)
def test_other_settings_reach_the_formula(settings):
    image = strong_photograph(21, 26)
    expected = by_definition(image, 0.01, **settings)
    assert np.abs(OPERATOR(image, 0.01, **settings) - expected).max() < 2e-6
    assert np.abs(OPERATOR(image, 0.01) - expected).max() > 1e-3


def test_four_parameters_for_each_image():
    operator = OPERATOR.with_parameters("lambda", "sigma", "sharpness", "iterations")
    images = np.stack([strong_photograph(21, 26, seed=s) for s in range(3)])
    values = [(0.02, 3.0, 0.02, 2), (0.005, 1.2, 0.05, 5), (0.05, 5.5, 0.01, 1)]
    results = operator(torch.from_numpy(images).permute(0, 3, 1, 2), values)
    for image, result, (lam, sigma, sharpness, iterations) in zip(images, results, values, strict=True):
        expected = by_definition(image, lam, sigma=sigma, sharpness=sharpness, iterations=iterations)
        assert np.abs(result.permute(1, 2, 0).numpy() - expected).max() < 2e-6
    assert [p.default for p in operator.parameters] == [0.01, 3, 0.02, 4]
    assert np.array_equal(operator(images[0], None), OPERATOR(images[0], 0.01))
    drawn = operator.sample(200, 0)
    assert torch.equal(drawn[:, 3], drawn[:, 3].round()) and drawn[:, 3].unique().tolist() == [1, 2, 3, 4, 5, 6]


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(strong_photograph(45, 62, seed=s)).permute(2, 0, 1) for s in range(3)])
    values = [0.002, 0.01, 0.05]
    together = OPERATOR(images, values)
    for index, value in enumerate(values):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1], value)[0], atol=1e-10)
    assert not torch.allclose(together[0], OPERATOR(images[:1], 0.05)[0], atol=1e-2)


def test_more_lambda_leaves_less_variation_and_keeps_mean_and_range():
    image = strong_photograph(45, 62)
    variation = [total_variation(image)]
    for lam in VALUES:
        result = OPERATOR(image, lam)
        assert np.allclose(result.mean((0, 1)), image.mean((0, 1)), atol=1e-6)
        assert result.min() > image.min() - 1e-6 and result.max() < image.max() + 1e-6
        variation.append(total_variation(result))
    assert all(more > less for more, less in pairwise(variation))


def test_texture_goes_and_an_edge_of_the_same_height_stays():
    image = np.full((40, 60, 3), 0.4)
    image[:, 30:] += 0.2
    image[::2, ::2] += 0.1
    image[1::2, 1::2] -= 0.1
    result = OPERATOR(image, 0.01)
    assert result[:, :26].std() < 0.005 and result[:, 34:].std() < 0.005
    assert (result[:, 30] - result[:, 29]).min() > 0.12


@pytest.mark.parametrize("size", [(4, 4), (5, 90), (31, 4)])
def test_any_size_works(size):
    image = strong_photograph(*size)
    assert np.abs(OPERATOR(image, 0.05) - by_definition(image, 0.05)).max() < 2e-6


def test_constant_image_stays():
    for value in (0.0, 0.3, 1.0):
        constant = torch.full((1, 3, 31, 38), value)
        assert torch.allclose(OPERATOR(constant, 0.05), constant, atol=1e-6)


def test_transposing_the_image_transposes_the_result():
    image = strong_photograph(45, 62)
    turned = OPERATOR(np.ascontiguousarray(image.swapaxes(0, 1)), 0.01)
    assert np.abs(turned.swapaxes(0, 1) - OPERATOR(image, 0.01)).max() < 1e-5


def test_input_is_not_changed():
    image = torch.from_numpy(strong_photograph(45, 62)).permute(2, 0, 1)[None].contiguous()
    kept = image.clone()
    OPERATOR(image, 0.05)
    assert torch.equal(image, kept)


def test_bad_values():
    image = torch.rand(1, 3, 8, 9)
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.05\] for rtv, got 0.1"):
        OPERATOR(image, 0.1)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="rtv needs lambda > 0"):
            relative_total_variation(image, wrong)
        for name in ("sigma", "sharpness", "epsilon", "iterations"):
            with pytest.raises(ValueError, match=rf"rtv needs .*{name}"):
                relative_total_variation(image, 0.01, **{name: wrong})
    with pytest.raises(ValueError, match=r"whole iterations >= 1, got .* iterations \[2.5\]"):
        relative_total_variation(image, 0.01, iterations=2.5)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    images = torch.stack([torch.from_numpy(strong_photograph(45, 62, seed=s)).permute(2, 0, 1) for s in range(2)])
    assert torch.allclose(OPERATOR(images.cuda(), [0.002, 0.05]).cpu(), OPERATOR(images, [0.002, 0.05]), atol=1e-5)
