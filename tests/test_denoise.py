"""Gaussian noise: its statistics, its seeds, and the pairs made with it."""

import numpy as np
import pytest
import torch

from dpo_lib.images import luminance
from dpo_lib.operators.denoise import OPERATOR, add_noise


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def picture(height=31, width=44, seed=0):
    return torch.rand(1, 3, height, width, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [10, 25, 70])
@pytest.mark.parametrize("on", ["gray", "luminance", "rgb"])
def test_noise_is_white_gaussian_of_the_given_deviation(sigma, on):
    shown, target = OPERATOR.make_pair(torch.full((1, 3, 200, 301), 0.5), sigma, 1, on=on)
    noise = 255 * (shown - target)[0].double().numpy()
    assert noise.std() == pytest.approx(sigma, rel=0.015)
    assert abs(noise.mean()) < 0.02 * sigma
    within = [(np.abs(noise) < k * sigma).mean() for k in (1, 2, 3)]
    assert within == pytest.approx([0.6827, 0.9545, 0.9973], abs=0.005)
    for a, b in ((noise[:, 1:], noise[:, :-1]), (noise[:, :, 1:], noise[:, :, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.015


def test_gray_noise_is_one_noise_and_rgb_noise_three():
    image = picture(90, 120)
    gray, target = OPERATOR.make_pair(image, 25, 1)
    assert torch.allclose(target, luminance(image).expand_as(image), atol=1e-12)
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])
    colour, target = OPERATOR.make_pair(image, 25, 1, on="rgb")
    assert torch.equal(target, image)
    noise = (colour - image)[0].flatten(1).numpy()
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.05


def test_a_gray_image_is_its_own_target():
    image = picture()[:, :1].repeat(1, 3, 1, 1)
    assert torch.allclose(OPERATOR.make_pair(image, 25)[1], image, atol=1e-12)


def test_clip_by_option():
    image = picture()
    free, clipped = (OPERATOR(image, 70, clip=clip, generator=seeded(0)) for clip in (False, True))
    assert free.min() < 0 and free.max() > 1
    assert torch.equal(clipped, free.clamp(0, 1))
    shown, target = OPERATOR.make_pair(image, 70, 0, clip=True)
    assert torch.equal(shown, clipped) and target.max() <= 1


def test_seeds():
    image = picture()
    assert torch.equal(add_noise(image, 25, generator=seeded(3)), add_noise(image, 25, generator=seeded(3)))
    assert not torch.equal(add_noise(image, 25, generator=seeded(3)), add_noise(image, 25, generator=seeded(4)))
    assert torch.equal(add_noise(image, 25), add_noise(image, 25, generator=seeded(0)))
    generator = seeded(3)
    assert not torch.equal(add_noise(image, 25, generator=generator), add_noise(image, 25, generator=generator))


@pytest.mark.parametrize("on", ["gray", "rgb"])
def test_batch_equals_one_by_one_from_the_same_generator(on):
    images, values = torch.cat([picture(seed=s) for s in range(3)]), [10.0, 25.0, 70.0]
    together = OPERATOR(images, values, on=on, generator=seeded(1))
    generator = seeded(1)
    for index, value in enumerate(values):
        alone = OPERATOR(images[index : index + 1], value, on=on, generator=generator)
        assert torch.equal(together[index], alone[0])


def test_twice_the_sigma_is_twice_the_noise_and_precisions_agree():
    image = picture()
    clean = luminance(image).expand_as(image)
    weak, strong = (add_noise(image, sigma) - clean for sigma in (20, 40))
    assert torch.allclose(2 * weak, strong, atol=1e-12)
    single = add_noise(image.float(), 40)
    assert single.dtype == torch.float32 and torch.allclose(single.double(), clean + strong, atol=1e-6)


def test_input_is_not_changed():
    image = picture()
    kept = image.clone()
    OPERATOR(image, 25, on="rgb", clip=True)
    assert torch.equal(image, kept)


def test_bad_values():
    image = picture()
    for sigma in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="sigma > 0"):
            add_noise(image, sigma)
    with pytest.raises(ValueError, match=r"sigma must lie in \[10, 70\] for denoise, got 0"):
        OPERATOR(image, 0)
    with pytest.raises(ValueError, match="on must be one of rgb, luminance, gray"):
        OPERATOR(image, 25, on="alpha")
    with pytest.raises(TypeError, match="blur"):
        OPERATOR.make_pair(image, 25, blur=2)


@pytest.mark.gpu
def test_gpu_sees_the_same_noise():
    image = picture()
    assert torch.allclose(OPERATOR(image.cuda(), 25).cpu(), OPERATOR(image, 25), atol=1e-12)
