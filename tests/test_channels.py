"""Which channels a restoration operator degrades."""

import numpy as np
import torch

from dpo_lib.images import luminance
from dpo_lib.operators.shared.channels import select_channels


def picture(height=37, width=50, seed=0):
    """Random pixels of three colours with a bright block, as (1, 3, H, W); never square."""
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    image[:, 0, height // 3 :, : width // 2] = 0.9
    return image


def test_channels():
    image = picture()
    assert select_channels(image, on="rgb") is image
    gray = luminance(image).expand_as(image)
    assert torch.allclose(select_channels(gray, on="gray"), gray, atol=1e-12)  # a gray image is its own luma
    from skimage.color import rgb2ycbcr

    expected = rgb2ycbcr(image[0].permute(1, 2, 0).numpy())[..., 0] / 255
    assert np.abs(select_channels(image, on="luminance")[0, 1].numpy() - expected).max() < 1e-5
