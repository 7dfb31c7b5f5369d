"""Images: loading, saving, checking, and the two forms in which they travel.

An image is either a NumPy array ``(H, W, 3)`` (float in [0, 1], or uint8) or a batch of them as a
floating-point tensor ``(B, 3, H, W)`` in [0, 1]. Everything inside the library works on the second form;
`as_batch` turns whatever a caller brings into it and gives back the way home.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .checks import RANGE_TOLERANCE, as_plain, check_image, shape_hint
from .decoding import ImageTooLarge, decode, name_of
from .files import printable, write_atomically

__all__ = [
    "BORDERS",
    "MAX_PIXELS",
    "SUFFIXES",
    "ImageTooLarge",
    "as_batch",
    "as_plain",
    "check_image",
    "extended",
    "load_image",
    "luminance",
    "round_to_8_bit",
    "save_image",
    "shrink_image",
    "to_numpy",
    "to_tensor",
    "to_uint8",
]

BORDERS = ("edge", "symmetric", "wrap")  # what lies beyond an image's borders, as `numpy.pad` names it
AnyImage = TypeVar("AnyImage", bound=np.ndarray | torch.Tensor)  # the form that comes in is the form that goes out
OVERSHOOT = 0.5  # filters and networks leave [0, 1] by a little; another scale of values leaves it by far
MAX_PIXELS = 110_000_000  # the largest cameras have 102 megapixels; this many take 330 MB in 8 bits, 1.3 GB in floats

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
WRITTEN: dict[str, tuple[str, dict]] = {  # suffix to format and its options
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".bmp": ("BMP", {}),
    ".ppm": ("PPM", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".jpg": ("JPEG", {"subsampling": 0}),
    ".jpeg": ("JPEG", {"subsampling": 0}),
}


def load_image(
    path: str | os.PathLike | BinaryIO, *, dtype: str | type = "float32", max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Read an image file as RGB.

    Parameters
    ----------
    path : str, path or binary file
        JPEG, PNG, BMP, TIFF, WebP or PPM (PGM, PBM, PFM), recognised by its content. 8 and 16 bits, gray, palette,
        1 bit, CMYK, and floats in [0, 1].
    dtype : {"float32", "uint8"}
        "uint8" is a quarter of the memory; deeper files are rounded to it.
    max_pixels : int
        Refuse larger images before they are decoded: a file of a few kilobytes can unpack to gigabytes.

    Returns
    -------
    ndarray (H, W, 3), float32 in [0, 1], or uint8
        Gray is repeated three times. A camera's rotation mark is applied.

    Warns
    -----
    UserWarning
        Something was transparent: an alpha channel is dropped, the image laid over white.

    Raises
    ------
    OSError
        No such file, none of these formats, or damaged.
    ImageTooLarge
        A ValueError: more than `max_pixels`.
    ValueError
        Floats outside [0, 1], NaN, or whole numbers of 32 bits.

    Notes
    -----
    Colour profiles are not applied, and of several pictures in a file the first is read.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> Image.fromarray(np.full((4, 6), 51, np.uint8)).save(file, "PNG")  # gray, 8 bits
    >>> image = load_image(file)
    >>> image.shape, float(image.max())
    ((4, 6, 3), 0.20000000298023224)
    """
    if dtype not in ("float32", "uint8", np.float32, np.uint8):
        raise ValueError(f"dtype must be float32 or uint8, got {dtype!r}")
    as_uint8 = np.dtype(dtype) == np.uint8
    values, white, alpha, premultiplied = decode(path, max_pixels=max_pixels)
    if values.dtype.kind == "f":
        _check_floats(values, name_of(path))
    if alpha is not None and (alpha < white).any():
        warnings.warn(
            f"{name_of(path)} is transparent in places: its alpha channel is dropped, white shows through", stacklevel=2
        )
        colour, share = (np.divide(part, np.float32(white), dtype=np.float32) for part in (values, alpha))
        values, white = np.clip((colour if premultiplied else colour * share) + (1 - share), 0, 1), 1.0
    if not (as_uint8 and values.dtype == np.uint8):
        values = np.divide(values, np.float32(white), dtype=np.float32)
        values = to_uint8(values) if as_uint8 else np.clip(values, 0, 1, out=values)
    if values.shape[2] == 1:
        values = np.repeat(values, 3, axis=2)
    return values if values.flags.writeable else values.copy()


