"""Straight lines as kernels."""

from __future__ import annotations

import math

import torch


def line_kernel(length_px: float, angle_deg: float) -> torch.Tensor:
    """A straight line through the middle of a square of odd side, about 2 px thick, maximum 1.

    A pixel's value is 1 minus its distance to the line in pixels, or 0.

    >>> line_kernel(3, 0)[:, 1:4]
    tensor([[0., 0., 0.],
            [0., 1., 0.],
            [0., 1., 0.],
            [0., 1., 0.],
            [0., 0., 0.]])
    """
    half = (length_px - 1) / 2
    radius = math.ceil(half) + 1
    y, x = torch.meshgrid(*[torch.arange(-radius, radius + 1, dtype=torch.float32)] * 2, indexing="ij")
    sine, cosine = math.sin(math.radians(angle_deg)), math.cos(math.radians(angle_deg))
    along, across = x * sine + y * cosine, x * cosine - y * sine
    return (1 - torch.hypot((along.abs() - half).clamp(min=0), across)).clamp(min=0)
