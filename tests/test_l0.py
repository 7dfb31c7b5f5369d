"""L0 smoothing against a plain NumPy computation of the paper's formula, and its laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from photographs import photograph

from dpo_lib.operators import OPERATORS
from dpo_lib.operators.l0 import l0_smoothing

OPERATOR = OPERATORS["l0"]


def l0_by_definition(image, lam, kappa=2.0, beta_max=1e5):
    """Eqs. 8 and 12 of Xu et al. with full complex transforms of explicit difference filters."""
    height, width = image.shape[:2]
    dx, dy = np.zeros((height, width)), np.zeros((height, width))
    dx[0, 0], dx[0, -1] = -1, 1  # convolution with this is S[x + 1] - S[x]
    dy[0, 0], dy[-1, 0] = -1, 1
    fx, fy = np.fft.fft2(dx)[..., None], np.fft.fft2(dy)[..., None]
    spectrum = np.fft.fft2(image, axes=(0, 1))
    smooth, beta = image.copy(), 2 * lam
    while beta < beta_max:
        current = np.fft.fft2(smooth, axes=(0, 1))
        h = np.fft.ifft2(fx * current, axes=(0, 1)).real
        v = np.fft.ifft2(fy * current, axes=(0, 1)).real
        small = (h**2 + v**2).sum(-1) < lam / beta
        h[small] = v[small] = 0
        right = np.conj(fx) * np.fft.fft2(h, axes=(0, 1)) + np.conj(fy) * np.fft.fft2(v, axes=(0, 1))
        smooth = np.fft.ifft2(
            (spectrum + beta * right) / (1 + beta * (np.abs(fx) ** 2 + np.abs(fy) ** 2)), axes=(0, 1)
        ).real
        beta *= kappa
    return smooth


@pytest.mark.parametrize("lam", OPERATOR.parameters[0].test_values)
def test_agrees_with_the_definition(lam):
    image = photograph()
    expected = l0_by_definition(image, lam)
    assert np.abs(OPERATOR(image, lam) - expected).max() < 1e-6
    single = OPERATOR(image.astype(np.float32), lam)
    assert single.dtype == np.float32
    assert -10 * np.log10(np.mean((single - expected) ** 2)) > 60


def test_other_settings_reach_the_formula():
    image = photograph()
    expected = l0_by_definition(image, 0.02, kappa=1.5, beta_max=1e3)
    assert np.abs(OPERATOR(image, 0.02, kappa=1.5, beta_max=1e3) - expected).max() < 1e-6
    assert np.abs(OPERATOR(image, 0.02) - expected).max() > 1e-4


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(3)])
    values = [0.002, 0.03, 0.2]
    together = OPERATOR(images, values)
    for index, value in enumerate(values):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1], value)[0], atol=1e-12)


def test_more_lambda_leaves_fewer_edges_and_less_variation():
    image = photograph()
    results = [OPERATOR(image, lam) for lam in OPERATOR.parameters[0].test_values]
    variation = [np.abs(np.diff(r, axis=0)).sum() + np.abs(np.diff(r, axis=1)).sum() for r in results]
    assert all(more > less for more, less in pairwise(variation))
    edges = [(np.abs(np.diff(r, axis=1)).sum(-1) > 1e-3).mean() for r in results]
    assert edges[0] > 2 * edges[-1]


def test_mean_stays_and_periodic_shift_commutes():
    image = photograph()
    result = OPERATOR(image, 0.02)
    assert np.allclose(result.mean((0, 1)), image.mean((0, 1)), atol=1e-10)
    shifted = OPERATOR(np.roll(image, (5, 11), axis=(0, 1)), 0.02)
    assert np.allclose(shifted, np.roll(result, (5, 11), axis=(0, 1)), atol=1e-9)


def test_input_is_not_changed():
    image = photograph()
    kept = image.copy()
    OPERATOR(image, 0.2)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    OPERATOR(tensor, 0.2)
    assert np.array_equal(image, kept) and np.array_equal(tensor[0].numpy(), image.transpose(2, 0, 1))


@pytest.mark.parametrize("value", [0.0019, 0.5, -1.0])
def test_value_outside_the_range(value):
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.2\] for l0, got"):
        OPERATOR(photograph(), value)


def test_the_function_itself_takes_any_positive_lambda():
    image = torch.rand(1, 3, 20, 24)
    assert l0_smoothing(image, 1.0).std() < image.std()
    with pytest.raises(ValueError, match="lambda > 0"):
        l0_smoothing(image, 0.0)
    with pytest.raises(ValueError, match="kappa > 1"):
        l0_smoothing(image, 0.1, kappa=1.0)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(OPERATOR(image.cuda(), 0.02).cpu(), OPERATOR(image, 0.02), atol=1e-6)