def _check_floats(values: np.ndarray, name: str) -> None:
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} holds NaN or infinity, expected floats in [0, 1]")
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(
            f"{name} holds floats in [{low:.4g}, {high:.4g}], expected [0, 1]: divide by the value of white, or clip"
        )


def save_image(
    path: str | os.PathLike, image: np.ndarray | torch.Tensor, *, clip: bool = False, quality: int = 95
) -> Path:
    """Write an image as 8-bit RGB, whole or not at all.

    Parameters
    ----------
    path : str or path
        Where to; the suffix chooses the format. PNG, TIFF, BMP, PPM and WebP keep every value, JPEG does not.
        Missing folders are made, an older file is replaced.
    image : ndarray (H, W, 3) or tensor (3, H, W), or a batch of one
        Values in [0, 1], or uint8.
    clip : bool
        Values outside [0, 1] are clipped without a warning, however far out.
    quality : int
        Of a JPEG, 1 to 100 (colours are kept at full resolution).

    Returns
    -------
    Path

    Warns
    -----
    UserWarning
        Values were clipped.

    Raises
    ------
    TypeError, ValueError
        Not an image, NaN or infinity, values far outside [0, 1], a suffix of no known format, a wrong quality.
    OSError
        It cannot be written there; an older file is still whole.
    """
    path = Path(path)
    name = printable(path)
    if path.suffix.lower() not in WRITTEN:
        raise ValueError(f"cannot write {name}: expected a name ending in {', '.join(WRITTEN)}, got {path.suffix!r}")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ValueError(f"quality must be a whole number from 1 to 100, got {quality!r}")
    pixels = _rounded(image, name, clip)
    kind, options = WRITTEN[path.suffix.lower()]
    if kind == "JPEG":
        options = {**options, "quality": quality}
    with write_atomically(path) as temporary:
        Image.fromarray(pixels).save(temporary, format=kind, **options)
    return path


def _rounded(image: np.ndarray | torch.Tensor, name: str, clip: bool) -> np.ndarray:
    """An image in either form as ndarray (H, W, 3), uint8; `name` is for messages."""
    image = as_plain(image)
    if image.ndim == 4 and len(image) != 1:
        raise ValueError(f"expected one image, got a batch of {len(image)}: take one by its index first")
    array = to_numpy(image)[0] if isinstance(image, np.ndarray) and image.ndim == 4 else to_numpy(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"expected an image of shape (H, W, 3), or a tensor (3, H, W), got shape {tuple(image.shape)}")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"cannot write {name}: the image holds NaN or infinity")
    if not clip and (low < -OVERSHOOT or high > 1 + OVERSHOOT):
        raise ValueError(
            f"cannot write {name}: image values must lie in [0, 1], got [{low:.4g}, {high:.4g}]: "
            "divide by the largest possible value"
        )
    if not clip and (low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE):
        warnings.warn(
            f"{name}: values in [{low:.4g}, {high:.4g}] were clipped to [0, 1] (clip=True says that this is meant)",
            stacklevel=3,
        )
    return to_uint8(array)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """NumPy ``(H, W, 3)`` or ``(B, H, W, 3)`` to a tensor ``(B, 3, H, W)`` in [0, 1].

    >>> to_tensor(np.zeros((5, 7, 3), np.uint8)).shape
    torch.Size([1, 3, 5, 7])
    """
    return as_batch(image)[0]


