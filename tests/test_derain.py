"""Synthetic rain: brighter only, of the drawn direction, seeded; and pairs from a folder."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from dpo_lib.operators.derain import OPERATOR, add_rain


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def picture(height=61, width=84, seed=0):
    return torch.rand(1, 3, height, width, generator=seeded(seed), dtype=torch.float64)


def test_streaks_only_brighten_and_are_gray():
    image = 0.5 * picture()
    shown, target = OPERATOR.make_pair(image, None, 1)
    assert target is image
    rain = shown - image
    assert rain.min() >= 0 and rain.max() > 0.2 and shown.max() <= 1
    assert torch.allclose(rain[:, 0], rain[:, 1], atol=1e-6) and torch.allclose(rain[:, 0], rain[:, 2], atol=1e-6)
    assert 0.3 < (rain == 0).double().mean() < 0.99  # the rest stays exactly
    bright = OPERATOR(torch.ones(1, 3, 30, 40))
    assert torch.equal(bright, torch.ones_like(bright))


@pytest.mark.parametrize("angle", [-40.0, 0.0, 25.0])
def test_streaks_fall_in_the_given_direction(angle):
    rain = add_rain(torch.zeros(1, 3, 150, 200), density=5e-4, angle_deg=(angle, angle), generator=seeded(2))
    streaks, count = label(rain[0, 0].numpy() > 0, structure=np.ones((3, 3)))
    angles = []
    for number in range(1, count + 1):
        y, x = np.nonzero(streaks == number)
        if len(y) > 20:
            direction = np.linalg.eigh(np.cov(x, y))[1][:, 1]  # the longer axis
            angles.append(np.degrees(np.arctan(direction[0] / direction[1])))
    assert len(angles) > 5 and np.median(angles) == pytest.approx(angle, abs=1.5)


def test_density_length_and_strength():
    black = torch.zeros(1, 3, 300, 400)
    settings = dict(length_px=(12, 12), angle_deg=(0, 0), generator=None)
    sparse = add_rain(black, density=2e-4, **settings)[0, 0].numpy()
    assert label(sparse > 0.05, structure=np.ones((3, 3)))[1] == pytest.approx(2e-4 * 300 * 400, rel=0.35)
    wet = [float((add_rain(black, density=d, **settings) > 0).double().mean()) for d in (0, 1e-4, 1e-3, 1e-2)]
    assert wet[0] == 0 and wet == sorted(wet) and wet[3] > 20 * wet[1]
    rows = [int((sparse[:, column] > 0.05).sum()) for column in range(400)]
    assert 6 <= np.median([r for r in rows if r]) <= 26
    assert 0.15 < add_rain(black, strength=0.2).max() <= 0.2
    assert add_rain(black, strength=0.8).max() > 0.6


def test_seeds():
    image = 0.5 * picture()
    assert torch.equal(add_rain(image, generator=seeded(3)), add_rain(image, generator=seeded(3)))
    assert not torch.equal(add_rain(image, generator=seeded(3)), add_rain(image, generator=seeded(4)))
    assert torch.equal(add_rain(image), add_rain(image, generator=seeded(0)))


def test_batch_equals_one_by_one_from_the_same_generator():
    images = torch.cat([0.5 * picture(seed=s) for s in range(3)])
    together = OPERATOR(images, generator=seeded(1))
    generator = seeded(1)
    for index in range(3):
        assert torch.equal(together[index], OPERATOR(images[index : index + 1], generator=generator)[0])
    rain = together - images
    assert not torch.allclose(rain[0], rain[1], atol=0.1)


def test_precision_small_images_and_input():
    image = picture()
    kept = image.clone()
    single = OPERATOR(image.float())
    assert single.dtype == torch.float32 and (single - OPERATOR(image)).abs().max() < 1e-6
    assert torch.equal(image, kept)
    for size in ((1, 9), (8, 8)):
        assert OPERATOR(picture(*size)).shape == (1, 3, *size)


def test_bad_settings():
    image = picture()
    for settings in ({"density": -0.1}, {"density": 2}, {"strength": 1.5}):
        with pytest.raises(ValueError, match=r"density and strength must lie in \[0, 1\]"):
            OPERATOR(image, **settings)
    with pytest.raises(ValueError, match="strength of derain must be a finite number, got nan"):
        OPERATOR(image, strength=float("nan"))
    for settings in ({"length_px": (0, 5)}, {"length_px": (9, 5)}, {"angle_deg": (-90, 0)}, {"angle_deg": (20, 10)}):
        with pytest.raises(ValueError, match="length_px = "):
            OPERATOR(image, **settings)
    with pytest.raises(ValueError, match="derain has no parameter"):
        OPERATOR(image, 3)
