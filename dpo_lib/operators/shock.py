"""Shock filter: sharpen blurred edges into steps, without overshoot (Osher and Rudin 1990)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..images import luminance
from .operator import Operator

STRAIGHT = 1e-6  # a second derivative this small is rounding error, and its sign is noise


def shock_filter(image: torch.Tensor, *, iterations: int = 15, dt: float = 0.1) -> torch.Tensor:
    """Sharpen the luma by letting every edge run into a step.

    Follows u_t = -sign(L(u)) |grad u|, with L(u) the second derivative along the gradient: values rise on the
    bright side of an edge and fall on its dark side, until the two meet. More iterations (or a larger dt) sharpen
    wider ramps and leave flatter, patch-like regions.

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        float32 or float64 in [0, 1], on any device.
    iterations : int
        Number of time steps, at least 0.
    dt : float
        Time step, in (0, 0.7]: up to 1 / sqrt(2) a pixel stays between its neighbours.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device, clipped to [0, 1].

    Raises
    ------
    ValueError
        dt outside (0, 0.7], or a negative number of iterations.

    Notes
    -----
    With the one-sided differences d+ and d- of neighbouring pixels (distance 1) and m(a, b) = the smaller one of a
    and b in magnitude where they have the same sign, else 0, each step sets

        u <- u - dt sign(L) sqrt(m(dx+ u, dx- u)^2 + m(dy+ u, dy- u)^2)
        L  = u_xx u_x^2 + 2 u_xy u_x u_y + u_yy u_y^2

    where the derivatives in L are central differences. Beyond the border the image is continued by its nearest
    pixel. u is the BT.601 luma; what it changes by is added to R, G and B alike, which keeps the colour differences.

    Differs from the paper: sign(L) is 0 where the second derivative L / (u_x^2 + u_y^2) is within 1e-6 of 0, where
    rounding would decide otherwise (8-bit images are full of such places). Clipping happens once, at the end.

    Agreement with itself (PSNR, results/self_agreement.csv): 100 dB or more on mirrored and shifted photographs; this
    caps no network.

    References
    ----------
    .. [1] S. Osher, L. I. Rudin, "Feature-oriented image enhancement using shock filters", SIAM Journal on Numerical
       Analysis 27(4), 1990. doi:10.1137/0727053

    Examples
    --------
    >>> row = torch.tensor([0.2, 0.2, 0.3, 0.7, 0.8, 0.8])
    >>> sharp = shock_filter(row.expand(1, 3, 4, 6), iterations=60)
    >>> [round(v, 2) for v in sharp[0, 0, 0].tolist()]
    [0.2, 0.2, 0.2, 0.8, 0.8, 0.8]
    """
    if not 0 < dt <= 0.7 or iterations < 0:
        raise ValueError(f"shock needs dt in (0, 0.7] and iterations >= 0, got dt {dt}, iterations {iterations}")
    before = u = luminance(image)
    for _ in range(iterations):
        u = _step(u, dt)
    return (image + (u - before)).clamp_(0, 1)


def _step(u: torch.Tensor, dt: float) -> torch.Tensor:
    around = F.pad(u, (1, 1, 1, 1), mode="replicate")
    left, right = around[..., 1:-1, :-2], around[..., 1:-1, 2:]
    up, down = around[..., :-2, 1:-1], around[..., 2:, 1:-1]
    speed = torch.sqrt(_minmod(right - u, u - left).square_() + _minmod(down - u, u - up).square_())
    ux, uy = (right - left) / 2, (down - up) / 2
    uxx, uyy = right - 2 * u + left, down - 2 * u + up
    uxy = (around[..., 2:, 2:] - around[..., 2:, :-2] - around[..., :-2, 2:] + around[..., :-2, :-2]) / 4
    bend = uxx * ux.square() + 2 * uxy * ux * uy + uyy * uy.square()
    direction = torch.where(bend.abs() > STRAIGHT * (ux.square() + uy.square()), bend.sign(), 0)
    return u - dt * direction * speed


def _minmod(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.where(a * b > 0, torch.where(a.abs() < b.abs(), a, b), 0)


OPERATOR = Operator(name="shock", title="Shock filter", function=shock_filter)
