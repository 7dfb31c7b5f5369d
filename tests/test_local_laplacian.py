"""The local Laplacian filter with any remapping against the definition by brute force."""

import numpy as np
import pytest
import torch
from llf_oracle import exact_local_laplacian, numpy_pyramids
from photographs import photograph

from dpo_lib.images import luminance, to_tensor
from dpo_lib.operators.shared import pyramid
from dpo_lib.operators.shared.local_laplacian import local_laplacian, pyramid_depth, recolour


def boost(difference, factor, sigma=0.1):
    return difference * (1 + factor * np.exp(-(difference**2) / (2 * sigma**2)))


@pytest.mark.parametrize(
    ("size", "levels"),
    [  # ceil(ln(shorter side / 2)) + 2, by hand
        ((321, 481), 8),  # ln 160.5 = 5.08
        ((481, 321), 8),
        ((256, 300), 7),  # ln 128 = 4.85
        ((240, 320), 7),  # ln 120 = 4.79
        ((45, 62), 6),  # ln 22.5 = 3.11
        ((41, 62), 6),  # ln 20.5 = 3.02
        ((40, 62), 5),  # ln 20 = 2.996
        ((6, 500), 4),  # ln 3 = 1.10
        ((5, 500), 3),  # ln 2.5 = 0.92
        ((3, 3), 3),  # ln 1.5 = 0.41; sides 3, 2, 1
        ((2, 9), 2),  # ln 1 = 0; sides 2, 1
        ((1, 9), 1),  # ln 0.5 = -0.69 would give two levels, but one pixel is reached
    ],
)
def test_depth_of_the_authors(size, levels):
    assert pyramid_depth(*size) == levels


def test_depth_as_a_setting_ends_at_one_pixel():
    assert [pyramid_depth(321, 481, levels) for levels in (2, 8, 9, 10, 11, 99)] == [2, 8, 9, 10, 10, 10]
    assert pyramid_depth(1, 9, 2) == 1
    for wrong in (1, 0, 7.0, False, float("nan")):
        with pytest.raises(ValueError, match=f"pyramid_levels must be a whole number >= 2 .*, got {wrong!r}"):
            pyramid_depth(321, 481, wrong)


def test_converges_to_the_local_laplacian_filter():
    gray = luminance(to_tensor(photograph(13, 18)))[0, 0].double()
    expected = exact_local_laplacian(gray.numpy(), lambda d: boost(d, 3.0), 4)

    def error(levels):
        def remap(d):
            return torch.from_numpy(boost(d.numpy(), 3.0))

        fast = local_laplacian(gray[None, None], remap, levels=levels)[0, 0]
        return np.abs(fast.numpy() - expected).max()

    errors = [error(levels) for levels in (11, 21, 41, 81, 161)]
    assert errors[0] < 0.05 and errors[-1] < 3e-4
    # linear interpolation: half the step, a quarter of the error (an eighth over two doublings leaves room for luck)
    assert all(coarse > 8 * fine for coarse, fine in zip(errors, errors[2:], strict=False))


def test_is_linear_in_between_the_sampled_luminances():
    """With few samples, the weighted sum of whole pyramids, one per g; the picture reaches black and white."""
    gray = luminance(to_tensor(photograph(13, 18)))[0, 0].double().numpy()
    gray = (gray - gray.min()) / np.ptp(gray)
    gaussian, expected = numpy_pyramids(gray, 4)  # 13 pixels: ceil(ln 6.5) + 2
    samples = np.linspace(0, 1, 4)
    remapped = [numpy_pyramids(boost(gray - g, 3.0), 4)[1] for g in samples]
    for level in range(len(gaussian) - 1):
        for position in np.ndindex(gaussian[level].shape):
            values = [details[level][position] for details in remapped]
            expected[level][position] = np.interp(gaussian[level][position], samples, values)
    collapsed = pyramid.collapse([torch.from_numpy(detail)[None, None] for detail in expected])
    result = local_laplacian(
        torch.from_numpy(gray)[None, None], lambda d: d * (1 + 3 * torch.exp(-50 * d**2)), levels=4
    )
    assert torch.allclose(result, collapsed, atol=1e-12)


def test_values_beyond_the_range_keep_their_detail():
    gray = 0.7 + luminance(to_tensor(photograph(13, 18))).double()
    assert torch.allclose(local_laplacian(gray, torch.clone, levels=3), gray, atol=1e-13)


def test_recolour_leaves_black_pixels_gray():
    black = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    lifted = recolour(black, luminance(black), torch.full((1, 1, 2, 2), 0.3, dtype=torch.float64))
    assert torch.allclose(lifted, torch.full_like(black, 0.3))
    assert recolour(black, luminance(black), -torch.ones(1, 1, 2, 2)).abs().max() == 0
