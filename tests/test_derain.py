"""Synthetic rain: brighter only, of the drawn direction, seeded; and pairs from a folder."""

import numpy as np
import pytest
import torch
from scipy.ndimage import label

from dpo_lib.data.rain import rain_pairs
from dpo_lib.images import load_image, save_image
from dpo_lib.operators.derain import OPERATOR, add_rain
from dpo_lib.operators.shared.lines import line_kernel


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


def test_line_kernel_is_a_line_of_its_length():
    for length, angle in ((21.0, 0.0), (21.0, 30.0), (15.0, -45.0), (1.0, 10.0)):
        kernel = line_kernel(length, angle).double().numpy()
        radius = kernel.shape[0] // 2
        assert kernel.shape[0] == kernel.shape[1] == 2 * radius + 1
        assert kernel.max() == pytest.approx(1, abs=1e-6)
        assert np.allclose(kernel, kernel[::-1, ::-1])
        # a line 2 px thick with a triangle's profile has the area of its length, and a cone's at both ends
        assert kernel.sum() == pytest.approx(length - 1 + np.pi / 3, rel=0.15)
        y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
        if length > 1:
            across = x * np.cos(np.radians(angle)) - y * np.sin(np.radians(angle))
            along = x * np.sin(np.radians(angle)) + y * np.cos(np.radians(angle))
            assert (kernel * across**2).sum() / kernel.sum() < 0.3
            assert (kernel * along**2).sum() / kernel.sum() == pytest.approx(length**2 / 12, rel=0.1)
        assert max(kernel[0].max(), kernel[-1].max(), kernel[:, 0].max(), kernel[:, -1].max()) == 0  # nothing is cut


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
    for settings in ({"density": -0.1}, {"density": 2}, {"strength": 1.5}, {"strength": float("nan")}):
        with pytest.raises(ValueError, match=r"density and strength must lie in \[0, 1\]"):
            OPERATOR(image, **settings)
    for settings in ({"length_px": (0, 5)}, {"length_px": (9, 5)}, {"angle_deg": (-90, 0)}, {"angle_deg": (20, 10)}):
        with pytest.raises(ValueError, match="length_px = "):
            OPERATOR(image, **settings)
    with pytest.raises(ValueError, match="derain has no parameter"):
        OPERATOR(image, 3)


@pytest.fixture
def folder(tmp_path):
    """Two training pairs and a test pair; the heavy images a row and a column smaller; one path from above."""
    rng = np.random.default_rng(0)
    for name, size in (("clean", (12, 17)), ("light", (12, 17)), ("heavy", (11, 16))):
        for number in range(3):
            save_image(tmp_path / "rain" / name / f"{number}.png", rng.random((*size, 3)))
    rows = [
        "split,id,clean,light,heavy",
        "train,0,clean/0.png,light/0.png,heavy/0.png",
        "test,1,rain/clean/1.png,rain/light/1.png,rain/heavy/1.png",
        "train,2,clean/2.png,light/2.png,heavy/2.png",
    ]
    (tmp_path / "rain" / "pairs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "rain"


def test_pairs_from_a_folder(folder):
    pairs = list(rain_pairs(folder))
    assert len(pairs) == 2
    for number, (rainy, clean) in zip((0, 2), pairs, strict=True):
        assert np.array_equal(rainy, load_image(folder / "light" / f"{number}.png"))
        assert np.array_equal(clean, load_image(folder / "clean" / f"{number}.png"))
    ((rainy, clean),) = rain_pairs(folder, split="test", rain="heavy")
    assert np.array_equal(rainy, load_image(folder / "heavy" / "1.png"))
    assert np.array_equal(clean, load_image(folder / "clean" / "1.png")[:11, :16])


def test_bad_folders(folder):
    with pytest.raises(ValueError, match="rain must be one of light, heavy in .*, got 'id'"):
        next(rain_pairs(folder, rain="id"))
    with pytest.raises(ValueError, match="has no row with split 'val'"):
        next(rain_pairs(folder, split="val"))
    with pytest.raises(FileNotFoundError, match="pairs.csv"):
        next(rain_pairs(folder / "clean"))
    (folder / "light" / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.png"):
        next(rain_pairs(folder))
    save_image(folder / "light" / "0.png", np.zeros((13, 17, 3)))
    with pytest.raises(ValueError, match="is smaller than light/0.png"):
        next(rain_pairs(folder))
