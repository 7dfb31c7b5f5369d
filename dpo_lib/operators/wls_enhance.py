"""WLS enhancement: more contrast at three scales of the lightness (Farbman et al. 2008)."""

from __future__ import annotations

import math

import torch

from .operator import Operator
from .shared.lab import lab_to_rgb, rgb_to_lab
from .wls import weighted_least_squares


def wls_enhancement(
    image: torch.Tensor,
    *,
    base: float = 4.0,
    medium: float = 8.0,
    fine: float = 8.0,
    exposure: float = 1.0,
    lambdas: tuple[float, float] = (0.125, 0.5),
) -> torch.Tensor:
    """Split the lightness into a base and two layers of detail, make each of them stronger, and add them up.

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        float32 or float64 in [0, 1], on any device.
    base, medium, fine : float
        Strength of the three bands, > 0. A strength a multiplies small values by a / (4 tanh(a / 4)): towards 0
        nothing changes, 4 gives 1.3, 8 gives 2.1.
    exposure : float
        Factor of the base before its boost; larger is lighter.
    lambdas : (float, float)
        Weights of the two WLS filters, the weaker one first: what the first removes is the fine layer, what the second
        removes beyond that is the medium one.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device, clipped to [0, 1].

    Raises
    ------
    ValueError
        A strength or lambda that is not positive and finite.

    Notes
    -----
    Section 5 of the reference. With the lightness L* / 100 = l of CIELAB, its mean m, and u_1, u_2 the WLS filtered
    l (alpha 1.2, guide log l),

        out = m + s(base, exposure u_2 - m) + s(medium, u_1 - u_2) + s(fine, l - u_1),
        s(a, x) = tanh(a x / 2) / (2 tanh(a / 4)),

    the sigmoid shifted and scaled to s(0) = 0 and s(1/2) = 1/2, so that large differences are not driven out of range.
    a* and b* stay as they are. RGB is sRGB with its tone curve, white is D65.

    Differs from the paper: neither paper gives the strengths; ours are chosen by eye for a clearly visible
    enhancement.

    Agreement with itself (PSNR, results/self_agreement.csv): 100 dB or more on mirrored and 89 dB on shifted
    photographs; on one that is cropped 40 dB, since the mean lightness is another: a network must see the whole
    picture.

    References
    ----------
    .. [1] Z. Farbman, R. Fattal, D. Lischinski, R. Szeliski, "Edge-preserving decompositions for multi-scale tone and
       detail manipulation", ACM Transactions on Graphics 27(3), 2008. doi:10.1145/1360612.1360666

    Examples
    --------
    >>> ramp = torch.linspace(0.4, 0.6, 48).view(1, 1, 6, 8).repeat(1, 3, 1, 1)
    >>> bool(wls_enhancement(ramp).std() > 1.2 * ramp.std())
    True
    """
    if not all(0 < v < math.inf for v in (base, medium, fine, *lambdas)):
        raise ValueError(
            f"wls_enhance needs positive strengths and lambdas, "
            f"got base {base}, medium {medium}, fine {fine}, lambdas {tuple(lambdas)}"
        )
    lab = rgb_to_lab(image)
    lightness = lab[:, :1] / 100
    weaker, stronger = (weighted_least_squares(lightness, lam) for lam in lambdas)
    mean = lightness.mean((2, 3), keepdim=True)
    enhanced = (
        mean
        + _boost(exposure * stronger - mean, base)
        + _boost(weaker - stronger, medium)
        + _boost(lightness - weaker, fine)
    )
    return lab_to_rgb(torch.cat([100 * enhanced.clamp_(0, 1), lab[:, 1:]], dim=1)).clamp_(0, 1)


def _boost(x: torch.Tensor, strength: float) -> torch.Tensor:
    return torch.tanh(strength / 2 * x) / (2 * math.tanh(strength / 4))


OPERATOR = Operator(name="wls_enhance", title="WLS enhancement", function=wls_enhancement, border="symmetric")
