"""WLS enhancement: its colour space against scikit-image, its bands against the filter, and its laws."""

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab

from dpo_lib.operators import OPERATORS
from dpo_lib.operators.wls import weighted_least_squares
from dpo_lib.operators.wls_enhance import wls_enhancement

OPERATOR = OPERATORS["wls_enhance"]


def photograph(height=45, width=62, seed=0):
    """A picture with regions, an edge, texture and a ramp, away from black and white; odd sizes, never square."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    image = np.stack([0.3 + 0.2 * (x > 0.6), 0.5 + 0.1 * np.sin(9 * y), 0.35 + 0.2 * y], axis=-1)
    return image + 0.02 * rng.standard_normal((height, width, 1))


def test_is_the_formula_on_lightness():
    image = photograph()
    lab = rgb2lab(image)
    lightness = lab[..., 0] / 100
    one, two = (
        weighted_least_squares(torch.from_numpy(lightness)[None, None], lam)[0, 0].numpy() for lam in (0.2, 0.9)
    )

    def sigmoid(x, a):
        def logistic(t):
            return 1 / (1 + np.exp(-a * t)) - 0.5

        return logistic(x) * 0.5 / logistic(0.5)

    mean = lightness.mean()
    enhanced = mean + sigmoid(1.1 * two - mean, 3) + sigmoid(one - two, 6) + sigmoid(lightness - one, 9)
    expected = lab2rgb(np.dstack([100 * enhanced, lab[..., 1:]]))
    result = OPERATOR(image, base=3, medium=6, fine=9, exposure=1.1, lambdas=(0.2, 0.9))
    assert expected.min() > 0 and expected.max() < 1
    assert np.abs(result - expected).max() < 1e-3


def test_defaults():
    image = photograph()
    same = OPERATOR(image, base=4, medium=8, fine=8, exposure=1, lambdas=(0.125, 0.5))
    assert np.array_equal(OPERATOR(image), same)
    assert OPERATOR.parameters == ()


def test_no_strength_gives_back_the_image():
    image = photograph()
    assert np.abs(OPERATOR(image, base=1e-3, medium=1e-3, fine=1e-3) - image).max() < 1e-5


@pytest.mark.parametrize("band", ["base", "medium", "fine"])
def test_each_band_adds_contrast(band):
    image = photograph()
    weak, strong = (OPERATOR(image, **{"base": 1e-3, "medium": 1e-3, "fine": 1e-3, band: a}) for a in (4, 12))
    assert image.std() < weak.std() < strong.std()


def test_exposure_makes_lighter():
    image = photograph()
    assert OPERATOR(image, exposure=1.2).mean() > OPERATOR(image).mean() + 0.05


@pytest.mark.parametrize("colour", [(0, 0, 0), (1, 1, 1), (0.2, 0.7, 0.4), (0.9, 0.05, 0.3)])
def test_constant_image_stays(colour):
    image = torch.tensor(colour, dtype=torch.float32).view(1, 3, 1, 1).repeat(1, 1, 31, 38)
    assert torch.allclose(OPERATOR(image), image, atol=1e-4)


def test_gray_stays_gray():
    image = np.repeat(photograph()[..., :1], 3, axis=-1)
    assert np.ptp(OPERATOR(image), axis=-1).max() < 1e-6


def test_batch_equals_one_by_one_and_transposes():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(2)])
    together = OPERATOR(images)
    for index in range(2):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1])[0], atol=1e-12)
    assert torch.allclose(OPERATOR(images.mT.contiguous()).mT, together, atol=1e-5)


def test_result_stays_in_range_and_input_as_it_was():
    image = torch.rand(1, 3, 21, 26, generator=torch.Generator().manual_seed(0))
    kept = image.clone()
    result = OPERATOR(image)
    assert result.dtype == torch.float32 and result.min() >= 0 and result.max() <= 1
    assert torch.equal(image, kept)


def test_bad_values():
    image = torch.rand(1, 3, 8, 9)
    for settings in ({"base": 0.0}, {"medium": -1.0}, {"fine": float("nan")}, {"lambdas": (0.1, 0.0)}):
        with pytest.raises(ValueError, match="wls_enhance needs positive strengths and lambdas, got"):
            wls_enhancement(image, **settings)
    with pytest.raises(ValueError, match="wls_enhance has no parameter"):
        OPERATOR(image, 1.0)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(OPERATOR(image.cuda()).cpu(), OPERATOR(image), atol=1e-5)
