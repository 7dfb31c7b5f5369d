"""Loading, saving, checking, and the way from one form of an image to the other and back."""

import io
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from dpo_lib.images import (
    as_batch,
    check_image,
    load_image,
    luminance,
    round_to_8_bit,
    save_image,
    to_numpy,
    to_tensor,
    to_uint8,
)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (11, 17, 3), np.uint8)


def test_save_and_load_round_trip(tmp_path, photo):
    path = save_image(tmp_path / "new" / "folder" / "photo.png", photo)
    loaded = load_image(path)
    assert loaded.dtype == np.float32 and loaded.shape == photo.shape
    np.testing.assert_array_equal(to_uint8(loaded), photo)
    again = load_image(save_image(tmp_path / "again.png", to_tensor(photo)))
    np.testing.assert_array_equal(again, loaded)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "new"]  # no temporary file stays


def test_8_bits_can_stay_8_bits(tmp_path, photo):
    path = save_image(tmp_path / "photo.png", photo)
    loaded = load_image(path, dtype="uint8")
    assert loaded.dtype == np.uint8 and loaded.flags.writeable
    np.testing.assert_array_equal(loaded, photo)
    np.testing.assert_array_equal(load_image(io.BytesIO(path.read_bytes()), dtype=np.uint8), photo)
    deep = np.linspace(0, 65535, 5 * 7).reshape(5, 7).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(load_image(tmp_path / "deep.png", dtype="uint8")[:, :, 1], np.rint(deep / 257))
    with pytest.raises(ValueError, match="dtype must be float32 or uint8, got 'float64'"):
        load_image(path, dtype="float64")
    with pytest.raises(ValueError, match="dtype must be float32 or uint8, got 'deep'"):
        load_image(path, dtype="deep")


def test_what_is_transparent_is_laid_over_white_and_said(tmp_path, photo):
    alpha = np.full((11, 17, 1), 255, np.uint8)
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "opaque.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_image(tmp_path / "opaque.png", dtype="uint8"), photo)
    alpha[:, 4:8], alpha[:, 8:] = 51, 0
    Image.fromarray(np.dstack([photo, alpha])).save(tmp_path / "clear.png")
    with pytest.warns(UserWarning, match=r"clear\.png is transparent in places: its alpha channel is dropped"):
        loaded = load_image(tmp_path / "clear.png")
    np.testing.assert_allclose(loaded, 1 - alpha / 255 * (1 - photo / 255), atol=1e-6)
    assert (loaded[:, 8:] == 1).all()


def test_a_failed_save_leaves_the_old_file(tmp_path, photo, monkeypatch):
    path = save_image(tmp_path / "photo.png", photo)
    before = path.read_bytes()

    def fill_the_disk(self, file, *arguments, **keywords):
        with open(file, "wb") as half:
            half.write(b"half a picture")
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", fill_the_disk)
        with pytest.raises(OSError, match="No space left"):
            save_image(path, 255 - photo)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["photo.png"]
    with pytest.raises(ValueError, match=r"photo\.what: expected a name ending in \.png, .*, got '\.what'"):
        save_image(tmp_path / "photo.what", photo)
    with pytest.raises(ValueError, match="expected one image, got a batch of 2"):
        save_image(path, torch.zeros(2, 3, 4, 5))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("name", ["a.png", "a.TIF", "a.tiff", "a.bmp", "a.ppm", "a.webp"])
def test_every_format_but_jpeg_keeps_every_value(tmp_path, photo, name):
    for image in (photo, photo[::-1, ::-1], torch.from_numpy(photo / 255).permute(2, 0, 1)[None], photo[None] / 255):
        path = save_image(tmp_path / name, image)
        expected = photo[::-1, ::-1] if image is not photo and np.shares_memory(image, photo) else photo
        np.testing.assert_array_equal(load_image(path, dtype="uint8"), expected)
    for precision in (torch.float16, torch.float64):
        save_image(tmp_path / name, torch.from_numpy(photo).permute(2, 0, 1).div(255).to(precision).requires_grad_())
        np.testing.assert_array_equal(load_image(tmp_path / name, dtype="uint8"), photo)
    save_image(tmp_path / name, torch.full((3, 11, 17), 0.2, dtype=torch.bfloat16))
    np.testing.assert_array_equal(load_image(tmp_path / name, dtype="uint8"), 51)


def test_jpeg_comes_close_and_closer_with_quality(tmp_path):
    smooth = np.linspace(0, 1, 40 * 56 * 3).reshape(40, 56, 3)
    errors, sizes = [], []
    for quality in (30, 95, 100):
        path = save_image(tmp_path / f"{quality}.jpeg", smooth, quality=quality)
        errors.append(np.abs(load_image(path) - smooth).max())
        sizes.append(path.stat().st_size)
    assert errors[0] > errors[2] and errors[1] < 0.03 and sizes == sorted(sizes)
    for quality in (0, 101, 90.0, "high", True):
        with pytest.raises(ValueError, match="quality must be a whole number from 1 to 100, got"):
            save_image(tmp_path / "a.jpg", smooth, quality=quality)


