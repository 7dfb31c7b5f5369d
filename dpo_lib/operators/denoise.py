"""Denoising: additive white Gaussian noise, and the clean image to get back."""

from __future__ import annotations

import torch

from .operator import Operator, Parameter, broadcast
from .shared.channels import clean_target, select_channels


def add_noise(
    image: torch.Tensor,
    sigma: torch.Tensor | float,
    *,
    on: str = "gray",
    clip: bool = False,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Add white Gaussian noise of standard deviation sigma / 255.

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        float32 or float64 in [0, 1], on any device.
    sigma : float or tensor (B,)
        Standard deviation in 8-bit steps, > 0; larger is noisier. The paper's range is [10, 70].
    on : {"gray", "luminance", "rgb"}
        Noise on the luma, repeated on three channels (the paper's gray benchmarks); on studio-range Y, repeated; or
        independent noise on R, G and B. See `dpo_lib.operators.shared.channels`.
    clip : bool
        Clip the result to [0, 1] (as a camera would) instead of keeping the noise Gaussian.
    generator : torch.Generator, optional
        CPU generator; default: a new one with seed 0.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device. Unless clipped, values leave [0, 1].

    Raises
    ------
    ValueError
        sigma not positive, or unknown `on`.

    Notes
    -----
    degraded = clean + (sigma / 255) n, with n drawn from N(0, 1) in single precision, image by image, on the CPU:
    every device sees the same noise, and a batch the same as its images one after the other.

    References
    ----------
    .. [1] K. Zhang, W. Zuo, Y. Chen, D. Meng, L. Zhang, "Beyond a Gaussian denoiser: residual learning of deep CNN for
       image denoising", IEEE Transactions on Image Processing 26(7), 2017. doi:10.1109/TIP.2017.2662206

    Examples
    --------
    >>> noisy = add_noise(torch.full((1, 3, 64, 48), 0.5), 25)
    >>> round(255 * noisy.std().item())
    25
    """
    strength = broadcast(sigma, image)
    if not bool((strength > 0).all()):
        raise ValueError(f"denoise needs sigma > 0, got {strength.flatten().tolist()}")
    clean = select_channels(image, on=on)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    shape = (3 if on == "rgb" else 1, *image.shape[2:])
    noise = torch.stack([torch.randn(shape, generator=generator, dtype=torch.float32) for _ in image])
    noisy = clean + noise.to(image) * (strength / 255)
    return noisy.clamp_(0, 1) if clip else noisy


OPERATOR = Operator(
    name="denoise",
    title="Denoising",
    function=add_noise,
    kind="restoration",
    parameters=(Parameter("sigma", 10, 70, default=25, test_values=(15, 25, 50), unit="/255"),),
    settings={"on": "gray"},
    minimum_size=1,
    target=clean_target,
    border="symmetric",
)
