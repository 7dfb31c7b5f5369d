"""Rolling guidance filter against the double sum of its definition, and its laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from photographs import strong_photograph
from scipy import ndimage

from dpo_lib.operators.rgf import OPERATOR, rolling_guidance_filter

VALUES = OPERATOR.parameters[0].test_values


def by_definition(image, sigma_s, sigma_r=0.05, iterations=4):
    """All pairs of pixels, no cut in space, no levels; each channel is its own guide."""
    height, width, _ = image.shape
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    near = np.exp(-((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (2 * sigma_s**2))
    result = []
    for channel in np.moveaxis(image, -1, 0):
        values, guide = channel.ravel(), np.zeros(channel.size)
        for _ in range(iterations):
            weight = near * np.exp(-((guide[:, None] - guide) ** 2) / (2 * sigma_r**2))
            guide = weight @ values / weight.sum(1)
        result.append(guide.reshape(height, width))
    return np.stack(result, axis=-1)


def psnr_db(a, b):
    return -10 * np.log10(np.mean((a - b) ** 2))


def total_variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


@pytest.mark.parametrize("sigma_s", [*VALUES, 2.4, 2.6])  # the last two lie on either side of a change of method
def test_agrees_with_the_definition(sigma_s):
    image = strong_photograph()
    expected = by_definition(image, sigma_s)
    assert psnr_db(OPERATOR(image, sigma_s), expected) > 90
    single = OPERATOR(image.astype(np.float32), sigma_s)
    assert single.dtype == np.float32
    assert psnr_db(single, expected) > 90
    assert np.abs(single - OPERATOR(image, sigma_s)).max() < 1e-5


@pytest.mark.parametrize("settings", [{"sigma_r": 0.2}, {"sigma_r": 0.02}, {"iterations": 2}, {"iterations": 7}])
def test_other_settings_reach_the_formula(settings):
    image = strong_photograph()
    expected = by_definition(image, 3.25, **settings)
    assert psnr_db(OPERATOR(image, 3.25, **settings), expected) > 90
    assert psnr_db(OPERATOR(image, 3.25), expected) < 60


@pytest.mark.parametrize("sigma_s", [1, 4.0])
def test_first_iteration_is_a_normalised_gaussian(sigma_s):
    image = strong_photograph()

    def blur(x):
        return ndimage.gaussian_filter(x, (sigma_s, sigma_s, 0), mode="constant", truncate=8)

    assert np.allclose(OPERATOR(image, sigma_s, iterations=1), blur(image) / blur(np.ones_like(image)), atol=1e-3)


def test_small_structures_go_and_large_edges_stay():
    image = np.full((40, 50, 3), 0.2)
    image[:, 25:] = 0.8
    image[10:12, 8:10] = image[30:32, 36:38] = 0.5
    result = OPERATOR(image, 4.0)
    assert np.abs(result[:, :25] - 0.2).max() < 0.02 and np.abs(result[:, 25:] - 0.8).max() < 0.02
    assert OPERATOR(image, 4.0, iterations=1)[20, 25, 0] < 0.6  # the first pass alone blurs the edge


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(strong_photograph(seed=s)).permute(2, 0, 1).float() for s in range(3)])
    values = [1.0, 4.2, 10.0]
    together = OPERATOR(images, values)
    for index, value in enumerate(values):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1], value)[0], atol=1e-6)


def test_larger_sigma_leaves_less_variation_and_keeps_the_range():
    image = strong_photograph(45, 62)
    variation = [total_variation(image)]
    for sigma_s in VALUES:
        result = OPERATOR(image, sigma_s)
        assert result.min() >= image.min() and result.max() <= image.max()
        variation.append(total_variation(result))
    assert all(more > less for more, less in pairwise(variation))


def test_constant_image_and_tiny_sigma_change_nothing():
    constant = torch.full((1, 3, 9, 11), 0.3)
    assert torch.allclose(OPERATOR(constant, 5.5), constant, atol=1e-6)
    image = torch.from_numpy(strong_photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(rolling_guidance_filter(image, 0.1), image, atol=1e-12)


@pytest.mark.parametrize("sigma_s", [1.0, 6.3])
def test_flips_and_transposes_commute(sigma_s):
    image = strong_photograph()
    result = OPERATOR(image, sigma_s)
    assert np.allclose(OPERATOR(image[::-1].copy(), sigma_s), result[::-1], atol=1e-10)
    assert np.allclose(OPERATOR(image[:, ::-1].copy(), sigma_s), result[:, ::-1], atol=1e-10)
    assert np.allclose(OPERATOR(image.transpose(1, 0, 2), sigma_s), result.transpose(1, 0, 2), atol=1e-10)


def test_channels_do_not_mix():
    image = strong_photograph()
    gray = np.repeat(image[..., 1:2], 3, axis=-1)
    assert np.allclose(OPERATOR(gray, 3.25)[..., 0], OPERATOR(image, 3.25)[..., 1], atol=1e-10)


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (5, 90)])
def test_any_size_works(shape):
    image = strong_photograph(*shape)
    assert psnr_db(OPERATOR(image, 10), by_definition(image, 10)) > 90


def test_input_is_not_changed():
    image = torch.from_numpy(strong_photograph()).permute(2, 0, 1)[None].contiguous()
    kept = image.clone()
    OPERATOR(image, 3.25)
    assert torch.equal(image, kept)


def test_bad_values():
    image = torch.rand(1, 3, 8, 9)
    with pytest.raises(ValueError, match=r"sigma_s must lie in \[1, 10\] for rgf, got 0.5"):
        OPERATOR(image, 0.5)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="sigma_s > 0"):
            rolling_guidance_filter(image, wrong)
        with pytest.raises(ValueError, match="sigma_r > 0"):
            rolling_guidance_filter(image, 2.0, sigma_r=wrong)
    with pytest.raises(ValueError, match="iterations >= 1"):
        rolling_guidance_filter(image, 2.0, iterations=0)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    images = torch.stack([torch.from_numpy(strong_photograph(seed=s)).permute(2, 0, 1) for s in range(2)])
    assert torch.allclose(OPERATOR(images.cuda(), [1.0, 7.75]).cpu(), OPERATOR(images, [1.0, 7.75]), atol=1e-3)
