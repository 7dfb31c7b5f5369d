"""Deraining: synthetic rain streaks."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from .operator import Operator
from .shared.lines import line_kernel


def add_rain(
    image: torch.Tensor,
    *,
    density: float = 0.004,
    length_px: tuple[float, float] = (12.0, 30.0),
    angle_deg: tuple[float, float] = (-30.0, 30.0),
    strength: float = 0.4,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Add bright, straight, parallel streaks of rain.

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        float32 or float64 in [0, 1], on any device.
    density : float
        Expected number of streaks per pixel, in [0, 1]; larger is heavier rain, 0 none.
    length_px : (low, high)
        Each image's streaks have one length, drawn uniformly from here, at least 1 px; longer is faster rain.
    angle_deg : (low, high)
        Each image's direction, drawn uniformly, from the vertical, in (-90, 90); positive goes down to the right.
    strength : float
        Brightness of the brightest streak, in [0, 1]; the others lie between a quarter of it and all of it.
    generator : torch.Generator, optional
        CPU generator; default: a new one with seed 0.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device, in [0, 1]; no pixel is darker than before.

    Raises
    ------
    ValueError
        A setting out of the ranges above.

    Notes
    -----
    rainy = min(1, clean + R), with the same R for R, G and B. R starts as drops of random brightness at random pixels
    and is blurred along the direction of fall: convolved with a line of the drawn length, about 2 px thick, of
    maximum 1. Everything is drawn and blurred on the CPU, image by image: every device sees the same rain, and a batch
    the same as its images one after the other.

    Differs from the paper: Fu et al. render their streaks in Photoshop and publish pairs of images; this model needs no
    data. For photographs with rain of others use `dpo_lib.data.rain.rain_pairs`.

    References
    ----------
    .. [1] X. Fu, J. Huang, D. Zeng, Y. Huang, X. Ding, J. Paisley, "Removing rain from single images via a deep detail
       network", CVPR 2017. doi:10.1109/CVPR.2017.186

    Examples
    --------
    >>> clean = torch.full((1, 3, 40, 60), 0.3)
    >>> rainy = add_rain(clean)
    >>> bool((rainy >= clean).all()) and bool(rainy.max() > 0.5)
    True
    """
    if not (0 <= density <= 1 and 0 <= strength <= 1):
        raise ValueError(f"density and strength must lie in [0, 1] for derain, got {density} and {strength}")
    if not (1 <= length_px[0] <= length_px[1] and -90 < angle_deg[0] <= angle_deg[1] < 90):
        raise ValueError(
            "derain needs length_px = (low, high) from 1 px on and angle_deg = (low, high) within (-90, 90), "
            f"got {length_px} and {angle_deg}"
        )
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    layers = [
        _streaks(image.shape[2:], density=density, length_px=length_px, angle_deg=angle_deg, generator=generator)
        for _ in image
    ]
    return (image + strength * torch.stack(layers).to(image)).clamp_(max=1)


def _streaks(size: torch.Size, *, density, length_px, angle_deg, generator: torch.Generator) -> torch.Tensor:
    """Streaks of brightness up to 1, and more where they cross: tensor (1, H, W), float32."""
    rand = functools.partial(torch.rand, generator=generator, dtype=torch.float32)
    u, v = rand(2).tolist()
    line = line_kernel(
        length_px[0] + u * (length_px[1] - length_px[0]), angle_deg[0] + v * (angle_deg[1] - angle_deg[0])
    )
    margin = line.shape[0] // 2  # drops outside the picture whose streak reaches into it
    shape = [side + 2 * margin for side in size]
    falls = rand(shape) < density
    drops = falls * (0.25 + 0.75 * rand(shape))
    return F.conv2d(drops[None, None], line[None, None])[0].clamp_(0, 1)


OPERATOR = Operator(
    name="derain", title="Deraining", function=add_rain, kind="restoration", minimum_size=1, border="symmetric"
)
