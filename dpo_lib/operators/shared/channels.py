"""Which channels a restoration task is about: all of RGB, MATLAB's Y, or the luma of a gray image."""

from __future__ import annotations

import torch

from ...images import luminance

CHANNELS = ("rgb", "luminance", "gray")


def select_channels(image: torch.Tensor, *, on: str) -> torch.Tensor:
    """The clean image of a restoration task.

    Parameters
    ----------
    image : tensor (B, 3, H, W) in [0, 1]
    on : {"rgb", "luminance", "gray"}
        The image itself; MATLAB's studio-range Y = (16 + 219 luma) / 255, repeated on three channels (published
        super-resolution and deblocking work on this image, and so measure ``on="gray"`` of it); or full-range luma,
        repeated on three channels (gray denoising; a gray image stays as it is).

    Returns
    -------
    tensor (B, 3, H, W) in [0, 1]

    Raises
    ------
    ValueError
        Unknown `on`.

    Examples
    --------
    >>> white = torch.ones(1, 3, 2, 2)
    >>> [round(255 * select_channels(white, on=on).max().item()) for on in CHANNELS]
    [255, 235, 255]
    """
    if on not in CHANNELS:
        raise ValueError(f"on must be one of {', '.join(CHANNELS)}, got {on!r}")
    if on == "rgb":
        return image
    luma = luminance(image)
    if on == "luminance":
        luma = (luma * 219 + 16) / 255
    return luma.expand_as(image)


def clean_target(image: torch.Tensor, *, on: str, **_: object) -> torch.Tensor:
    """`select_channels` as an operator's target; the degradation's other settings do not concern the clean image."""
    return select_channels(image, on=on).contiguous()
