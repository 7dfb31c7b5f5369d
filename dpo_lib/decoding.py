"""Pixels out of image files, in the depth that the file has; `dpo_lib.images.load_image` is the door to it."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile

from .files import printable

FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")  # Pillow also knows some that start other programs
NAMES = "JPEG, PNG, BMP, TIFF, WebP or PPM"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ORIENTATION, BITS, PHOTOMETRIC, PLANES, SAMPLES = 0x0112, 258, 262, 284, 339  # numbers of tags
WHITE_IS_ZERO, RGB = 0, 2
SEPARATE_PLANES, SIGNED = 2, 2
PREMULTIPLIED, STRAIGHT = 1, 2  # kinds of alpha in a TIFF
NO_WHITE = "holds signed or 32-bit whole numbers, whose white is not known: save it in 8 or 16 bits, or as floats"


class ImageTooLarge(ValueError):
    """An image file with more pixels than the caller allows; found before anything is decoded."""


class Pixels(NamedTuple):
    """An image as its file holds it, upright.

    Parameters
    ----------
    values : ndarray (H, W, 1) or (H, W, 3)
    white : float
        The value of white; black is 0.
    alpha : ndarray (H, W, 1), optional
        From 0 (not seen at all) to `white`.
    premultiplied : bool
        The values have been multiplied by alpha / white.
    """

    values: np.ndarray
    white: float
    alpha: np.ndarray | None = None
    premultiplied: bool = False


def decode(source: str | os.PathLike | BinaryIO, *, max_pixels: int) -> Pixels:
    """Read the first image of a file.

    Parameters
    ----------
    source : path or binary file
    max_pixels : int

    Raises
    ------
    OSError
        No such file, no regular file, not one of the accepted formats, or damaged.
    ImageTooLarge
        More than `max_pixels`.
    ValueError
        Pixels whose range is not known.
    """
    name = name_of(source)
    if not isinstance(source, (str, os.PathLike)):
        return _decode(source, name, max_pixels)
    if not stat.S_ISREG(os.stat(source).st_mode) and not Path(source).is_dir():  # a pipe would be waited for for ever
        raise OSError(f"{name} is a device or pipe, expected an image file")
    with open(source, "rb") as file:
        return _decode(file, name, max_pixels)


def name_of(source: str | os.PathLike | BinaryIO) -> str:
    """What to call an image file in messages."""
    if isinstance(source, (str, os.PathLike)):
        return printable(source)
    name = getattr(source, "name", None)
    return printable(name) if isinstance(name, str) else "the image"


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Pixels:
    try:
        return _read(file, name, max_pixels)
    except (ImageTooLarge, _UnknownRange):
        raise
    except Image.UnidentifiedImageError as error:
        raise OSError(f"{name} is not readable as an image: expected {NAMES}, whole and undamaged") from error
    except Exception as error:  # damaged files make the decoders raise whatever they stumble over
        reason = str(error) or type(error).__name__
        raise OSError(f"{name} is not readable as an image ({reason}): damaged, or of a rare kind") from error


class _UnknownRange(ValueError):
    """Pixels that cannot be scaled to [0, 1] without guessing."""


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name} has {width} x {height} = {width * height} pixels, expected {max_pixels} at most: "
            "shrink it, or allow more with max_pixels"
        )


def _open(file: BinaryIO, name: str, max_pixels: int) -> ImageFile.ImageFile:
    """The header alone, checked against `max_pixels`."""
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `max_pixels` decides
        try:
            image = Image.open(file, formats=FORMATS)
        except Image.DecompressionBombError as error:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise ImageTooLarge(
                f"{name} has more than {limit} pixels, expected {min(limit, max_pixels)} at most: shrink it, or allow "
                "more with max_pixels and Pillow's own PIL.Image.MAX_IMAGE_PIXELS"
            ) from error
    _check_size(image.size, name, max_pixels)
    return image


def _read(file: BinaryIO, name: str, max_pixels: int) -> Pixels:
    file.seek(0)
    is_tiff = file.read(4) in TIFF_STARTS
    try:
        image: Any = _open(file, name, max_pixels)  # of a TIFF it has tags, too
    except Image.UnidentifiedImageError:
        if not is_tiff:
            raise
        return _read_tiff(file, name, max_pixels)  # colours in floats, for instance
    if is_tiff and image.tag_v2.get(PLANES) == SEPARATE_PLANES and max(image.tag_v2.get(BITS, (1,))) > 8:
        return _read_tiff(file, name, max_pixels)  # Pillow would take the bytes of such a file for pixels
    if is_tiff and (image.mode == "I" or SIGNED in image.tag_v2.get(SAMPLES, ())):
        raise _UnknownRange(f"{name} {NO_WHITE}")
    deep = _read_16_bit_colours(file, image, name, max_pixels)
    if deep is not None:
        return deep
    mode = image.mode
    if mode == "F" or mode.startswith("I"):
        return _read_one_channel(image, name)
    if image.has_transparency_data or mode in ("La", "RGBa"):
        if mode == "La":
            image = image.convert("LA")
        rgba = _upright(image, np.asarray(image.convert("RGBA")))
        return Pixels(rgba[:, :, :3], 255, rgba[:, :, 3:])
    return Pixels(_upright(image, np.asarray(image.convert("RGB"))), 255)


def _read_one_channel(image: Any, name: str) -> Pixels:
    """Gray of more than 8 bits."""
    bits, white_is_zero = 16, False
    if image.format == "TIFF":
        bits, white_is_zero = image.tag_v2.get(BITS, (1,))[0], image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO
    white = 1.0 if image.mode == "F" else 2.0**bits - 1
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    values = _upright(image, values if image.mode == "F" else values.astype(np.uint16))[:, :, None]
    alpha = None if transparent is None else np.where(values == transparent, 0, white)
    return Pixels(_inverted(values, white) if white_is_zero else values, white, alpha)


def _inverted(values: np.ndarray, white: float) -> np.ndarray:
    return np.asarray(white, values.dtype) - values


def _read_16_bit_colours(file: BinaryIO, image: ImageFile.ImageFile, name: str, max_pixels: int) -> Pixels | None:
    """Colours of 16 bits, where the file has such.

    Pillow keeps one byte of two, and the raw mode of its tiles says which: the file is decoded once for each.
    """
    codec, _, _, options = image.tile[0] if image.tile else ("", None, 0, "")
    raw, *rest = options if isinstance(options, tuple) else (options,)
    white = 65535.0
    if codec == "ppm" and image.mode == "RGB" and rest[0] > 255:
        codec, raw, white = "raw", "RGB;16B", float(rest[0])
    kind, _, order = str(raw).partition(";16")
    if order not in ("B", "L", "N") or kind not in ("LA", "RGB", "RGBX", "RGBA", "RGBa"):
        return None
    if kind == "LA":  # its four bytes are read as if they were four channels
        four = _decode_as(file, name, max_pixels, codec, "RGBA").astype(np.uint16)
        both = four[:, :, ::2] << 8 | four[:, :, 1::2]
        return Pixels(both[:, :, :1], white, both[:, :, 1:])
    first = "B" if order == "B" or (order == "N" and sys.byteorder == "big") else "L"
    kind = "RGBA" if kind == "RGBa" else kind  # Pillow would divide byte by byte
    high, low = (
        _decode_as(file, name, max_pixels, codec, f"{kind};16{letter}") for letter in (first, "LB"[first == "L"])
    )
    both = high.astype(np.uint16) << 8 | low
    both = both[:, :, :3] if kind == "RGBX" else both  # Pillow 10 keeps the filler
    if both.shape[2] == 4:
        return Pixels(both[:, :, :3], white, both[:, :, 3:], premultiplied=str(raw).startswith("RGBa"))
    key = image.info.get("transparency")
    alpha = None if key is None else np.where((both == key).all(2, keepdims=True), 0, white)
    return Pixels(both, white, alpha)


def _decode_as(file: BinaryIO, name: str, max_pixels: int, codec: str, raw: str) -> np.ndarray:
    """Decode anew, with another raw mode."""
    with _open(file, name, max_pixels) as image:
        tiles: list[Any] = []
        for tile in image.tile:
            _, extents, offset, options = tile
            options = (raw, *options[1:]) if isinstance(options, tuple) and tile[0] == codec else raw
            changed = (codec, extents, offset, options)
            tiles.append(changed if type(tile) is tuple else type(tile)(*changed))  # a plain one before Pillow 11
        image.tile = tiles
        return _upright(image, np.asarray(image))


def _read_tiff(file: BinaryIO, name: str, max_pixels: int) -> Pixels:
    """What Pillow does not know: colours in floats, and planes of 16 bits."""
    import tifffile

    file.seek(0)
    with _quiet("tifffile"), tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        _check_size((page.imagewidth, page.imagelength), name, max_pixels)
        extra, samples = tuple(page.extrasamples), page.samplesperpixel
        colours = 3 if page.photometric == RGB else 1
        if page.photometric > RGB or page.axes not in ("YX", "YXS", "SYX") or samples != colours + len(extra):
            raise ValueError(f"{samples} samples per pixel, arranged as {page.axes}")
        if samples > colours + 1:
            raise ValueError(f"{samples} samples per pixel")
        values = page.asarray()
        orientation = page.tags[ORIENTATION].value if ORIENTATION in page.tags else 1
    values = np.moveaxis(values, 0, 2) if page.axes == "SYX" else values
    values = values.reshape(*values.shape[:2], samples)
    if values.dtype.kind == "f":
        values, white = values.astype(np.float32), 1.0
    elif values.dtype in (np.uint8, np.uint16):
        white = 2.0**page.bitspersample - 1
    else:
        raise _UnknownRange(f"{name} {NO_WHITE}")
    values = turn(values, orientation)
    alpha = values[:, :, colours:] if extra and extra[0] in (PREMULTIPLIED, STRAIGHT) else None
    values = values[:, :, :colours]
    if page.photometric == WHITE_IS_ZERO:
        values = _inverted(values, white)
    return Pixels(values, white, alpha, premultiplied=alpha is not None and extra[0] == PREMULTIPLIED)


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a reader's running comment on a damaged file from the terminal: one error is enough."""
    logger = logging.getLogger(name)
    logger.addFilter(_nothing)
    try:
        yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _upright(image: ImageFile.ImageFile, values: np.ndarray) -> np.ndarray:
    """Turned as the camera noted it (after loading: by then Pillow has turned a TIFF itself)."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged notes do not make the picture unreadable
        orientation = 1
    return turn(values, orientation)


def turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, ...) made upright from an EXIF orientation of 1 to 8; others leave it alone.

    >>> turn(np.array([[1, 2, 3], [4, 5, 6]]), 6)
    array([[4, 1],
           [5, 2],
           [6, 3]])
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(values[:: -1 if down else 1, :: -1 if right else 1])
