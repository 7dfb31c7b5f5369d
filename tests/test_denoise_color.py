"""Colour denoising: three noises, and colour pictures to get back."""

import numpy as np
import torch

from dpo_lib import evaluate
from dpo_lib.operators import OPERATORS
from dpo_lib.operators.denoise_color import OPERATOR


def test_noise_is_independent_in_each_channel_and_the_target_keeps_its_colours():
    image = torch.rand(1, 3, 90, 120, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy, target = OPERATOR.make_pair(image, 25, 1)
    assert torch.equal(target, image)
    noise = 255 * (noisy - image)[0].flatten(1).numpy()
    assert np.abs(noise.std(1) - 25).max() < 1
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.05
    as_setting, _ = OPERATORS["denoise"].make_pair(image, 25, 1, on="rgb")
    assert torch.equal(as_setting, noisy)


def test_is_measured_on_colours():
    images = {"picture": np.random.default_rng(0).random((40, 50, 3))}
    by_default, on_rgb, on_gray = (
        evaluate(lambda inputs, value: inputs, OPERATOR, images, values=[25], **on)[0]["psnr_db"]
        for on in ({}, {"on": "rgb"}, {"on": "gray"})
    )
    assert by_default == on_rgb
    assert on_gray > on_rgb + 3  # the mean of three noises is weaker
