"""Images: loading, saving, checking, and the two forms in which they travel.

An image is either a NumPy array ``(H, W, 3)`` (float in [0, 1], or uint8) or a batch of them as a
floating-point tensor ``(B, 3, H, W)`` in [0, 1]. Everything inside the library works on the second form;
`as_batch` turns whatever a caller brings into it and gives back the way home.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

RANGE_TOLERANCE = 1e-3  # rounding in a caller's own conversion is not a reason to refuse an image


def load_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file as RGB.

    Parameters
    ----------
    path : str or path
        Any file that Pillow opens. Gray images are turned to RGB, an alpha channel is dropped.

    Returns
    -------
    ndarray (H, W, 3), float32 in [0, 1]
    """
    with Image.open(path) as file:
        return np.asarray(file.convert("RGB"), dtype=np.float32) / np.float32(255)


def save_image(path: str | os.PathLike, image: np.ndarray | torch.Tensor) -> Path:
    """Write an image as 8-bit RGB, whole or not at all.

    Parameters
    ----------
    path : str or path
        Where to; the ending chooses the format. Missing folders are made.
    image : ndarray (H, W, 3) or tensor (3, H, W) or (1, 3, H, W)
        Values in [0, 1] (clipped), or uint8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(suffix=path.suffix, dir=path.parent)
    os.close(handle)
    try:
        Image.fromarray(to_uint8(to_numpy(image))).save(temporary)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return path


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """NumPy ``(H, W, 3)`` or ``(B, H, W, 3)`` to a tensor ``(B, 3, H, W)`` in [0, 1].

    >>> to_tensor(np.zeros((5, 7, 3), np.uint8)).shape
    torch.Size([1, 3, 5, 7])
    """
    batch, _ = as_batch(np.asarray(image) if np.ndim(image) == 3 else np.asarray(image)[0], minimum_size=1)
    if np.ndim(image) == 3:
        return batch
    return torch.cat([to_tensor(one) for one in image])


def to_numpy(image: torch.Tensor | np.ndarray) -> np.ndarray:
    """A tensor ``(3, H, W)`` or ``(1, 3, H, W)`` to NumPy ``(H, W, 3)``; arrays pass through."""
    if isinstance(image, np.ndarray):
        return image
    if image.dim() == 4:
        if image.shape[0] != 1:
            raise ValueError(f"expected one image, got a batch of {image.shape[0]}: take one by its index first")
        image = image[0]
    return image.detach().permute(1, 2, 0).cpu().numpy()


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Round an image in [0, 1] to 8 bits (clipping first); uint8 passes through."""
    if image.dtype == np.uint8:
        return image
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


def check_image(image: torch.Tensor, *, minimum_size: int = 1, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Check a batch of images and give it back.

    Raises
    ------
    TypeError
        Not a floating-point tensor.
    ValueError
        Not ``(B, 3, H, W)``, smaller than `minimum_size` pixels on a side, not finite, or outside [low, high].
    """
    if not isinstance(image, torch.Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, torch.Tensor) else type(image).__name__
        raise TypeError(f"image must be a floating-point tensor in [0, 1], got {kind}: divide 8-bit values by 255")
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(
            f"image must have shape (B, 3, H, W), got {tuple(image.shape)}: "
            "add a batch axis, move the channels forward, or repeat a gray image three times"
        )
    if min(image.shape[2:]) < minimum_size or image.shape[0] == 0:
        raise ValueError(f"image must have at least {minimum_size} pixels a side, got shape {tuple(image.shape)}")
    # aminmax passes NaN on, so one reading of the image finds every kind of bad value
    smallest, largest = (float(v) for v in torch.aminmax(image.detach()))
    if not (np.isfinite(smallest) and np.isfinite(largest)):
        raise ValueError("image must be finite, got NaN or infinity")
    if smallest < low - RANGE_TOLERANCE or largest > high + RANGE_TOLERANCE:
        raise ValueError(
            f"image values must lie in [{low:g}, {high:g}], got [{smallest:.4g}, {largest:.4g}]: "
            "divide by the largest possible value, or clip"
        )
    return image


def as_batch(
    image: np.ndarray | torch.Tensor, *, minimum_size: int = 1, low: float = 0.0, high: float = 1.0
) -> tuple[torch.Tensor, Callable[[torch.Tensor], np.ndarray | torch.Tensor]]:
    """Bring an image of either form to a checked tensor, and say how to go back.

    Parameters
    ----------
    image : tensor (B, 3, H, W) floating, or ndarray (H, W, 3) floating in [0, 1] or uint8
    minimum_size, low, high
        What `check_image` demands.

    Returns
    -------
    batch : tensor (B, 3, H, W)
    restore : callable
        Turns a result ``(B, 3, H', W')`` into the caller's form (tensor, float array, or uint8 array).

    Raises
    ------
    TypeError, ValueError
        See `check_image`.
    """
    if isinstance(image, torch.Tensor):
        return check_image(image, minimum_size=minimum_size, low=low, high=high), lambda result: result
    if not isinstance(image, np.ndarray):
        raise TypeError(f"image must be a tensor (B, 3, H, W) or a NumPy array (H, W, 3), got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"a NumPy image must have shape (H, W, 3), got {image.shape}: "
            "repeat a gray image three times, drop an alpha channel"
        )
    dtype = image.dtype
    if dtype == np.uint8:
        values = image.astype(np.float32) / np.float32(255)
    elif dtype in (np.float32, np.float64):
        values = image
    else:
        raise TypeError(f"a NumPy image must be float32, float64 or uint8, got {dtype}: convert it first")
    batch = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    check_image(batch, minimum_size=minimum_size, low=low, high=high)

    def restore(result: torch.Tensor) -> np.ndarray:
        array = to_numpy(result)
        return to_uint8(array) if dtype == np.uint8 else array.astype(dtype, copy=False)

    return batch, restore


def shrink_image(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Antialiased reduction of a batch (B, 3, H, W) to `factor` of its size; 1 gives the batch itself."""
    if factor == 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
