"""Image files of every kind that people have, against arrays that were written by hand or by tifffile."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from dpo_lib.data.sources import load_folder
from dpo_lib.decoding import ImageTooLarge
from dpo_lib.images import MAX_PIXELS, load_image

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (11, 17, 3), np.uint16)
PHOTO = (DEEP >> 8).astype(np.uint8)


def png(pixels, kind, *, transparent=None, size=None):
    """A PNG of 16 bits; `kind` is 0 gray, 2 RGB, 4 gray and alpha, 6 RGB and alpha."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = pixels.shape[:2]
    width, height = size or (width, height)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    key = [] if transparent is None else [chunk(b"tRNS", np.asarray(transparent).astype(">u2").tobytes())]
    # filter 1: each row holds differences to the pixel on the left, byte by byte
    rows = pixels.reshape(len(pixels), pixels.shape[1], -1).astype(">u2").view(np.uint8)
    rows = np.diff(rows.astype(np.int16), axis=1, prepend=0).astype(np.uint8)
    data = zlib.compress(b"".join(b"\x01" + row.tobytes() for row in rows))
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *key, chunk(b"IDAT", data), chunk(b"IEND", b"")])


def tiff(pixels, **options):
    file = io.BytesIO()
    if pixels.ndim == 2:
        options = {"photometric": "minisblack", **options}
    tifffile.imwrite(file, pixels, **{"photometric": "rgb", **options})
    return file.getvalue()


def load(tmp_path, content, name="photo.img"):
    (tmp_path / name).write_bytes(content)
    return load_image(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        png(DEEP, 2),
        png(np.dstack([DEEP, np.full((11, 17), 65535)]), 6),
        tiff(DEEP),
        tiff(DEEP, byteorder=">"),
        tiff(DEEP, compression="zlib", predictor=2),
        tiff(DEEP, compression="zlib", byteorder=">"),
        tiff(DEEP, tile=(16, 16)),
        tiff(DEEP, tile=(16, 16), compression="zlib"),
        tiff(np.moveaxis(DEEP, 2, 0).copy(), planarconfig="separate"),
        tiff(np.moveaxis(DEEP, 2, 0).copy(), planarconfig="separate", compression="zlib"),
        b"P6\n17 11\n65535\n" + DEEP.astype(">u2").tobytes(),
    ],
    ids=["png", "alpha", "tiff", "tiff_big", "zip", "zip_big", "tiles", "tiles_zip", "planes", "planes_zip", "ppm"],
)
def test_16_bit_colours_keep_every_bit(tmp_path, content):
    image = load(tmp_path, content)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(np.rint(image * 65535), DEEP)


@pytest.mark.parametrize(
    "content",
    [
        png(DEEP[:, :, :1], 0),
        png(np.dstack([DEEP[:, :, 0], np.full((11, 17), 65535)]), 4),
        tiff(DEEP[:, :, 0]),
        tiff(DEEP[:, :, 0], byteorder=">", compression="zlib"),
        tiff(65535 - DEEP[:, :, 0], photometric="miniswhite"),
        b"P5\n17 11\n65535\n" + DEEP[:, :, 0].astype(">u2").tobytes(),
    ],
    ids=["png", "png_alpha", "tiff", "tiff_big_zip", "white_is_zero", "pgm"],
)
def test_16_bit_gray_keeps_every_bit(tmp_path, content):
    np.testing.assert_array_equal(np.rint(load(tmp_path, content) * 65535), np.repeat(DEEP[:, :, :1], 3, axis=2))