def test_values_outside_0_to_1_are_clipped_aloud_or_refused(tmp_path, photo):
    image = photo / 255
    image[3, 4], image[5, 6] = -0.25, 1.25
    with pytest.warns(UserWarning, match=r"a\.png: values in \[-0\.25, 1\.25\] were clipped to \[0, 1\]"):
        save_image(tmp_path / "a.png", image)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", dtype="uint8"), np.rint(np.clip(image, 0, 1) * 255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_image(tmp_path / "b.png", image, clip=True)
        save_image(tmp_path / "b.png", 100 * image, clip=True)
        save_image(tmp_path / "b.png", np.clip(image, -0.0005, 1.0005))  # rounding
    for scale in (255, -1):
        with pytest.raises(ValueError, match=r"cannot write .*c\.png: image values must lie in \[0, 1\], got"):
            save_image(tmp_path / "c.png", scale * np.clip(image, 0, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.full((4, 5, 3), np.nan), ValueError, "holds NaN or infinity"),
        (torch.full((3, 4, 5), torch.inf), ValueError, "holds NaN or infinity"),
        (np.zeros((4, 5)), ValueError, r"expected an image of shape \(H, W, 3\), .*, got shape \(4, 5\)"),
        (np.zeros((4, 5, 4)), ValueError, r"got shape \(4, 5, 4\)"),
        (np.zeros((0, 5, 3)), ValueError, r"got shape \(0, 5, 3\)"),
        (torch.zeros(4, 5), ValueError, r"got shape \(4, 5\)"),
        (np.zeros((4, 5, 3), np.int64), TypeError, "floating-point numbers or uint8, got int64"),
        (np.zeros((4, 5, 3), bool), TypeError, "floating-point numbers or uint8, got bool"),
        (np.zeros((4, 5, 3), complex), TypeError, "got complex128"),
        ([[[0.0, 0.0, 0.0]]], TypeError, "must be a tensor or a NumPy array, got list"),
    ],
)
def test_save_refuses_what_is_no_image_and_writes_nothing(tmp_path, image, error, message):
    with pytest.raises(error, match=message):
        save_image(tmp_path / "a.png", image, clip=True)
    assert list(tmp_path.iterdir()) == []


def test_save_goes_where_the_name_leads(tmp_path, photo):
    save_image(tmp_path / "real.png", photo)
    (tmp_path / "link.png").symlink_to("real.png")
    save_image(tmp_path / "link.png", 255 - photo)
    assert (tmp_path / "link.png").is_symlink()
    np.testing.assert_array_equal(load_image(tmp_path / "real.png", dtype="uint8"), 255 - photo)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="a device or pipe"):
        save_image(tmp_path / "pipe.png", photo)
    long = tmp_path / ("ü" * 125 + ".png")
    before = os.umask(0o027)
    try:
        save_image(long, photo)
    finally:
        os.umask(before)
    assert long.stat().st_mode & 0o777 == 0o640
    with pytest.raises(ValueError, match=r"gray\.pgm: expected a name ending in \.png, .*, got '\.pgm'"):
        save_image(tmp_path / "gray.pgm", photo)  # it would hold colours
    assert len(list(tmp_path.iterdir())) == 4


def test_tensor_and_numpy_are_each_others_inverse(photo):
    tensor = to_tensor(photo)
    assert tensor.shape == (1, 3, 11, 17) and tensor.dtype == torch.float32
    assert tensor[0, 2, 4, 5].item() == pytest.approx(photo[4, 5, 2] / 255)
    np.testing.assert_array_equal(to_uint8(to_numpy(tensor)), photo)
    np.testing.assert_array_equal(to_numpy(tensor[0]), to_numpy(tensor))
    assert to_numpy(photo) is photo
    assert to_tensor(np.stack([photo, photo])).shape == (2, 3, 11, 17)
    assert to_tensor(photo / 255).dtype == torch.float64


def test_to_uint8_clips_and_rounds():
    assert to_uint8(np.array([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 1.0, 2.0])).tolist() == [0, 0, 0, 1, 255, 255]
    rounded = round_to_8_bit(torch.tensor([-1.0, 0.49 / 255, 0.51 / 255, 2.0]))
    torch.testing.assert_close(rounded, torch.tensor([0.0, 0.0, 1 / 255, 1.0]))


def test_luminance_weights():
    image = torch.eye(3).reshape(3, 3, 1, 1)  # a red, a green and a blue pixel
    torch.testing.assert_close(luminance(image).flatten(), torch.tensor([0.299, 0.587, 0.114]))
    assert luminance(torch.rand(2, 3, 4, 5, dtype=torch.float64)).dtype == torch.float64


