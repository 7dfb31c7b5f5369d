"""Pyramids against the definition by brute force."""

import numpy as np
import pytest
import torch
from llf_oracle import numpy_pyramids

from dpo_lib.operators.shared import pyramid

SIZES = [(1, 7), (2, 3), (5, 6), (8, 9), (17, 30)]


@pytest.mark.parametrize("size", SIZES)
def test_pyramids_agree_with_the_definition(size):
    gray = np.random.default_rng(0).random(size)
    gaussian, laplacian = numpy_pyramids(gray, 99)
    for expected, levels in (
        (gaussian, pyramid.gaussian_pyramid(torch.from_numpy(gray))),
        (laplacian, pyramid.laplacian_pyramid(torch.from_numpy(gray))),
    ):
        assert len(levels) == len(expected) == pyramid.depth(*size)
        for a, b in zip(levels, expected, strict=True):
            assert a.shape == b.shape and np.abs(a.numpy() - b).max() < 1e-14


@pytest.mark.parametrize("size", SIZES)
def test_pyramid_collapses_to_its_image(size):
    image = torch.rand(2, 3, *size, dtype=torch.float64)
    for levels in (None, 1, 2):
        assert torch.allclose(pyramid.collapse(pyramid.laplacian_pyramid(image, levels)), image, atol=1e-14)
    assert len(pyramid.laplacian_pyramid(image, 1)) == 1


def test_pyramid_keeps_constants():
    for level in pyramid.laplacian_pyramid(torch.full((1, 1, 13, 22), 0.7))[:-1]:
        assert level.abs().max() < 1e-6
