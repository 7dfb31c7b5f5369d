"""Shock filter against steps worked out by hand, a pixel-by-pixel reading of the formula, and its laws."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from dpo_lib.operators.shock import OPERATOR, shock_filter


def photograph(height=29, width=38, seed=0):
    """A blurred picture with an edge, texture and a ramp; odd sizes, never square."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.2 + 0.5 * (x > 0.6), 0.5 + 0.3 * np.sin(9 * y), 0.3 + 0.4 * y], axis=-1)
    return np.clip(ndimage.gaussian_filter(image + 0.2 * rng.standard_normal(image.shape), (1.5, 1.5, 0)), 0, 1)


def gray(u):
    return np.repeat(np.asarray(u, float)[..., None], 3, axis=-1)


def minmod(a, b):
    return 0.0 if a * b <= 0 else math.copysign(min(abs(a), abs(b)), a)


def by_definition(u, iterations, dt):
    """One pixel after the other, with explicit borders."""
    height, width = u.shape
    for _ in range(iterations):
        after = u.copy()
        for i in range(height):
            for j in range(width):

                def at(di, dj, i=i, j=j, u=u):
                    return u[min(max(i + di, 0), height - 1), min(max(j + dj, 0), width - 1)]

                u_x, u_y = (at(0, 1) - at(0, -1)) / 2, (at(1, 0) - at(-1, 0)) / 2
                u_xx, u_yy = at(0, 1) - 2 * at(0, 0) + at(0, -1), at(1, 0) - 2 * at(0, 0) + at(-1, 0)
                u_xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
                bend = u_xx * u_x**2 + 2 * u_xy * u_x * u_y + u_yy * u_y**2
                slope = math.hypot(
                    minmod(at(0, 1) - at(0, 0), at(0, 0) - at(0, -1)), minmod(at(1, 0) - at(0, 0), at(0, 0) - at(-1, 0))
                )
                straight = abs(bend) <= 1e-6 * (u_x**2 + u_y**2)
                after[i, j] = u[i, j] - dt * (0 if straight else np.sign(bend)) * slope
        u = after
    return u


def test_one_step_along_a_row_by_hand():
    before = [0.0, 0.0, 0.1, 0.4, 0.6, 0.6]
    # third pixel: slopes .1 and .3, bent upwards, falls by .1 * .1; fourth: .3 and .2, bent downwards, rises by .1 * .2
    after = [0.0, 0.0, 0.09, 0.42, 0.6, 0.6]
    image = gray([before] * 4)
    assert np.allclose(OPERATOR(image, iterations=1), gray([after] * 4), atol=1e-12)
    assert np.allclose(OPERATOR(image.transpose(1, 0, 2), iterations=1), gray([after] * 4).transpose(1, 0, 2))


def test_one_step_with_a_mixed_derivative_by_hand():
    y, x = np.mgrid[:6, :5]
    result = OPERATOR(gray(x * y / 20), iterations=1, dt=0.1)
    # u = xy/20 is bent only diagonally, by u_xy; at (3, 4) the slopes are 4/20 and 3/20, together 5/20
    assert np.allclose(result[4, 3], 12 / 20 - 0.1 * 5 / 20, atol=1e-12)
    opposite = OPERATOR(gray((20 - x * y) / 20), iterations=1, dt=0.1)
    assert np.allclose(opposite[4, 3], 8 / 20 + 0.1 * 5 / 20, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"iterations": 3}, {"dt": 0.4}])
def test_agrees_with_the_definition(settings):
    u = photograph()[..., 1]
    expected = by_definition(u, **{"iterations": 15, "dt": 0.1, **settings})
    assert np.abs(OPERATOR(gray(u), **settings)[..., 0] - expected).max() < 1e-9
    assert np.abs(expected - u).max() > 0.02


