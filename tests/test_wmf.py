"""Weighted median filter against sorting every window, OpenCV and SciPy, and its laws."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from photographs import strong_photograph
from scipy import ndimage

from dpo_lib.images import to_uint8
from dpo_lib.operators.wmf import OPERATOR, weighted_median_filter

VALUES = OPERATOR.parameters[0].test_values


def by_definition(image, radius, sigma):
    """Sort each window of each channel and add up weights until half of them is reached."""
    result = []
    for channel in np.moveaxis(image, -1, 0):
        side = 2 * radius + 1
        windows = sliding_window_view(np.pad(channel, radius, mode="edge"), (side, side)).reshape(*channel.shape, -1)
        windows = np.sort(windows, axis=-1)
        weight = np.exp(-((windows - channel[..., None]) ** 2) / (2 * sigma**2))
        reached = np.cumsum(weight, axis=-1) >= weight.sum(-1, keepdims=True) / 2
        result.append(np.take_along_axis(windows, reached.argmax(-1)[..., None], axis=-1)[..., 0])
    return np.stack(result, axis=-1)


def total_variation(image):
    return np.abs(np.diff(image, axis=0)).sum() + np.abs(np.diff(image, axis=1)).sum()


@pytest.mark.parametrize("sigma", [25.5 / 255, 0.03, 0.5])
@pytest.mark.parametrize("radius", [1, 3, 10])
def test_weighted_median_agrees_with_the_definition(radius, sigma):
    image = strong_photograph()
    expected = by_definition(image, radius, sigma)
    assert np.array_equal(OPERATOR(image, radius, sigma=sigma), expected)
    single = OPERATOR(image.astype(np.float32), radius, sigma=sigma)
    assert single.dtype == np.float32
    assert np.mean(np.abs(single - expected) > 1e-6) < 1e-3  # a sum that meets one half within rounding may tip over


def test_range_sigma_is_the_original_by_default():
    image = torch.from_numpy(strong_photograph()).permute(2, 0, 1)[None]
    expected = by_definition(strong_photograph(), 4, 0.1)
    assert np.array_equal(weighted_median_filter(image, 4)[0].permute(1, 2, 0).numpy(), expected)
    assert not np.array_equal(OPERATOR(image, 4)[0].permute(1, 2, 0).numpy(), expected)  # the paper's plain median


@pytest.mark.parametrize("radius", range(1, 11))
def test_plain_median_is_opencv_and_scipy(radius):
    cv2 = pytest.importorskip("cv2")
    image = to_uint8(strong_photograph(41, 57))
    result = OPERATOR(image, radius)
    assert np.array_equal(result, cv2.medianBlur(image, 2 * radius + 1))
    size = (2 * radius + 1, 2 * radius + 1, 1)
    assert np.array_equal(result, ndimage.median_filter(image, size=size, mode="nearest"))


def test_very_large_sigma_is_the_plain_median():
    image = strong_photograph()
    assert np.array_equal(OPERATOR(image, 3, sigma=1e4), OPERATOR(image, 3))


@pytest.mark.parametrize("value, radius", [(3.25, 3), (5.5, 6), (6.5, 7), (7.75, 8), (1.0, 1), (1.49, 1)])
def test_radius_is_rounded_with_halves_up(value, radius):
    image = to_uint8(strong_photograph())
    assert np.array_equal(OPERATOR(image, value), OPERATOR(image, radius))


@pytest.mark.parametrize("sigma", [math.inf, 0.1])
def test_unrounded_values(sigma):
    image = np.random.default_rng(1).random((21, 30, 3))  # 630 values a channel
    exact = by_definition(image, 2, sigma)
    assert np.array_equal(OPERATOR(image, 2, sigma=sigma, levels=1000), exact)
    rounded = OPERATOR(image, 2, sigma=sigma)
    assert 0 < np.abs(rounded - exact).mean() < 0.002
    if sigma == math.inf:
        assert np.abs(rounded - exact).max() <= 0.5 / 255 + 1e-12


def test_many_levels_of_a_plain_median_take_no_table_of_weights():
    ramp = np.arange(400 * 500).reshape(400, 500, 1) / 200_000  # a table of so many values by as many: 320 GB
    image = ramp.repeat(3, axis=2)
    result = OPERATOR(image, 1, levels=200_000)
    assert np.array_equal(result, ndimage.median_filter(image, size=(3, 3, 1), mode="nearest"))


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(strong_photograph(seed=s)).permute(2, 0, 1).float() for s in range(3)])
    values = [1.0, 4.2, 10.0]
    for sigma in (math.inf, 0.1):
        together = OPERATOR(images, values, sigma=sigma)
        for index, value in enumerate(values):
            assert torch.equal(together[index], OPERATOR(images[index : index + 1], value, sigma=sigma)[0])


def test_strips_join_without_a_seam(monkeypatch):
    image = strong_photograph()
    whole = [OPERATOR(image, 4, sigma=sigma) for sigma in (math.inf, 0.1)]
    monkeypatch.setattr("dpo_lib.operators.wmf.STRIP", 7 * image.shape[1])
    for expected, sigma in zip(whole, (math.inf, 0.1), strict=True):
        assert np.array_equal(OPERATOR(image, 4, sigma=sigma), expected)


@pytest.mark.parametrize("radius", [60, 100])  # counts beyond what 8 and 16 bits hold
def test_large_windows(radius):
    image = to_uint8(strong_photograph(12, 17)) // 16 * 16
    result = OPERATOR(image, radius, check_range=False)
    size = (2 * radius + 1, 2 * radius + 1, 1)
    assert np.array_equal(result, ndimage.median_filter(image, size=size, mode="nearest"))


def test_larger_radius_leaves_less_variation():
    image = strong_photograph(45, 62)
    variation = [total_variation(image)] + [total_variation(OPERATOR(image, r)) for r in VALUES]
    assert all(more > less for more, less in pairwise(variation))
    weighted = total_variation(OPERATOR(image, 5.5, sigma=0.1))  # keeps the edges, texture with them
    assert variation[4] < weighted < 0.6 * variation[0]


def test_small_sigma_keeps_a_faint_line_that_the_plain_median_removes():
    image = np.full((15, 21, 3), 0.4)
    image[:, 10] = 0.6
    assert np.array_equal(OPERATOR(image, 2), np.full_like(image, 0.4))
    assert np.array_equal(OPERATOR(image, 2, sigma=0.05), image)


def test_constant_image_and_zero_radius_change_nothing():
    constant = torch.full((1, 3, 9, 11), 0.3)
    image = torch.rand(1, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    for sigma in (math.inf, 0.1):
        assert torch.equal(OPERATOR(constant, 5.5, sigma=sigma), constant)
        assert torch.equal(weighted_median_filter(image, 0.4, sigma=sigma), image)


@pytest.mark.parametrize("sigma", [math.inf, 0.1])
def test_flips_and_transposes_commute(sigma):
    image = strong_photograph()
    result = OPERATOR(image, 4, sigma=sigma)
    assert np.array_equal(OPERATOR(image[::-1].copy(), 4, sigma=sigma), result[::-1])
    assert np.array_equal(OPERATOR(image[:, ::-1].copy(), 4, sigma=sigma), result[:, ::-1])
    assert np.array_equal(OPERATOR(image.transpose(1, 0, 2), 4, sigma=sigma), result.transpose(1, 0, 2))


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (5, 90)])
def test_any_size_works(shape):
    image = strong_photograph(*shape)
    assert np.array_equal(OPERATOR(image, 10, sigma=0.1), by_definition(image, 10, 0.1))


def test_input_is_not_changed():
    image = torch.from_numpy(strong_photograph()).permute(2, 0, 1)[None].contiguous()
    kept = image.clone()
    for sigma in (math.inf, 0.1):
        OPERATOR(image, 3, sigma=sigma).add_(1)
    weighted_median_filter(image, 0).add_(1)
    assert torch.equal(image, kept)


def test_bad_values():
    image = torch.rand(1, 3, 8, 9)
    with pytest.raises(ValueError, match=r"radius must lie in \[1, 10\] for wmf, got 11"):
        OPERATOR(image, 11)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="radius >= 0"):
            weighted_median_filter(image, wrong)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="sigma > 0"):
            weighted_median_filter(image, 2, sigma=wrong)
    with pytest.raises(ValueError, match="levels >= 2"):
        weighted_median_filter(image, 2, levels=1)


@pytest.mark.gpu
@pytest.mark.parametrize("sigma", [math.inf, 0.1])
def test_gpu_agrees_with_cpu(sigma):
    images = torch.stack([torch.from_numpy(strong_photograph(seed=s)).permute(2, 0, 1) for s in range(2)])
    on_gpu = OPERATOR(images.cuda(), [1.0, 7.75], sigma=sigma).cpu()
    assert torch.equal(on_gpu, OPERATOR(images, [1.0, 7.75], sigma=sigma))
