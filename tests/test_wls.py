"""Weighted least squares filter against a direct solution of its linear system, and its laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import spsolve

from dpo_lib.operators import OPERATORS
from dpo_lib.operators.shared import five_point
from dpo_lib.operators.wls import weighted_least_squares

OPERATOR = OPERATORS["wls"]
VALUES = OPERATOR.parameters[0].test_values


def photograph(height=45, width=62, seed=0):
    """A picture with regions, an edge, texture, a ramp and black, in 8-bit values; odd sizes, never square."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.1 + 0.8 * (x > 0.6), 0.5 + 0.4 * np.sin(9 * y), 0.6 * y - 0.1], axis=-1)
    return np.rint(255 * np.clip(image + 0.04 * rng.standard_normal(image.shape), 0, 1)) / 255


def by_definition(channel, lam, alpha=1.2, epsilon=1e-4, guide=None):
    """Pair by pair into a sparse matrix, then a direct solution."""
    height, width = channel.shape
    guide = np.log(channel + epsilon) if guide is None else guide
    matrix = sparse.lil_matrix((channel.size, channel.size))
    matrix.setdiag(1.0)
    for y, x in np.ndindex(height, width):
        p = y * width + x
        for v, u in ((y + 1, x), (y, x + 1)):
            if v < height and u < width:
                q = v * width + u
                weight = lam / (abs(guide[y, x] - guide[v, u]) ** alpha + epsilon)
                matrix[p, p] += weight
                matrix[q, q] += weight
                matrix[p, q] -= weight
                matrix[q, p] -= weight
    return spsolve(matrix.tocsc(), channel.ravel()).reshape(height, width)


def total_variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


@pytest.mark.parametrize("lam", VALUES)
def test_agrees_with_the_definition(lam):
    image = photograph()
    expected = np.stack([by_definition(image[..., c], lam) for c in range(3)], axis=-1)
    assert np.abs(OPERATOR(image, lam) - expected).max() < 1e-6
    single = OPERATOR(image.astype(np.float32), lam)
    assert single.dtype == np.float32
    assert np.abs(single - expected).max() < 2e-5
    assert -10 * np.log10(np.mean((single - expected) ** 2)) > 100


@pytest.mark.parametrize("settings", [{"alpha": 0.8}, {"alpha": 0.0}, {"epsilon": 1e-2}])
def test_other_settings_reach_the_formula(settings):
    image = photograph(23, 30)
    expected = by_definition(image[..., 1], 1.0, **settings)
    assert np.abs(OPERATOR(image, 1.0, **settings)[..., 1] - expected).max() < 1e-6
    assert np.abs(OPERATOR(image, 1.0)[..., 1] - expected).max() > 1e-3


def test_guide_of_its_own():
    image, guide = photograph(23, 30), photograph(23, 30, seed=1)[..., 0]
    expected = by_definition(image[..., 1], 1.0, guide=guide)
    result = OPERATOR(image, 1.0, guide=torch.from_numpy(guide)[None, None])
    assert np.abs(result[..., 1] - expected).max() < 1e-6


@pytest.mark.parametrize("size", [(4, 4), (5, 90), (31, 4)])
def test_any_size_works(size):
    image = photograph(*size)
    assert np.abs(OPERATOR(image, 10)[..., 0] - by_definition(image[..., 0], 10)).max() < 1e-6


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(3)])
    values = [0.1, 2.0, 10.0]
    together = OPERATOR(images, values)
    for index, value in enumerate(values):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1], value)[0], atol=1e-12)
    assert not torch.allclose(together[0], OPERATOR(images[:1], 10.0)[0], atol=1e-2)


def test_more_lambda_leaves_less_variation_and_keeps_mean_and_range():
    image = photograph()
    variation = [total_variation(image)]
    for lam in VALUES:
        result = OPERATOR(image, lam)
        assert np.allclose(result.mean((0, 1)), image.mean((0, 1)), atol=1e-6)
        assert result.min() > image.min() - 1e-6 and result.max() < image.max() + 1e-6
        variation.append(total_variation(result))
    assert all(more > less for more, less in pairwise(variation))


def test_edges_stay_where_texture_goes():
    image = np.full((32, 48, 3), 0.2)
    image[:, 24:] = 0.8
    image[::2, ::2] += 0.02
    result = OPERATOR(image, 1)
    assert result[:, :20].std() < 0.005 and result[:, 28:].std() < 0.005
    assert (result[:, 24] - result[:, 23]).min() > 0.4


def test_constant_image_stays():
    for value in (0.0, 0.3, 1.0):
        constant = torch.full((1, 3, 31, 38), value)
        assert torch.allclose(OPERATOR(constant, 10), constant, atol=1e-6)


def test_transposing_the_image_transposes_the_result():
    image = photograph()
    turned = OPERATOR(np.ascontiguousarray(image.swapaxes(0, 1)), 1)
    assert np.abs(turned.swapaxes(0, 1) - OPERATOR(image, 1)).max() < 1e-6


def test_channels_do_not_mix():
    image = photograph()
    gray = np.repeat(image[..., 1:2], 3, axis=-1)
    assert np.allclose(OPERATOR(gray, 1)[..., 0], OPERATOR(image, 1)[..., 1], atol=1e-6)


def test_input_is_not_changed_and_may_lie_a_rounding_below_0():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None].contiguous() - 1e-4
    kept = image.clone()
    assert OPERATOR(image, 10).isfinite().all()
    assert torch.equal(image, kept)


def test_bad_values():
    image = torch.rand(1, 3, 8, 9)
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.1, 10\] for wls, got 0.05"):
        OPERATOR(image, 0.05)
    assert OPERATOR(image, 0.05, check_range=False).isfinite().all()
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="wls needs lambda > 0"):
            weighted_least_squares(image, wrong)
        with pytest.raises(ValueError, match="epsilon > 0"):
            weighted_least_squares(image, 1.0, epsilon=wrong)
    with pytest.raises(ValueError, match="alpha >= 0"):
        weighted_least_squares(image, 1.0, alpha=-0.1)


def test_no_convergence_is_an_error(monkeypatch):
    monkeypatch.setitem(five_point.solve.__kwdefaults__, "max_iterations", 2)
    with pytest.raises(RuntimeError, match="no convergence"):
        OPERATOR(photograph(), 10)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(2)])
    assert torch.allclose(OPERATOR(images.cuda(), [0.1, 10.0]).cpu(), OPERATOR(images, [0.1, 10.0]), atol=1e-6)
