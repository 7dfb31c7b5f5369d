"""The colour space CIELAB."""

from __future__ import annotations

import torch

# linear RGB (sRGB primaries) to XYZ, and the white that RGB = (1, 1, 1) gives: D65
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
CORNER = 6 / 29  # of Lab's cube root: straight below its third power


def rgb_to_lab(image: torch.Tensor) -> torch.Tensor:
    """sRGB (B, 3, H, W) in [0, 1] to CIELAB: L* in [0, 100], a* and b* around 0."""
    linear = torch.where(image > 0.04045, ((image.clamp(min=0) + 0.055) / 1.055) ** 2.4, image / 12.92)
    matrix = torch.tensor(TO_XYZ, dtype=image.dtype, device=image.device)
    ratio = torch.einsum("ij,bjhw->bihw", matrix / matrix.sum(1, keepdim=True), linear)
    x, y, z = torch.where(ratio > CORNER**3, ratio.clamp(min=0) ** (1 / 3), ratio / (3 * CORNER**2) + 4 / 29).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: torch.Tensor) -> torch.Tensor:
    """CIELAB (B, 3, H, W) to sRGB; colours that sRGB lacks leave [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    root = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    ratio = torch.where(root > CORNER, root**3, 3 * CORNER**2 * (root - 4 / 29))
    matrix = torch.tensor(TO_XYZ, dtype=torch.float64)
    inverse = torch.linalg.inv(matrix / matrix.sum(1, keepdim=True)).to(lab)
    linear = torch.einsum("ij,bjhw->bihw", inverse, ratio)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055, 12.92 * linear)
