"""The three-fold local Laplacian remapping: its curve, the brute-force definition, and laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from llf_oracle import exact_local_laplacian
from photographs import photograph

from dpo_lib.operators.llf_remap import OPERATOR, local_laplacian_remap


def curve(difference, gain=3.0, threshold=0.1):
    """The two branches, written out."""
    inside = np.abs(difference) < threshold
    return np.where(inside, gain * difference, difference + np.sign(difference) * (gain - 1) * threshold)


def test_curve_of_the_paper():
    difference = np.array([-0.5, -0.1, -0.05, 0, 0.05, 0.1, 0.5])
    assert np.allclose(curve(difference), [-0.7, -0.3, -0.15, 0, 0.15, 0.3, 0.7])


@pytest.mark.parametrize(("gain", "threshold"), [(3.0, 0.1), (1.5, 0.05), (0.3, 0.05)])
def test_converges_to_the_local_laplacian_filter(gain, threshold):
    image = 0.3 + 0.35 * photograph(11, 14)
    gray = image @ [0.299, 0.587, 0.114]
    gray_out = exact_local_laplacian(gray, lambda d: curve(d, gain, threshold), 4)
    expected = np.clip((image + 1e-3) * ((gray_out + 1e-3) / (gray + 1e-3))[..., None] - 1e-3, 0, 1)
    errors = [
        np.abs(OPERATOR(image, gain=gain, threshold=threshold, levels=levels) - expected).max()
        for levels in (20, 80, 320)
    ]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 2e-3


def test_defaults_are_the_papers():
    image = photograph()
    assert np.array_equal(OPERATOR(image), OPERATOR(image, gain=3.0, threshold=0.1, levels=20))
    assert OPERATOR.parameters == ()


def test_faint_texture_becomes_three_times_as_strong():
    """Where all differences stay below the threshold the filter is linear: gain on everything but the residual."""
    image = 0.5 + 0.04 * (photograph() - 0.5)
    result = OPERATOR(image)
    gray, gray_out = (x @ [0.299, 0.587, 0.114] for x in (image, result))
    assert np.allclose(np.diff(gray_out, axis=1), 3 * np.diff(gray, axis=1), atol=2e-4)


def test_depth_of_the_pyramids():
    """45 pixels: ceil(ln 22.5) + 2 = 6 levels, and a seventh reaches one pixel."""
    image = photograph()
    assert np.array_equal(OPERATOR(image), OPERATOR(image, pyramid_levels=6))
    assert np.array_equal(OPERATOR(image, pyramid_levels=7), OPERATOR(image, pyramid_levels=99))
    assert np.abs(OPERATOR(image) - OPERATOR(image, pyramid_levels=7)).max() > 0.01


def test_neutral_gain_and_constant_image():
    image = torch.from_numpy(photograph(31, 40)).permute(2, 0, 1)[None]
    assert torch.allclose(local_laplacian_remap(image, gain=1.0), image, atol=1e-13)
    flat = torch.full((1, 3, 9, 20), 0.3, dtype=torch.float64)
    assert torch.allclose(local_laplacian_remap(flat), flat, atol=1e-13)


def test_more_gain_means_more_detail():
    image = 0.4 + 0.2 * photograph()
    variation = [np.abs(np.diff(OPERATOR(image, gain=gain), axis=0)).sum() for gain in (0.0, 0.5, 1, 2, 3, 5)]
    assert all(less < more for less, more in pairwise(variation))


def test_batch_equals_one_by_one_and_precision():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(3)])
    together = OPERATOR(images)
    for index in range(3):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1])[0], atol=1e-12)
    single = OPERATOR(images.float())
    assert single.dtype == torch.float32 and (single - together).abs().max() < 1e-4
    assert single.min() >= 0 and single.max() <= 1


def test_bad_settings():
    image = torch.rand(1, 3, 12, 14)
    with pytest.raises(ValueError, match="gain >= 0"):
        local_laplacian_remap(image, gain=-1)
    with pytest.raises(ValueError, match="threshold > 0"):
        local_laplacian_remap(image, threshold=0)
    with pytest.raises(ValueError, match="levels must be at least 2"):
        local_laplacian_remap(image, levels=1)
    with pytest.raises(ValueError, match="pyramid_levels must be a whole number >= 2"):
        local_laplacian_remap(image, pyramid_levels=1)
    with pytest.raises(ValueError, match="llf_remap has no parameter"):
        OPERATOR(image, 3.0)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(OPERATOR(image.cuda()).cpu(), OPERATOR(image), atol=1e-9)