def test_float32_agrees_with_float64():
    image = photograph(61, 90)
    single = OPERATOR(image.astype(np.float32))
    assert single.dtype == np.float32
    difference = np.abs(single - OPERATOR(image))
    assert difference.max() < 1e-2 and np.mean(difference > 1e-5) < 1e-3  # a sign may turn a step later


def test_colour_differences_stay_and_luma_decides():
    image = 0.25 + photograph() / 2
    change = OPERATOR(image) - image
    assert np.allclose(change[..., 0], change[..., 1], atol=1e-12) and np.allclose(change[..., 0], change[..., 2])
    luma = image @ [0.299, 0.587, 0.114]
    assert np.allclose(change[..., 0], OPERATOR(gray(luma))[..., 0] - luma, atol=1e-12)


def test_a_blurred_step_becomes_a_step():
    profile = ndimage.gaussian_filter1d(np.where(np.arange(30) < 14, 0.1, 0.7), 2.0)
    result = OPERATOR(gray([profile] * 5), iterations=200)[2, :, 0]
    assert np.abs(result[:14] - 0.1).max() < 0.01 and np.abs(result[14:] - 0.7).max() < 0.01
    assert np.abs(np.diff(OPERATOR(gray([profile] * 5))[2, :, 0])).max() > 1.3 * np.abs(np.diff(profile)).max()


def test_more_iterations_sharpen_more():
    image = photograph(45, 62)
    strength = [np.square(np.diff(OPERATOR(image, iterations=n), axis=1)).sum() for n in (0, 5, 15, 40)]
    assert all(less < more for less, more in pairwise(strength))


@pytest.mark.parametrize("dt", [0.1, 0.7])
def test_a_step_stays_between_the_neighbours(dt):
    u = np.random.default_rng(0).random((31, 44))
    result = OPERATOR(gray(u), iterations=1, dt=dt)[..., 0]
    assert (result <= ndimage.maximum_filter(u, 3) + 1e-12).all()
    assert (result >= ndimage.minimum_filter(u, 3) - 1e-12).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_and_straight_ramps_do_not_change(dtype):
    y, x = np.mgrid[:11, :17]
    for u in (np.full((11, 17), 0.3), 0.1 + x / 30, 0.9 - y / 20):
        image = gray(u).astype(dtype)
        assert np.abs(OPERATOR(image) - image).max() < 1e-6


def test_zero_iterations_change_nothing():
    image = photograph()
    assert np.array_equal(OPERATOR(image, iterations=0), image)


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1).float() for s in range(3)])
    together = OPERATOR(images)
    for index in range(3):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1])[0], atol=1e-6)


def test_flips_and_transposes_commute():
    image = photograph()
    result = OPERATOR(image)
    assert np.allclose(OPERATOR(image[::-1].copy()), result[::-1], atol=1e-9)
    assert np.allclose(OPERATOR(image[:, ::-1].copy()), result[:, ::-1], atol=1e-9)
    assert np.allclose(OPERATOR(image.transpose(1, 0, 2)), result.transpose(1, 0, 2), atol=1e-9)


def test_result_is_clipped_and_the_input_is_not_changed():
    image = torch.zeros(1, 3, 8, 9)
    image[:, 0] = torch.linspace(0, 1, 9).square()  # green and blue are black and would go below 0 with the luma
    kept = image.clone()
    result = OPERATOR(image)
    assert torch.equal(image, kept)
    assert result.min() == 0 and result.max() <= 1 and not torch.equal(result, image)


def test_bad_settings():
    image = torch.rand(1, 3, 8, 9)
    for dt in (0.0, -0.1, 0.8, math.nan):
        with pytest.raises(ValueError, match=r"dt in \(0, 0.7\]"):
            shock_filter(image, dt=dt)
    with pytest.raises(ValueError, match="iterations >= 0"):
        shock_filter(image, iterations=-1)
    with pytest.raises(ValueError, match="shock has no parameter"):
        OPERATOR(image, 0.5)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(OPERATOR(image.cuda()).cpu(), OPERATOR(image), atol=1e-6)
