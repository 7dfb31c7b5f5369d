"""The fast local Laplacian filter of one channel with any remapping, and the colours that go with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral

import torch

from .pyramid import collapse, depth, expand, gaussian_pyramid, reduce

DARK = 1e-3  # a quarter of an 8-bit step: keeps the colour ratio of a black pixel finite


def pyramid_depth(height: int, width: int, levels: int | None = None) -> int:
    """Number of pyramid levels the filter works with.

    Parameters
    ----------
    height, width : int
        Of the image, in pixels.
    levels : int, optional
        How many are wanted, at least 2. Default: ceil(ln(min(height, width)) - ln 2) + 2, as in the program of the
        filter's authors. Neither goes deeper than one pixel on the shorter side.

    Raises
    ------
    ValueError
        `levels` not a whole number of at least 2.

    Examples
    --------
    >>> pyramid_depth(321, 481), pyramid_depth(321, 481, 9), pyramid_depth(321, 481, 99)
    (8, 9, 10)
    """
    if levels is None:
        levels = math.ceil(math.log(min(height, width)) - math.log(2)) + 2
    elif not isinstance(levels, Integral) or isinstance(levels, bool) or levels < 2:
        raise ValueError(
            f"pyramid_levels must be a whole number >= 2 (one level has no detail to change) or None for the authors' "
            f"depth, got {levels!r}"
        )
    return min(int(levels), depth(height, width))


def local_laplacian(
    gray: torch.Tensor,
    remap: Callable[[torch.Tensor], torch.Tensor],
    *,
    levels: int,
    pyramid_levels: int | None = None,
) -> torch.Tensor:
    """Fast local Laplacian filter of a one-channel image with any remapping.

    Parameters
    ----------
    gray : tensor (B, 1, H, W) in [0, 1]
    remap : callable
        Takes the differences d = i - g, a tensor (B, k, H, W), and gives r(i) - g as a new tensor.
    levels : int
        Number of sampled g, at least 2.
    pyramid_levels : int, optional
        Depth of the pyramids, see `pyramid_depth`.

    Returns
    -------
    tensor (B, 1, H, W), not clipped

    Raises
    ------
    ValueError
        Fewer than 2 levels of either kind.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2 (black and white), got {levels}")
    step = 1 / (levels - 1)
    height, width = gray.shape[-2:]
    *gaussian, residual = gaussian_pyramid(gray, pyramid_depth(height, width, pyramid_levels))
    gaussian = [level.clamp(0, 1) for level in gaussian]  # outside, no two samples lie around a value
    result = [torch.zeros_like(level) for level in gaussian]
    centres = torch.arange(levels, dtype=gray.dtype, device=gray.device).mul_(step).view(1, -1, 1, 1)
    # a GPU wants several samples in one piece, a CPU one at a time so that they stay in its cache
    for g in centres.split(1 if gray.device.type == "cpu" else 5, dim=1):
        fine = remap(gray - g)
        for local, total in zip(gaussian, result, strict=True):
            coarse = reduce(fine)
            weight = (local - g).abs_().div_(-step).add_(1).clamp_(min=0)
            total += fine.sub_(expand(coarse, fine.shape[-2:])).mul_(weight).sum(1, keepdim=True)
            fine = coarse
    return collapse([*result, residual])


def recolour(image: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Give the image a new luminance, (B, 1, H, W) before and after, at the old colour ratios; clipped to [0, 1]."""
    gain = (after + DARK) / (before + DARK)
    return (image + DARK).mul_(gain).sub_(DARK).clamp_(0, 1)
