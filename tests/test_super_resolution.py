"""Bicubic down and up against a plain NumPy computation of MATLAB's imresize, and laws."""

import numpy as np
import pytest
import torch

from dpo_lib.images import luminance
from dpo_lib.operators import super_resolution as module
from dpo_lib.operators.super_resolution import OPERATOR, reduce_and_enlarge, super_resolution


def picture(height=37, width=50, seed=0):
    """Random pixels of three colours with a bright block, as (1, 3, H, W); never square."""
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image[:, 0, height // 3 :, : width // 2] = 0.9
    return image


def cubic(x):
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0))


def imresize_matrix(size, factor):
    """One axis of imresize(I, factor): the kernel stretched when reducing, the border mirrored with its last pixel."""
    matrix = np.zeros((int(np.ceil(size * factor - 1e-9)), size))
    stretch = min(factor, 1)
    for row in range(len(matrix)):
        centre = (row + 0.5) / factor - 0.5
        taps = np.arange(np.floor(centre - 2 / stretch), np.ceil(centre + 2 / stretch) + 1).astype(int)
        weights = cubic(stretch * (taps - centre))
        mirrored = taps % (2 * size)
        np.add.at(matrix[row], np.minimum(mirrored, 2 * size - 1 - mirrored), weights / weights.sum())
    return matrix


def imresize(image, factor):
    rows, columns = (imresize_matrix(size, factor) for size in image.shape[-2:])
    return rows @ image @ columns.T


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(24, 36), (37, 50), (9, 5), (2, 3), (1, 1)])
def test_agrees_with_imresize_up_to_the_border(scale, size):
    image = picture(*size)
    small = imresize(image.numpy(), 1 / scale)
    assert small.shape[-2:] == tuple(-(-side // scale) for side in size)
    assert np.abs(module.reduce(image, scale).numpy() - small).max() < 1e-6  # torch computes its weights in float32
    expected = imresize(small, scale)[..., : size[0], : size[1]]
    result = reduce_and_enlarge(image, scale)
    assert result.shape == image.shape and np.abs(result.numpy() - expected).max() < 1e-6


def test_luminance_is_degraded_and_is_the_target():
    image = picture()
    shown, target = OPERATOR.make_pair(image, 3)
    studio = (16 + 219 * luminance(image)) / 255
    assert torch.allclose(target, studio.expand_as(image), atol=1e-12)
    expected = imresize(imresize(studio.numpy(), 1 / 3), 3)[..., :37, :50]
    assert np.abs(shown.numpy() - expected).max() < 1e-6
    assert torch.equal(shown[:, 0], shown[:, 1]) and torch.equal(shown[:, 0], shown[:, 2])


def test_rgb_by_option():
    image = picture()
    shown, target = OPERATOR.make_pair(image, 2, on="rgb")
    assert torch.equal(target, image)
    assert torch.equal(shown, reduce_and_enlarge(image, 2))
    gray_shown, gray_target = OPERATOR.make_pair(image, 2, on="gray")
    assert torch.allclose(gray_target, luminance(image).expand_as(image), atol=1e-12)
    assert torch.allclose(gray_shown[:, :1], luminance(shown), atol=1e-6)


def test_arrays_come_back_as_arrays():
    image = (255 * picture()[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    shown, target = OPERATOR.make_pair(image, 2)
    assert shown.dtype == target.dtype == np.uint8 and shown.shape == target.shape == image.shape
    assert target.min() >= 16 and target.max() <= 235


@pytest.mark.parametrize("on", ["rgb", "gray", "luminance"])
def test_batch_equals_one_by_one(on):
    images = torch.cat([picture(seed=s) for s in range(4)])
    values = [4, 2, 3, 2]
    together = OPERATOR(images, values, on=on)
    for index, value in enumerate(values):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1], value, on=on)[0], atol=1e-12)


def test_constant_stays_scale_one_is_neutral_and_more_scale_loses_more():
    flat = torch.full((1, 3, 11, 14), 0.4)
    assert torch.allclose(super_resolution(flat, 3, on="rgb"), flat, atol=1e-6)
    image = picture()
    assert torch.allclose(super_resolution(image, 1, on="rgb"), image, atol=1e-12)
    errors = [float((super_resolution(image, scale, on="rgb") - image).square().mean()) for scale in (1, 2, 3, 4)]
    assert errors == sorted(errors) and errors[1] > 0.01


def test_precision_determinism_and_input():
    image = picture()
    kept = image.clone()
    single = OPERATOR(image.float(), 4)
    assert single.dtype == torch.float32 and (single - OPERATOR(image, 4)).abs().max() < 1e-5
    assert torch.equal(single, OPERATOR(image.float(), 4, generator=torch.Generator().manual_seed(5)))
    assert torch.equal(image, kept)
    assert set(OPERATOR.sample(200, 0).flatten().tolist()) == {2.0, 3.0, 4.0}


@pytest.mark.parametrize("size", [(8, 8), (1, 9)])
def test_small_images(size):
    assert OPERATOR(picture(*size), 4).shape == (1, 3, *size)


def test_bad_values():
    image = picture()
    for scale in (0, 2.5, -2, float("nan")):
        with pytest.raises(ValueError, match="scale must be a whole number >= 1"):
            super_resolution(image, scale)
    with pytest.raises(ValueError, match=r"scale must lie in \[2, 4\] for super_resolution, got 5"):
        OPERATOR(image, 5)
    with pytest.raises(ValueError, match="on must be one of rgb, luminance, gray, got 'y'"):
        OPERATOR(image, 2, on="y")
