"""The fast local Laplacian filter of one channel with any remapping, and the colours that go with it."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .pyramid import collapse, expand, gaussian_pyramid, reduce

DARK = 1e-3  # a quarter of an 8-bit step: keeps the colour ratio of a black pixel finite


def local_laplacian(gray: torch.Tensor, remap: Callable[[torch.Tensor], torch.Tensor], *, levels: int) -> torch.Tensor:
    """Fast local Laplacian filter of a one-channel image with any remapping.

    Parameters
    ----------
    gray : tensor (B, 1, H, W) in [0, 1]
    remap : callable
        Takes the differences d = i - g, a tensor (B, k, H, W), and gives r(i) - g as a new tensor.
    levels : int
        Number of sampled g, at least 2.

    Returns
    -------
    tensor (B, 1, H, W), not clipped

    Raises
    ------
    ValueError
        Fewer than 2 levels.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2 (black and white), got {levels}")
    step = 1 / (levels - 1)
    *gaussian, residual = gaussian_pyramid(gray)
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