def test_other_depths_are_scaled_by_their_own_white(tmp_path):
    small = DEEP // 16  # 12 bits
    colours = load(tmp_path, b"P6\n17 11\n4095\n" + small.astype(">u2").tobytes())
    np.testing.assert_allclose(colours, small / 4095, atol=1e-6)
    gray = small[:, :10, 0]
    low, high = gray[:, ::2].astype(np.uint16), gray[:, 1::2].astype(np.uint16)
    packed = np.stack([low >> 4, (low & 15) << 4 | high >> 8, high & 255], axis=2).astype(np.uint8).tobytes()
    tags = {256: 10, 257: 11, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: 11, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    twelve = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + packed
    np.testing.assert_allclose(load(tmp_path, twelve)[:, :, 0], gray / 4095, atol=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_in_0_to_1_are_taken_as_they_are(tmp_path, kind):
    colours = (DEEP / 65535).astype(kind)
    np.testing.assert_allclose(load(tmp_path, tiff(colours)), colours, atol=1e-7)
    gray = load(tmp_path, tiff(colours[:, :, 0]))
    np.testing.assert_allclose(gray, np.repeat(colours[:, :, :1], 3, axis=2), atol=1e-7)


@pytest.mark.parametrize("shape", [(11, 17, 3), (11, 17)])
def test_other_numbers_are_refused_with_the_reason(tmp_path, shape):
    for high, low in ((255.0, 0.0), (1.5, 0.0), (0.5, -0.25)):
        values = np.full(shape, high, np.float32)
        values[3, 4] = low
        with pytest.raises(ValueError, match=rf"photo\.img holds floats in \[{low:g}, {high:g}\], expected \[0, 1\]"):
            load(tmp_path, tiff(values))
    for bad in (np.nan, np.inf):
        values[3, 4] = bad
        with pytest.raises(ValueError, match=r"photo\.img holds NaN or infinity"):
            load(tmp_path, tiff(values))
    for kind in (np.int8, np.int16, np.int32, np.uint32):
        with pytest.raises(ValueError, match=r"photo\.img holds signed or 32-bit whole numbers, whose white"):
            load(tmp_path, tiff(np.ones(shape, kind)))


def test_palette_one_bit_and_cmyk(tmp_path):
    picture = Image.fromarray(PHOTO)
    palette = picture.quantize(16)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(load_image(tmp_path / "palette.png", dtype="uint8"), palette.convert("RGB"))
    bits = PHOTO[:, :, 0] > 127
    for name, options in (("bits.png", {}), ("bits.tif", {"compression": "group4"}), ("bits.bmp", {})):
        Image.fromarray(bits).save(tmp_path / name, **options)
        np.testing.assert_array_equal(load_image(tmp_path / name), np.repeat(bits[:, :, None], 3, axis=2))
    inks = np.zeros((11, 17, 4), np.uint8)
    inks[:, :5, 0], inks[:, 5:10, 3] = 255, 51  # cyan; a fifth of black; and paper
    Image.fromarray(inks, "CMYK").save(tmp_path / "inks.tif")
    image = load_image(tmp_path / "inks.tif")
    np.testing.assert_allclose(image[4, [2, 7, 12]], [[0, 1, 1], [0.8, 0.8, 0.8], [1, 1, 1]], atol=1e-6)


def test_transparency_of_every_kind_shows_white(tmp_path):
    share = RNG.integers(0, 65536, (11, 17, 1), np.uint16)
    over_white = 1 - share / 65535 * (1 - DEEP / 65535)
    gray = np.repeat(over_white[:, :, :1] * 0 + 1 - share / 65535 * (1 - DEEP[:, :, :1] / 65535), 3, axis=2)
    multiplied = np.rint(DEEP * (share / 65535)).astype(np.uint16)
    whole, first = DEEP / 65535, np.repeat(DEEP[:, :, :1], 3, axis=2) / 65535
    whole[3, 5] = first[3, 5] = 1
    files = {
        "rgba": (png(np.dstack([DEEP, share]), 6), over_white),
        "gray": (png(np.dstack([DEEP[:, :, :1], share]), 4), gray),
        "key": (png(DEEP, 2, transparent=DEEP[3, 5]), whole),
        "gray_key": (png(DEEP[:, :, :1], 0, transparent=DEEP[3, 5, :1]), first),
        "straight": (tiff(np.dstack([DEEP, share]), extrasamples=["unassalpha"]), over_white),
        "multiplied": (tiff(np.dstack([multiplied, share]), extrasamples=["assocalpha"]), over_white),
        "floats": (tiff((np.dstack([DEEP, share]) / 65535).astype("f4"), extrasamples=["unassalpha"]), over_white),
    }
    for name, (content, expected) in files.items():
        with pytest.warns(UserWarning, match=f"{name} is transparent in places: its alpha channel") as notes:
            image = load(tmp_path, content, name)
        assert len(notes) == 1, name
        np.testing.assert_allclose(image, expected, atol=2e-5, err_msg=name)
    with warnings.catch_warnings():  # a fourth channel that is no alpha
        warnings.simplefilter("error")
        image = load(tmp_path, tiff(np.dstack([DEEP, share]), extrasamples=["unspecified"]))
    np.testing.assert_array_equal(np.rint(image * 65535), DEEP)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_rotation_is_applied_to_every_format(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("photo.png", "photo.webp", "photo.tif", "photo.jpg"):
        Image.fromarray(PHOTO).save(tmp_path / name, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
        with Image.open(tmp_path / name) as file:
            expected = np.asarray(ImageOps.exif_transpose(file))
        np.testing.assert_array_equal(load_image(tmp_path / name, dtype="uint8"), expected)
    upright = np.asarray(ImageOps.exif_transpose(_with_exif(Image.fromarray(DEEP[:, :, 0]), exif)))
    Image.fromarray(DEEP[:, :, 0]).save(tmp_path / "gray.png", exif=exif)
    np.testing.assert_array_equal(np.rint(load_image(tmp_path / "gray.png")[:, :, 0] * 65535), upright)
    tag = [(0x0112, "H", 1, orientation, True)]
    for content in (tiff(DEEP, extratags=tag), tiff((DEEP / 65535).astype(np.float32), extratags=tag)):
        np.testing.assert_array_equal(np.rint(load(tmp_path, content)[:, :, 0] * 65535), upright)


def _with_exif(picture, exif):
    picture.getexif()[0x0112] = exif[0x0112]
    return picture


def test_a_file_is_read_by_what_it_is_and_starts_no_other_program(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    calls = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: calls.append(1) or Image.new("RGB", (17, 11)))
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 17 11\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(OSError, match=r"photo\.png is not readable as an image: expected JPEG, PNG, .* or PPM"):
        load(tmp_path, page, "photo.png")
    assert calls == []
    Image.fromarray(PHOTO).save(tmp_path / "named.jpg", format="PNG")  # a wrong suffix does no harm
    np.testing.assert_array_equal(load_image(tmp_path / "named.jpg", dtype="uint8"), PHOTO)


@pytest.mark.parametrize("side", [10_600, 30_000])  # beyond our limit, and beyond Pillow's own
@pytest.mark.parametrize("make", ["png", "tiff"])
def test_far_too_many_pixels_are_one_error_before_anything_is_unpacked(tmp_path, side, make):
    if make == "png":
        content = png(DEEP, 2, size=(side, side))
    else:
        content = tiff(DEEP).replace(struct.pack("<HHII", 256, 4, 1, 17), struct.pack("<HHII", 256, 4, 1, side))
        content = content.replace(struct.pack("<HHII", 257, 4, 1, 11), struct.pack("<HHII", 257, 4, 1, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge, match=r"bomb\.png has .* pixels, expected 1\d+ at most: shrink it, or"):
            load(tmp_path, content, "bomb.png")
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"skipped .*bomb\.png: has"):
        assert len(load_folder(tmp_path)) == 1
    assert MAX_PIXELS >= 11_648 * 8_736  # the largest cameras


def test_the_limit_can_be_moved(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", max_pixels=11 * 17).shape == (11, 17, 3)
    with pytest.raises(ImageTooLarge, match=r"a\.png has 17 x 11 = 187 pixels, expected 186 at most"):
        load_image(tmp_path / "a.png", max_pixels=11 * 17 - 1)


def _seeds():
    """A small file of every format."""
    files = {"png16": png(DEEP, 2), "tiff16": tiff(DEEP), "floats": tiff((DEEP / 65535).astype(np.float32))}
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(PHOTO).save(file, kind, **({} if kind in ("BMP", "PPM") else {"exif": exif}))
        files[kind] = file.getvalue()
    return files


@pytest.mark.parametrize("kind", list(_seeds()))
def test_a_damaged_file_is_a_picture_or_one_error_with_its_name(tmp_path, kind):
    """Cut off, changed in some bytes, or shortened in the middle."""
    whole, rng, errors = _seeds()[kind], np.random.default_rng(1), 0
    path = tmp_path / "damaged.img"
    for turn in range(60):
        content = bytearray(whole)
        if turn % 3 == 0:
            del content[int(rng.integers(len(content))) :]
        else:
            for place in rng.integers(min(len(content), 300), size=4):
                content[place] = rng.integers(256)
        if turn % 3 == 2:
            del content[100:104]
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's on damaged notes
                image = load_image(path, max_pixels=10**6)
        except (OSError, ValueError) as error:
            assert "damaged.img " in str(error)
            errors += 1
        else:
            assert image.ndim == 3 and image.shape[2] == 3 and np.isfinite(image).all()
    assert errors > 10


def test_what_is_no_file_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match=r"pipe\.png is a device or pipe, expected an image file"):  # without waiting
        load_image(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="/dev/zero is a device or pipe"):
        load_image("/dev/zero")


def test_names_that_are_no_utf_8_are_shown_escaped(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9 \xc3\xbc.png"
    with open(name, "wb") as file:
        file.write(b"no picture")
    with pytest.raises(OSError, match=r"caf\\udce9 ü\.png is not readable") as caught:
        load_image(os.fsdecode(name))
    str(caught.value).encode()
    Image.fromarray(PHOTO).save(os.fsdecode(name), format="PNG")
    np.testing.assert_array_equal(load_image(os.fsdecode(name), dtype="uint8"), PHOTO)
