"""Answers carried over from a reduced image: maps that they hold exactly, the least squares itself, wrong shapes."""

import itertools

import numpy as np
import pytest
import torch
from photographs import photograph
from torch.nn.functional import interpolate

from dpo_lib import OPERATORS, psnr
from dpo_lib.images import luminance, to_tensor
from dpo_lib.models.upsampling import bilateral_guided_upsample, guided_upsample

METHODS = (bilateral_guided_upsample, guided_upsample)


@pytest.fixture(scope="module")
def image():
    return to_tensor(photograph(96, 131)).float()


@pytest.fixture(scope="module")
def small(image):
    return interpolate(image, (24, 33), mode="area")


def affine(x):
    mix = torch.tensor([[0.5, 0.2, 0.1], [0.0, 0.8, 0.1], [0.3, 0.0, 0.6]])
    return torch.einsum("ij,bjhw->bihw", mix, x) + 0.05


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_changed_stays(method, image, small):
    exact = {} if method is bilateral_guided_upsample else {"epsilon": 1e-9}  # above that, flat windows lose detail
    assert (method(image, small, small, **exact) - image).abs().max() < 1e-3


def test_affine_maps_of_colours_are_found(image, small):
    answer = bilateral_guided_upsample(image, small, affine(small))
    assert (answer - affine(image)).abs().max() < 1e-3


def test_a_gain_and_an_offset_are_found(image, small):
    answer = guided_upsample(image, small, 0.5 * small + 0.2, epsilon=1e-9)
    assert (answer - 0.5 * image - 0.2).abs().max() < 1e-3


def test_maps_may_follow_luminance(image, small):
    """A grid point's map is interpolated between luminances, so a gain that is linear in it is held exactly."""

    def brighter_in_the_dark(x):
        return x * (1.5 - luminance(x))

    wanted = brighter_in_the_dark(image)
    answer = bilateral_guided_upsample(image, small, brighter_in_the_dark(small), smoothness=1e-4)
    assert psnr(answer.clamp(0, 1), wanted.clamp(0, 1))[0] > 50
    assert psnr(affine(image), wanted.clamp(0, 1))[0] < 30


def test_agrees_with_least_squares_written_out():
    """Every interpolation weight and every tie by a loop, and a dense solver."""
    generator = torch.Generator().manual_seed(0)
    image, small, answer = (torch.rand(1, 3, *sides, generator=generator) for sides in ((7, 12), (4, 8), (4, 8)))
    shape, smoothness = (2, 3, 2), 0.3  # 4 / 4 and 8 / 4 cells, and a point more
    cells = list(itertools.product(*map(range, shape)))

    def row(x, i, j):
        colours = [*x[0, :, i, j].double().numpy(), 1.0]
        light = np.dot((0.299, 0.587, 0.114), colours[:3])
        place = [(i + 0.5) / x.shape[2], (j + 0.5) / x.shape[3], light]
        place = [p * (n - 1) for p, n in zip(place, shape, strict=True)]
        weights = [np.prod([max(0, 1 - abs(p - c)) for p, c in zip(place, cell, strict=True)]) for cell in cells]
        return np.outer(colours, weights).ravel()

    rows = [row(small, i, j) for i in range(4) for j in range(8)]
    sides = list((answer - small)[0].flatten(1).double().numpy().T)
    for a, b in itertools.combinations(range(len(cells)), 2):
        if sum(abs(p - q) for p, q in zip(cells[a], cells[b], strict=True)) == 1:
            for k in range(4):
                tie = np.zeros((4, len(cells)))
                tie[k, a], tie[k, b] = smoothness**0.5, -(smoothness**0.5)
                rows.append(tie.ravel())
                sides.append(np.zeros(3))
    grid = np.linalg.lstsq(np.stack(rows), np.stack(sides), rcond=None)[0]
    wanted = np.stack([[row(image, i, j) @ grid for j in range(12)] for i in range(7)])
    result = bilateral_guided_upsample(image, small, answer, cell_px=4, bins=2, smoothness=smoothness)
    assert np.abs((result - image)[0].permute(1, 2, 0).numpy() - wanted).max() < 1e-3


def test_better_than_the_enlarged_answer(image, small):
    operator = OPERATORS["llf"]
    wanted, answer = operator(image, 4.0), operator(small, 4.0)
    enlarged = psnr(interpolate(answer, image.shape[2:], mode="bilinear"), wanted)[0]
    for method in METHODS:
        assert psnr(method(image, small, answer).clamp(0, 1), wanted)[0] > enlarged + 0.5


@pytest.mark.parametrize("method", METHODS)
def test_batch_equals_one_by_one(method, image, small):
    images, smaller = torch.cat([image, image.flip(3)]), torch.cat([small, small.flip(3)])
    together = method(images, smaller, affine(smaller))
    alone = [method(*one) for one in zip(images.split(1), smaller.split(1), affine(smaller).split(1), strict=True)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_that_do_not_fit(method, image, small):
    for wrong in ((image, small, small[..., 1:]), (image[:, :1], small, small), (image[0], small, small),
                  (image.repeat(2, 1, 1, 1), small, small)):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected an image \(B, 3, H, W\), and two reduced ones"):
            method(*wrong)
    with pytest.raises(ValueError, match="bins >= 2"):
        bilateral_guided_upsample(image, small, small, bins=1)
    with pytest.raises(ValueError, match="radius_px >= 1"):
        guided_upsample(image, small, small, radius_px=0)
