"""Local Laplacian filter with a three-fold gain for small differences (Aubry et al. 2014)."""

from __future__ import annotations

import torch

from ..images import luminance
from .operator import Operator
from .shared.local_laplacian import local_laplacian, recolour


def local_laplacian_remap(
    image: torch.Tensor,
    *,
    gain: float = 3.0,
    threshold: float = 0.1,
    levels: int = 20,
    pyramid_levels: int | None = None,
) -> torch.Tensor:
    """Multiply small luminance differences at every scale, and shift large ones so that the curve has no step.

    With d = i - g, the remapping is r(i) = g + gain d for |d| < threshold and g + d + sign(d) (gain - 1) threshold
    beyond; by default g + 3 d, and g + d + 0.2 sign(d). Texture becomes three times as strong, and edges gain
    0.2 in luminance on top of their own height.

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        float32 or float64 in [0, 1], on any device.
    gain : float
        Factor of small differences, >= 0; 1 changes nothing, less smooths, more brings texture out.
    threshold : float
        Luminance difference where the factor ends, > 0; larger lets the gain reach stronger contrasts.
    levels : int
        Number of sampled luminances g, at least 2. More come closer to the exact local Laplacian filter.
    pyramid_levels : int, optional
        Depth of the pyramids, at least 2; see `dpo_lib.operators.llf`.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device, clipped to [0, 1].

    Raises
    ------
    ValueError
        gain negative, threshold not positive, or fewer than 2 levels of either kind.

    Notes
    -----
    See `dpo_lib.operators.llf` for the pyramids and their depth, the interpolation over g, luminance and colour; only r
    differs: r(i) - g = d + (gain - 1) clip(d, -threshold, threshold).

    Agreement with itself (PSNR, results/self_agreement.csv): 48 dB on shifted and 34 to 38 dB on mirrored photographs;
    with pyramids down to one pixel the latter is 26 to 32 dB. This caps a network that treats all places alike, 3 to 6
    dB above the figures.

    References
    ----------
    .. [1] M. Aubry, S. Paris, S. W. Hasinoff, J. Kautz, F. Durand, "Fast local Laplacian filters: theory and
       applications", ACM Transactions on Graphics 33(5), 2014. doi:10.1145/2629645

    Examples
    --------
    >>> ramp = torch.linspace(0.4, 0.5, 48).view(1, 1, 6, 8).repeat(1, 3, 1, 1)
    >>> bool(local_laplacian_remap(ramp).std() > 2 * ramp.std())
    True
    """
    if gain < 0 or not threshold > 0:
        raise ValueError(f"llf_remap needs gain >= 0 and threshold > 0, got gain {gain}, threshold {threshold}")

    def remap(difference: torch.Tensor) -> torch.Tensor:
        return difference.clamp(-threshold, threshold).mul_(gain - 1).add_(difference)

    before = luminance(image)
    return recolour(image, before, local_laplacian(before, remap, levels=levels, pyramid_levels=pyramid_levels))


OPERATOR = Operator(
    name="llf_remap",
    title="Local Laplacian remapping",
    function=local_laplacian_remap,
)
