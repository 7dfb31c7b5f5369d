"""CIELAB against scikit-image's."""

import numpy as np
import torch
from skimage.color import rgb2lab

from dpo_lib.operators.shared.lab import lab_to_rgb, rgb_to_lab


def test_lab_is_that_of_scikit_image():
    image = np.random.default_rng(0).random((9, 14, 3)) ** 2
    image[0, :3] = [[0, 0, 0], [1, 1, 1], [0.003, 0.01, 0.02]]
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    lab = rgb_to_lab(tensor)
    assert np.abs(lab[0].permute(1, 2, 0).numpy() - rgb2lab(image)).max() < 0.02
    assert torch.allclose(lab_to_rgb(lab), tensor, atol=1e-6)
    assert (lab_to_rgb(rgb_to_lab(tensor.float())) - tensor).abs().max() < 1e-5
