"""Distributions of intensities, and how one is turned into another."""

from __future__ import annotations

import torch

BINS_PER_UNIT = 4 * 255  # of the luminance histograms: an 8-bit value lies in the middle of its bin


def match_intensities(gray: torch.Tensor, values: torch.Tensor, cumulative: torch.Tensor) -> torch.Tensor:
    """Map each image's values so that they get the model's distribution.

    Distributions are histograms whose bins hold evenly spread values, so that pixels which differ by rounding alone
    stay together, and equal ones go to the middle of their share.

    Parameters
    ----------
    gray : tensor (B, 1, H, W)
        In [-1, 2]; what lies beyond counts as the end.
    values, cumulative : tensor (n,)
        The model's bin edges in rising order, and the share of its pixels below each.

    Returns
    -------
    tensor (B, 1, H, W)
    """
    return interpolate(ranks(gray), cumulative, values)


def ranks(gray: torch.Tensor) -> torch.Tensor:
    """Share of each image's pixels that are darker than a pixel, (B, 1, H, W) to the same; see `match_intensities`.

    >>> ranks(torch.tensor([0.2, 0.4, 0.4, 0.8]).view(1, 1, 1, 4)).flatten()
    tensor([0.1250, 0.5000, 0.5000, 0.8750])
    """
    return look_up(cumulative_shares(gray), gray.add(1).mul_(BINS_PER_UNIT).add_(0.5))


def cumulative_shares(gray: torch.Tensor) -> torch.Tensor:
    """Share of the pixels below each bin edge, from -1 to 2 by 1 / BINS_PER_UNIT: tensor (B, bins + 1)."""
    bins = 3 * BINS_PER_UNIT + 1
    position = (gray.flatten(1).double() + 1).mul_(BINS_PER_UNIT).clamp_(0, bins - 1)
    base = position.floor()
    share = position.sub_(base)  # between two bins a pixel counts in both: nothing jumps when it moves a little
    counts = torch.zeros(gray.shape[0], bins + 2, dtype=torch.float64, device=gray.device)
    counts.scatter_add_(1, base.long() + 1, 1 - share).scatter_add_(1, base.long() + 2, share)
    total = counts[:, :-1].cumsum(1)
    return (total / total[:, -1:]).to(gray.dtype)  # by the sum as rounded, so that the last share is exactly 1


def look_up(table: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Each image's table (B, n) at fractional positions (B, k, H, W), linear between its entries."""
    position = position.clamp(0, table.shape[1] - 1)
    base = position.floor().clamp_(max=table.shape[1] - 2)
    index = base.long().flatten(1)
    step, start = (part.gather(1, index).view_as(base) for part in (table.diff(dim=1), table))
    return position.sub_(base).mul_(step).add_(start)


def interpolate(x: torch.Tensor, knots: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Piecewise linear function with values[n] at knots[n] (rising), constant outside."""
    upper = torch.searchsorted(knots, x.contiguous()).clamp_(1, len(knots) - 1)
    left = knots[upper - 1]
    share = ((x - left) / (knots[upper] - left).clamp(min=torch.finfo(x.dtype).tiny)).clamp_(0, 1)
    return torch.lerp(values[upper - 1], values[upper], share)
