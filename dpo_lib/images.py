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

from .checks import as_plain, check_image, shape_hint

__all__ = [
    "as_batch",
    "as_plain",
    "check_image",
    "load_image",
    "luminance",
    "round_to_8_bit",
    "save_image",
    "shrink_image",
    "to_numpy",
    "to_tensor",
    "to_uint8",
]


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
    image: np.ndarray | torch.Tensor, *, minimum_size: int = 1, low: float = 0.0, high: float = 1.0
) -> tuple[torch.Tensor, Callable[[torch.Tensor], np.ndarray | torch.Tensor]]:
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
    kind, single = image.dtype, plain.ndim == 3
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

    return batch, restore


def shrink_image(image: torch.Tensor, factor: float) -> torch.Tensor:
    """Antialiased reduction of a batch (B, 3, H, W) to `factor` of its size; 1 gives the batch itself."""
    if factor == 1:
        return image
    size = [max(1, round(side * factor)) for side in image.shape[2:]]
    return F.interpolate(image, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
