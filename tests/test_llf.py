"""Pyramids and the fast local Laplacian filter against the definition by brute force, and their laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from llf_oracle import exact_local_laplacian
from photographs import photograph

from dpo_lib.operators.llf import OPERATOR, local_laplacian_filter


def boost(difference, factor, sigma=0.1):
    return difference * (1 + factor * np.exp(-(difference**2) / (2 * sigma**2)))


# 11 pixels: the authors' depth is ceil(ln 5.5) + 2 = 4 levels, one pixel is reached by the fifth
@pytest.mark.parametrize(
    ("sigma", "pyramid_levels", "depth"), [(0.1, None, 4), (0.25, None, 4), (0.1, 3, 3), (0.1, 99, 5)]
)
def test_filter_is_the_formula_on_luminance_with_the_colour_ratio(sigma, pyramid_levels, depth):
    image = 0.3 + 0.4 * photograph(11, 14)  # far enough from black and white not to be clipped
    gray = image @ [0.299, 0.587, 0.114]
    gray_out = exact_local_laplacian(gray, lambda d: boost(d, 0.5, sigma), depth)
    expected = (image + 1e-3) * ((gray_out + 1e-3) / (gray + 1e-3))[..., None] - 1e-3
    result = OPERATOR(image, 0.5, check_range=False, sigma=sigma, levels=200, pyramid_levels=pyramid_levels)
    assert np.abs(result - expected).max() < 2e-4
    ratio = (result + 1e-3) / (image + 1e-3)
    assert np.ptp(ratio, axis=-1).max() < 1e-9  # one gain for the three channels


def test_defaults_are_the_papers():
    image = photograph()
    assert np.array_equal(OPERATOR(image, 3), OPERATOR(image, 3, sigma=0.1, levels=10))
    assert OPERATOR.parameters[0].test_values == (2, 3, 5, 7, 8)
    assert (OPERATOR.parameters[0].low, OPERATOR.parameters[0].high) == (2, 8)


def agreement_db(image, axis, **settings):
    """PSNR between the filtered picture and the mirrored picture filtered and mirrored back, at factor 2."""
    mirrored = OPERATOR(np.flip(image, axis).copy(), 2, **settings)
    return -10 * np.log10(np.mean((np.flip(mirrored, axis) - OPERATOR(image, 2, **settings)) ** 2))


def test_mirrored_picture_gives_the_mirrored_answer_with_the_authors_depth_only():
    image = photograph()  # of even width, so that the pyramid's grid is not its own mirror image
    assert agreement_db(image, 0) > 34 and agreement_db(image, 1) > 34
    assert agreement_db(image, 1, pyramid_levels=7) < 30


@pytest.mark.parametrize("size", [(8, 8), (45, 62), (1, 9), (31, 33)])
def test_neutral_factor_gives_back_the_image(size):
    image = torch.from_numpy(photograph(*size)).permute(2, 0, 1)[None]
    assert torch.allclose(local_laplacian_filter(image, 0.0), image, atol=1e-13)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_constant_image_stays(value):
    image = torch.full((1, 3, 21, 34), value, dtype=torch.float64) * torch.tensor([1, 0.5, 0.25]).view(1, 3, 1, 1)
    assert torch.allclose(local_laplacian_filter(image, 8.0), image, atol=1e-13)


def test_more_factor_means_more_detail():
    image = 0.4 + 0.2 * photograph()
    variation = [np.abs(np.diff(OPERATOR(image, f), axis=1)).sum() for f in OPERATOR.parameters[0].test_values]
    assert variation[0] > 1.5 * np.abs(np.diff(image, axis=1)).sum()
    assert all(less < more for less, more in pairwise(variation))
    smoother = OPERATOR(image, -0.8, check_range=False)
    assert np.abs(np.diff(smoother, axis=1)).sum() < np.abs(np.diff(image, axis=1)).sum()


def test_strong_edge_keeps_its_height_where_texture_grows():
    image = np.full((32, 48, 3), 0.25)
    image[:, 24:] = 0.75
    image[:, ::2] += 0.01
    result = OPERATOR(image, 2)
    assert np.ptp(result[16, 4:12, 0]) > 2 * 0.01
    step = result[:, 36:44].mean() - result[:, 4:12].mean()
    assert abs(step - 0.5) < 0.05


def test_transposing_the_image_transposes_the_result():
    image = photograph()
    turned = OPERATOR(np.ascontiguousarray(image.swapaxes(0, 1)), 5)
    assert np.abs(turned.swapaxes(0, 1) - OPERATOR(image, 5)).max() < 1e-12


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(3)])
    values = [2.0, 5.5, 8.0]
    together = OPERATOR(images, values)
    for index, value in enumerate(values):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1], value)[0], atol=1e-12)
    assert not torch.allclose(together[0], OPERATOR(images[:1], 8.0)[0], atol=1e-2)


def test_single_precision_agrees_with_double():
    image = photograph()
    single = OPERATOR(image.astype(np.float32), 8)
    assert single.dtype == np.float32
    assert np.abs(single - OPERATOR(image, 8)).max() < 1e-4
    assert single.min() >= 0 and single.max() <= 1


def test_input_is_not_changed():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None].contiguous()
    kept = image.clone()
    OPERATOR(image, 8)
    assert torch.equal(image, kept)


@pytest.mark.parametrize("value", [1.9, 8.1, -1.0])
def test_value_outside_the_range(value):
    with pytest.raises(ValueError, match=r"factor must lie in \[2, 8\] for llf, got"):
        OPERATOR(photograph(), value)


def test_bad_settings():
    image = torch.rand(1, 3, 12, 14)
    with pytest.raises(ValueError, match="sigma > 0"):
        local_laplacian_filter(image, 2, sigma=0.0)
    with pytest.raises(ValueError, match="finite factor"):
        local_laplacian_filter(image, float("nan"))
    with pytest.raises(ValueError, match="levels must be at least 2"):
        local_laplacian_filter(image, 2, levels=1)
    for wrong in (1, 0, -3, 4.0, True, "8"):
        with pytest.raises(ValueError, match="pyramid_levels must be a whole number >= 2 .* or None .*, got"):
            local_laplacian_filter(image, 2, pyramid_levels=wrong)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(OPERATOR(image.cuda(), 5).cpu(), OPERATOR(image, 5), atol=1e-9)
