"""What counts as an image in memory: checked once, at the public door, and refused in the library's own words."""

from __future__ import annotations

import contextlib
import reprlib
from typing import Any

import numpy as np
import torch

RANGE_TOLERANCE = 1e-3  # rounding in a caller's own conversion is not a reason to refuse an image
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def as_plain(image: np.ndarray | torch.Tensor, name: str = "image") -> np.ndarray | torch.Tensor:
    """Refuse arrays and tensors whose numbers cannot be read as an image's; a subclass of ndarray becomes plain.

    Parameters
    ----------
    image : ndarray or tensor
    name : str
        For messages.

    Returns
    -------
    ndarray (floating of 2, 4 or 8 bytes in the machine's order, or uint8), or a dense tensor (floating or uint8)

    Raises
    ------
    TypeError
        Neither, or of another dtype; sparse, nested, or without values; with masked pixels.
    """
    if isinstance(image, torch.Tensor):
        if image.is_nested or image.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got the layout {image.layout}: make it dense first")
        if image.device.type == "meta":
            raise TypeError(f"{name} must hold values, got a tensor on the meta device")
        _check_dtype(image, name, image.dtype in (*FLOATS, torch.uint8))
        return image
    if not isinstance(image, np.ndarray):
        raise TypeError(f"{name} must be a tensor or a NumPy array, got {type(image).__name__}")
    if np.ma.is_masked(image):
        raise TypeError(f"{name} must be a plain array, got a masked one: fill its masked pixels first")
    array = np.asarray(image)
    is_float = array.dtype.kind == "f" and array.dtype.itemsize <= 8
    _check_dtype(array, name, is_float or array.dtype == np.uint8)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_dtype(image: np.ndarray | torch.Tensor, name: str, is_known: bool) -> None:
    if not is_known:
        is_whole = str(image.dtype).removeprefix("torch.").startswith(("int", "uint"))
        raise TypeError(
            f"{name} must hold floating-point numbers or uint8, got {image.dtype}: convert it first"
            + (", and divide by the value of white" if is_whole else "")
        )


def as_numbers(value: Any, name: str) -> torch.Tensor:
    """A caller's number, or numbers in any form, as float64 on the CPU; a tensor's gradient goes on.

    Parameters
    ----------
    value : number, array, tensor, or sequences of them
    name : str
        For messages.

    Raises
    ------
    TypeError
        Text, truth values, complex numbers, whole numbers beyond 64 bits, rows of different lengths, and tensors
        without values.
    """
    if isinstance(value, (list, tuple)) and any(isinstance(part, torch.Tensor) for part in value):
        parts = [as_numbers(part, name) for part in value]
        if len({part.shape for part in parts}) == 1:
            return torch.stack(parts)
    elif isinstance(value, torch.Tensor):
        is_dense = not value.is_nested and value.layout == torch.strided and value.device.type != "meta"
        if is_dense and value.dtype != torch.bool and not value.is_complex():
            return value.to("cpu", torch.float64)
    else:
        with contextlib.suppress(ValueError, TypeError):  # rows of different lengths
            array = np.asarray(value)
            if array.dtype.kind in "iuf":
                return torch.from_numpy(array.astype(np.float64))  # a copy: torch knows no negative strides
    raise TypeError(f"{name} must be a number, or numbers in rows of one length, got {reprlib.repr(value)}")


def check_image(image: torch.Tensor, *, minimum_size: int = 1, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Check a batch of images and give it back.

    Raises
    ------
    TypeError
        Not a dense floating-point tensor.
    ValueError
        Not ``(B, 3, H, W)``, smaller than `minimum_size` pixels on a side, not finite, or outside [low, high].
    """
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"image must be a floating-point tensor in [0, 1], got {type(image).__name__}")
    if as_plain(image).dtype == torch.uint8:
        raise TypeError("image must be a floating-point tensor in [0, 1], got torch.uint8: divide 8-bit values by 255")
    if image.dim() != 4 or image.shape[1] != 3:
        raise ValueError(f"image must have shape (B, 3, H, W), got {tuple(image.shape)}{shape_hint(image)}")
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


def shape_hint(image: np.ndarray | torch.Tensor) -> str:
    """The end of a message about a shape: what to do, where the shape shows it.

    >>> shape_hint(np.zeros((5, 7, 4))), shape_hint(torch.zeros(3, 5, 7)), shape_hint(np.zeros((5, 7, 2)))
    (': drop the alpha channel', ': add a batch axis', '')
    """
    *_, first, _, last = (0, 0, 0, *tuple(image.shape))
    channels, elsewhere = (last, first) if isinstance(image, np.ndarray) else (first, last)
    if image.ndim == 2 or (image.ndim in (3, 4) and channels == 1):
        return ": repeat a gray image three times"
    if image.ndim not in (3, 4):
        return ""
    if channels == 3:
        return ": add a batch axis" if image.ndim == 3 else ""
    if channels == 4:
        return ": drop the alpha channel"
    if elsewhere == 3:
        return ": move the channels " + ("to the end" if isinstance(image, np.ndarray) else "forward")
    return ""
