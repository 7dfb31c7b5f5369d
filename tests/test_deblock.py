"""JPEG compression against Pillow's own round trip."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from dpo_lib.images import to_tensor, to_uint8
from dpo_lib.operators.deblock import OPERATOR, jpeg_compress

PHOTO = np.ascontiguousarray(data.astronaut()[:93, 160:300])  # not square, not a multiple of 8


def pillow(array, quality, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=quality, **options)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())))


def studio_y(array):
    """MATLAB's rgb2ycbcr, first channel, 8 bits."""
    return np.rint(16 + (array.astype(float) @ [65.481, 128.553, 24.966]) / 255).astype(np.uint8)


@pytest.mark.parametrize("quality", [1, 10, 15, 20, 100])
def test_rgb_is_pillows_round_trip(quality):
    result = OPERATOR(PHOTO, quality, on="rgb", check_range=False)
    assert result.dtype == np.uint8 and np.array_equal(result, pillow(PHOTO, quality))


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
def test_subsampling(subsampling):
    result = OPERATOR(PHOTO, 20, on="rgb", subsampling=subsampling)
    assert np.array_equal(result, pillow(PHOTO, 20, subsampling=subsampling))
    assert np.array_equal(result, pillow(PHOTO, 20)) == (subsampling == "4:2:0")


@pytest.mark.parametrize("quality", [10, 20])
def test_luminance_is_a_gray_jpeg_of_studio_y(quality):
    shown, target = OPERATOR.make_pair(PHOTO, quality)
    y = studio_y(PHOTO)
    assert np.array_equal(target, np.repeat(y[..., None], 3, -1))
    assert np.array_equal(shown, np.repeat(pillow(y, quality)[..., None], 3, -1))


def test_gray_is_a_gray_jpeg_of_luma():
    shown, target = OPERATOR.make_pair(PHOTO, 10, on="gray")
    luma = PHOTO.astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(target[..., 0] - luma).max() < 0.5 + 1e-4  # halves may go either way
    assert np.array_equal(shown[..., 2], pillow(np.ascontiguousarray(target[..., 0]), 10))


def test_quality_is_rounded_and_honoured_per_image():
    images = torch.cat([to_tensor(PHOTO), to_tensor(PHOTO[:, ::-1].copy()), to_tensor(PHOTO)])
    values = [10, 15.4, 19.6]
    together = jpeg_compress(images, torch.tensor(values))
    for index, value in enumerate((10, 15, 20)):
        assert torch.equal(together[index], jpeg_compress(images[index : index + 1], value)[0])
    assert not torch.equal(together[0], together[2])


def test_more_quality_is_closer():
    image = to_tensor(PHOTO)
    errors = [float((jpeg_compress(image, q, on="rgb") - image).square().mean()) for q in (5, 10, 20, 50, 95)]
    assert errors == sorted(errors, reverse=True) and errors[0] > 20 * errors[-1]


def test_values_types_and_input():
    image = to_tensor(PHOTO).double()
    kept = image.clone()
    result = OPERATOR(image, 10)
    assert result.dtype == torch.float64
    assert torch.equal(result, (result * 255).round() / 255) and result.min() >= 0 and result.max() <= 1
    assert torch.allclose(result, OPERATOR(image.float(), 10).double(), atol=1e-7)
    assert torch.equal(result, OPERATOR(image, 10, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(image, kept)
    qualities = OPERATOR.sample(300, 0).flatten()
    assert torch.equal(qualities, qualities.round()) and qualities.min() == 10 and qualities.max() == 20


def test_flat_image_stays():
    flat = torch.full((1, 3, 16, 24), 128 / 255)
    assert torch.equal(to_uint8_tensor(jpeg_compress(flat, 10, on="gray")), to_uint8_tensor(flat))


def to_uint8_tensor(image):
    return torch.from_numpy(to_uint8(image.numpy()))


@pytest.mark.parametrize("size", [(8, 8), (1, 9), (7, 30)])
def test_small_images(size):
    assert OPERATOR(torch.rand(2, 3, *size), 10).shape == (2, 3, *size)


def test_bad_values():
    image = torch.rand(1, 3, 12, 14)
    for quality in (0, 101, -5, float("nan")):
        with pytest.raises(ValueError, match=r"quality must lie in \[1, 100\]"):
            jpeg_compress(image, quality)
    with pytest.raises(ValueError, match=r"quality must lie in \[10, 20\] for deblock, got 50"):
        OPERATOR(image, 50)
    with pytest.raises(ValueError, match="subsampling must be one of"):
        OPERATOR(image, 10, subsampling="4:1:1")
    with pytest.raises(ValueError, match="on must be one of rgb, luminance, gray"):
        OPERATOR(image, 10, on="y")