def test_check_image_gives_the_image_back_untouched():
    image = torch.rand(2, 3, 5, 6)
    assert check_image(image) is image
    assert check_image(image * 2 - 0.5, low=-1, high=2).shape == image.shape
    check_image(torch.full((1, 3, 4, 4), 1.0005))  # rounding in somebody's conversion


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ([[0.0]], TypeError, "floating-point tensor in .* got list"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), TypeError, r"got torch\.uint8: divide 8-bit values by 255"),
        (torch.zeros(3, 4, 5), ValueError, r"shape \(B, 3, H, W\), got \(3, 4, 5\): add a batch axis"),
        (torch.zeros(1, 7, 5, 3), ValueError, r"got \(1, 7, 5, 3\): move the channels forward"),
        (torch.zeros(0, 3, 8, 8), ValueError, "at least 4 pixels a side"),
        (torch.zeros(1, 3, 3, 8), ValueError, r"at least 4 pixels a side, got shape \(1, 3, 3, 8\)"),
        (torch.full((1, 3, 4, 5), float("nan")), ValueError, "finite, got NaN"),
        (torch.full((1, 3, 4, 5), float("inf")), ValueError, "finite, got NaN or infinity"),
        (torch.full((1, 3, 4, 5), 255.0), ValueError, r"lie in \[0, 1\], got \[255, 255\]: divide by the largest"),
        (torch.full((1, 3, 4, 5), -0.1), ValueError, r"lie in \[0, 1\], got \[-0\.1, -0\.1\]"),
    ],
)
def test_check_image_refuses(image, error, message):
    with pytest.raises(error, match=message):
        check_image(image, minimum_size=4)


def test_one_bad_pixel_is_found():
    image = torch.rand(2, 3, 9, 7)
    image[1, 2, 8, 6] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        check_image(image)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64, ">f4", ">f8"])
def test_as_batch_and_back_is_the_identity(photo, dtype):
    image = photo if dtype == np.uint8 else (photo / 255).astype(dtype)
    before = image.copy()
    batch, restore = as_batch(image)
    is_double = np.dtype(dtype).itemsize == 8
    assert batch.shape == (1, 3, 11, 17) and batch.dtype == (torch.float64 if is_double else torch.float32)
    back = restore(batch)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)
    batch.zero_()
    np.testing.assert_array_equal(image, before)  # the caller's array is not the tensor's memory


def test_as_batch_takes_batches_and_every_memory_layout(photo):
    both = np.stack([photo, 255 - photo]) / 255
    batch, restore = as_batch(both)
    assert batch.shape == (2, 3, 11, 17)
    np.testing.assert_array_equal(restore(batch), both)
    for one, image in zip(batch, both, strict=True):
        torch.testing.assert_close(one, as_batch(image)[0][0], rtol=0, atol=0)
    one = both[0]
    for view in (both[:, ::-1, ::-1], one[:1, ::-1], one[::-1, :1], np.asfortranarray(one), one[::2, ::3]):
        batch, restore = as_batch(view)
        np.testing.assert_array_equal(restore(batch), view)
    mine = both[0].view(type("Mine", (np.ndarray,), {}))
    batch, restore = as_batch(mine)
    assert type(restore(batch)) is np.ndarray
    assert to_tensor(photo[:, ::-1]).shape == (1, 3, 11, 17)


def test_as_batch_gives_tensors_back_in_their_dtype():
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        image = torch.rand(2, 3, 5, 6).to(dtype)
        batch, restore = as_batch(image)
        assert batch is image and restore(batch.float()).dtype == dtype


def test_as_batch_leaves_tensors_alone():
    image = torch.rand(2, 3, 5, 6, dtype=torch.float64)
    batch, restore = as_batch(image)
    assert batch is image and restore(batch) is image


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("photo.png", TypeError, "must be a tensor or a NumPy array, got str"),
        (np.zeros((4, 5)), ValueError, r"shape \(H, W, 3\) or .*, got \(4, 5\): repeat a gray image three times"),
        (np.zeros((4, 5, 4)), ValueError, r"\(4, 5, 4\): drop the alpha channel"),
        (np.zeros((4, 5, 3), np.int64), TypeError, "numbers or uint8, got int64: convert it first, and divide by"),
        (np.full((4, 5, 3), 2.0), ValueError, r"lie in \[0, 1\], got \[2, 2\]"),
        (np.full((4, 5, 3), np.nan), ValueError, "finite"),
        (np.zeros((3, 5, 3)), ValueError, "at least 4 pixels a side"),
    ],
)
def test_as_batch_refuses(image, error, message):
    with pytest.raises(error, match=message):
        as_batch(image, minimum_size=4)
