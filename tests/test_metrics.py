"""PSNR and SSIM against numbers computed by hand."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from photographs import strong_photograph

from dpo_lib.metrics import psnr, ssim


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    target = rng.random((17, 23, 3))
    return np.clip(target + 0.05 * rng.standard_normal(target.shape), 0, 1), target


@pytest.mark.parametrize(("difference", "expected"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0)])
def test_psnr_of_a_constant_difference(difference, expected):
    target = np.zeros((5, 7, 3))
    assert psnr(target + difference, target, round_to_8_bit=False) == pytest.approx(expected)


def test_psnr_of_one_level_of_255():
    target = np.full((5, 7, 3), 100, np.uint8)
    assert psnr(target + np.uint8(1), target) == pytest.approx(20 * math.log10(255))


def test_psnr_on_rgb_averages_squares_over_the_channels():
    target = torch.zeros(3, 5, 7)
    prediction = target.clone()
    prediction[0] = 0.3  # squared error 0.09 in one of three channels
    assert psnr(prediction, target, round_to_8_bit=False) == pytest.approx(10 * math.log10(3 / 0.09), abs=1e-6)


def test_equal_images_are_infinitely_alike(pair):
    _, target = pair
    assert psnr(target, target) == math.inf
    assert ssim(target, target) == pytest.approx(1.0)


def test_rounding_to_8_bit_clips_and_rounds_both():
    target = np.full((5, 7, 3), 100 / 255)
    below_half = target + 0.4 / 255
    assert psnr(below_half, target) == math.inf
    assert psnr(below_half, target, round_to_8_bit=False) == pytest.approx(20 * math.log10(255 / 0.4))
    assert psnr(np.full((5, 7, 3), 1.7), np.ones((5, 7, 3))) == math.inf  # a prediction may leave the range
    assert psnr(target, below_half) == math.inf


def test_luminance_is_the_studio_range_y():
    """A gray step of 10 levels is one of 10 * 219/255 = 8.59 in Y, rounded to 8 or 9 levels by MATLAB."""
    target = np.full((5, 7, 3), 100 / 255)
    prediction = np.full((5, 7, 3), 110 / 255)
    unrounded = psnr(prediction, target, on="luminance", round_to_8_bit=False)
    assert unrounded == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)))
    # Y of 100 is 16 + 85.88 = 102, of 110 it is 16 + 94.47 = 110
    assert psnr(prediction, target, on="luminance") == pytest.approx(20 * math.log10(255 / 8))
    assert psnr(prediction, target, on="gray") == pytest.approx(20 * math.log10(255 / 10))


def test_luminance_weights_of_each_channel():
    for channel, weight in enumerate((65.481, 128.553, 24.966)):
        target, prediction = np.zeros((5, 7, 3)), np.zeros((5, 7, 3))
        prediction[:, :, channel] = 1
        expected = 20 * math.log10(255 / weight)
        assert psnr(prediction, target, on="luminance", round_to_8_bit=False) == pytest.approx(expected)


def test_ssim_of_two_constant_images():
    """Without any structure only the luminance term remains: (2ab + c1) / (a^2 + b^2 + c1), c1 = 0.01^2."""
    a, b = 0.2, 0.6
    expected = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    measured = ssim(np.full((16, 20, 3), a), np.full((16, 20, 3), b), round_to_8_bit=False)
    assert measured == pytest.approx(expected, rel=1e-6)


def test_ssim_agrees_with_the_formula_written_out(pair):
    """Gaussian window of 11, sigma 1.5, means over the positions where the window fits."""
    prediction, target = pair
    weights = np.array([0.299, 0.587, 0.114])
    x, y = prediction @ weights, target @ weights
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    window = np.outer(taps, taps) / taps.sum() ** 2

    def mean(image):
        windows = np.lib.stride_tricks.sliding_window_view(image, (11, 11))
        return (windows * window).sum((-2, -1))

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    expected = ((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    assert ssim(prediction, target, round_to_8_bit=False) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("on", ["rgb", "luminance", "gray"])
def test_every_form_gives_the_same_number(measure, on, pair):
    prediction, target = pair
    expected = measure(prediction, target, on=on)
    assert isinstance(expected, float)
    a, b = (torch.from_numpy(image).permute(2, 0, 1) for image in pair)
    assert measure(a, b, on=on) == expected
    assert measure(a, target, on=on) == expected  # mixed forms
    assert measure(255 * prediction, 255 * target, on=on, data_range=255) == pytest.approx(expected, rel=1e-12)
    as_8_bit = [np.rint(255 * image).astype(np.uint8) for image in pair]
    assert measure(*as_8_bit, on=on) == pytest.approx(expected, rel=1e-12)
    batch = measure(torch.stack([a, b]), torch.stack([b, b]), on=on)
    assert batch.shape == (2,) and batch[0] == expected and batch[1] == measure(target, target, on=on)
    assert measure(np.stack([prediction]), np.stack([target]), on=on).tolist() == [expected]


def test_gray_images_of_one_channel(pair):
    prediction, target = (image[:, :, 0] for image in pair)
    repeated = [np.repeat(image[:, :, None], 3, axis=2) for image in (prediction, target)]
    assert psnr(prediction, target) == pytest.approx(psnr(*repeated))
    assert psnr(prediction, target, on="gray") == pytest.approx(psnr(*repeated, on="gray"))
    assert psnr(prediction, target, on="gray") == pytest.approx(psnr(*repeated, on="rgb"))
    assert ssim(prediction, target) == pytest.approx(ssim(*repeated))
    assert psnr(torch.from_numpy(prediction)[None], torch.from_numpy(target)[None]) == psnr(prediction, target)


def test_inputs_are_not_changed(pair):
    before = [image.copy() for image in pair]
    psnr(*pair)
    ssim(*pair, on="luminance")
    for image, copy in zip(pair, before, strict=True):
        np.testing.assert_array_equal(image, copy)


def test_half_precision_and_gradients_are_welcome(pair):
    prediction = torch.from_numpy(pair[0]).permute(2, 0, 1).to(torch.bfloat16).requires_grad_()
    assert 20 < psnr(prediction, torch.from_numpy(pair[1]).permute(2, 0, 1)) < 40


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_bad_input(measure, pair):
    prediction, target = pair
    with pytest.raises(ValueError, match=r"on must be one of rgb, luminance, gray, got 'y'"):
        measure(prediction, target, on="y")
    with pytest.raises(ValueError, match="must have the same shape"):
        measure(prediction[1:], target)
    with pytest.raises(ValueError, match="data_range must be positive"):
        measure(prediction, target, data_range=0)
    with pytest.raises(ValueError, match=r"target must lie in \[0, 1\], got .*data_range"):
        measure(255 * prediction, 255 * target)
    with pytest.raises(ValueError, match="prediction must be finite"):
        measure(np.where(prediction > 0.5, np.nan, prediction), target)
    with pytest.raises(ValueError, match="target must be finite"):
        measure(prediction, np.where(target > 0.5, np.inf, target))
    with pytest.raises(TypeError, match="prediction must be a tensor or a NumPy array, got list"):
        measure(prediction.tolist(), target)
    with pytest.raises(TypeError, match="floating-point numbers or uint8, got int64"):
        measure(prediction.astype(int), target)
    with pytest.raises(ValueError, match=r"must be a tensor \(B, 3, H, W\)"):
        measure(torch.from_numpy(prediction), target)
    with pytest.raises(ValueError, match=r"must be an array \(B, H, W, 3\)"):
        measure(prediction[:, :, :2], target)


def test_a_matrix_is_an_image_like_another(pair):
    """It corrupted the heap and ended the process, hence a process of its own."""
    code = (
        "import numpy as np; from dpo_lib import psnr, ssim; "
        "a, b = (np.random.default_rng(seed).random((16, 20)) for seed in (0, 1)); "
        "assert psnr(np.matrix(a), np.matrix(b)) == psnr(a, b); "
        "assert ssim(np.matrix(a), b, on='rgb') == ssim(a, b, on='rgb')"
    )
    command = [sys.executable, "-W", "ignore::PendingDeprecationWarning", "-c", code]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == 0


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_a_peak_that_is_none(measure, pair):
    for data_range in (float("nan"), float("inf"), -1, "1"):
        with pytest.raises(ValueError, match="data_range must be positive and finite, got"):
            measure(*pair, data_range=data_range)


def test_a_target_that_leaves_the_range_by_a_little_is_clipped(pair):
    """As the results of L0 smoothing or of bicubic scaling do."""
    prediction, target = pair
    assert psnr(prediction, 1.1 * target) == psnr(prediction, np.clip(1.1 * target, 0, 1))
    assert np.abs(1.1 * target - np.clip(1.1 * target, 0, 1)).max() > 0.01


def test_ssim_needs_its_window():
    with pytest.raises(ValueError, match="ssim needs at least 11 pixels a side, got 20x10"):
        ssim(np.zeros((10, 20, 3)), np.zeros((10, 20, 3)))


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize("on", ["luminance", "gray"])
def test_the_layout_in_memory_does_not_count(measure, on):
    """Sums in another order would round a pixel here and there to the other level."""
    target = np.float32(strong_photograph(32, 40))
    planes, prediction = torch.from_numpy(target).permute(2, 0, 1).contiguous(), np.float32(0.9) * target
    expected = measure(prediction, target, on=on)
    for turned in (
        target[::-1].copy()[::-1],
        np.asfortranarray(target),
        planes,
        torch.from_numpy(target).permute(2, 0, 1),
    ):
        assert measure(turned, prediction, on=on) == expected