def to_numpy(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """A tensor ``(3, H, W)`` or ``(1, 3, H, W)`` to NumPy ``(H, W, 3)``; arrays pass through."""
    if isinstance(image, np.ndarray):
        return image
    if image.dim() == 4:
        if image.shape[0] != 1:
            raise ValueError(f"expected one image, got a batch of {image.shape[0]}: take one by its index first")
        image = image[0]
    if image.dim() != 3:
        raise ValueError(f"expected a tensor (3, H, W) or (1, 3, H, W), got shape {tuple(image.shape)}")
    return _to_arrays(image[None])[0]


def _to_arrays(batch: torch.Tensor) -> np.ndarray:
    """``(B, 3, H, W)`` to NumPy ``(B, H, W, 3)``."""
    batch = batch.detach().resolve_neg().permute(0, 2, 3, 1).cpu()
    return (batch.float() if batch.dtype == torch.bfloat16 else batch).numpy()  # NumPy has no bfloat16


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round an image in [0, 1] to 8 bits (clipping first); uint8 passes through."""
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.promote_types(image.dtype, np.float32), copy=False)  # halves would round twice
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def round_to_8_bit(image: torch.Tensor) -> torch.Tensor:
    """Clip to [0, 1] and round to multiples of 1/255, staying floating point."""
    return (image.clamp(0, 1) * 255).round() / 255


def luminance(image: torch.Tensor) -> torch.Tensor:
    """BT.601 luma of an RGB batch, full range: ``(B, 3, H, W)`` to ``(B, 1, H, W)``, same range in and out.

    >>> luminance(torch.ones(1, 3, 2, 2)).unique().item()
    1.0
    """
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype, device=image.device)
    return (image * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def as_batch(
    image: AnyImage, *, minimum_size: int = 1, low: float = 0.0, high: float = 1.0
) -> tuple[torch.Tensor, Callable[[torch.Tensor], AnyImage]]:
    """Bring images of either form to a checked tensor, and say how to go back.

    Parameters
    ----------
    image : tensor (B, 3, H, W) floating, or ndarray (H, W, 3) or (B, H, W, 3), floating in [0, 1] or uint8
    minimum_size, low, high
        What `check_image` demands.

    Returns
    -------
    batch : tensor (B, 3, H, W)
        A tensor as it came; of an array a copy, float64 if it was that, else float32.
    restore : callable
        Turns a result ``(B, 3, H', W')`` into the caller's form and dtype.

    Raises
    ------
    TypeError, ValueError
        See `as_plain` and `check_image`.
    """
    plain = as_plain(image)
    if isinstance(plain, torch.Tensor):
        dtype = plain.dtype
        return check_image(plain, minimum_size=minimum_size, low=low, high=high), lambda result: result.to(dtype)
    if plain.ndim not in (3, 4) or plain.shape[-1] != 3:
        raise ValueError(
            f"a NumPy image must have shape (H, W, 3) or (B, H, W, 3), got {plain.shape}{shape_hint(plain)}"
        )
    kind: Any = image.dtype
    single = plain.ndim == 3
    arrays = plain[None] if single else plain
    if kind == np.uint8:
        arrays = arrays.astype(np.float32) / np.float32(255)
    wanted = np.float64 if arrays.dtype == np.float64 else np.float32
    batch = torch.from_numpy(np.array(arrays.transpose(0, 3, 1, 2), dtype=wanted, order="C"))
    check_image(batch, minimum_size=minimum_size, low=low, high=high)

    def restore(result: torch.Tensor) -> np.ndarray:
        array = _to_arrays(result)
        array = to_uint8(array) if kind == np.uint8 else array.astype(kind, copy=False)
        return array[0] if single else array

    return batch, restore  # type: ignore[return-value]  # of the kind that came in


def extended(image: torch.Tensor, border: str, *, before: int = 0, after: Sequence[int] = (0, 0)) -> torch.Tensor:
    """Images (B, C, H, W) that go on beyond their borders.

    Parameters
    ----------
    image : tensor (B, C, H, W)
    border : {"edge", "symmetric", "wrap"}
        The last pixels are repeated, the image is mirrored, or it begins again.
    before : int
        Pixels above and on the left.
    after : (int, int)
        Pixels below and on the right.

    Examples
    --------
    >>> row = torch.arange(3.0)[None, None, None]
    >>> [extended(row, border, before=0, after=(0, 4)).int().flatten().tolist() for border in BORDERS]
    [[0, 1, 2, 2, 2, 2, 2], [0, 1, 2, 2, 1, 0, 0], [0, 1, 2, 0, 1, 2, 0]]
    """
    for axis, more in zip((2, 3), after, strict=True):
        size = image.shape[axis]
        along = torch.arange(-before, size + more, device=image.device)
        image = image.index_select(axis, stand_ins(along, size, border))
    return image


def stand_ins(along: torch.Tensor, size: int, border: str) -> torch.Tensor:
    """Of `size` pixels those that stand for places before 0 or from `size` on, see `extended`."""
    end = torch.full_like(along, size)  # a tensor: ONNX knows no remainder of a size
    if border == "wrap":
        return along.remainder(end)
    if border == "symmetric":
        along = along.remainder(2 * end)
        return torch.minimum(along, 2 * end - 1 - along)
    return torch.minimum(along.clamp(min=0), end - 1)


def shrink_image(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Antialiased reduction of a batch (B, 3, H, W) to `factor` of its size; 1 gives the batch itself."""
    if factor == 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
