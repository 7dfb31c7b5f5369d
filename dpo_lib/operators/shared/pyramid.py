"""Gaussian and Laplacian pyramids with the five-tap binomial kernel of Burt and Adelson (1983).

Sizes are halved and rounded up, any size from one pixel on works, beyond the border the nearest pixel is repeated.

References
----------
.. [1] P. J. Burt, E. H. Adelson, "The Laplacian pyramid as a compact image code", IEEE Transactions on
   Communications 31(4), 1983. doi:10.1109/TCOM.1983.1095851
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch


def depth(height: int, width: int) -> int:
    """Number of levels until the shorter side is one pixel.

    >>> depth(5, 300), depth(1, 7)
    (4, 1)
    """
    return (min(height, width) - 1).bit_length() + 1


def reduce(image: torch.Tensor) -> torch.Tensor:
    """Smooth with (1, 4, 6, 4, 1) / 16 along both axes and keep every second sample, the first one included.

    Parameters
    ----------
    image : tensor (..., H, W)

    Returns
    -------
    tensor (..., ceil(H / 2), ceil(W / 2))
    """
    return _reduce_axis(_reduce_axis(image, -2), -1)


def expand(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Undo `reduce` in size: zeros in between, smoothed with twice the kernel, so that constants stay.

    Parameters
    ----------
    image : tensor (..., ceil(H / 2), ceil(W / 2))
    size : (H, W)

    Returns
    -------
    tensor (..., H, W)
    """
    return _expand_axis(_expand_axis(image, size[1], -1), size[0], -2)


def gaussian_pyramid(image: torch.Tensor, levels: int | None = None) -> list[torch.Tensor]:
    """The image and its repeated reductions, `levels` tensors in all (default: `depth`)."""
    pyramid = [image]
    for _ in range((depth(*image.shape[-2:]) if levels is None else levels) - 1):
        pyramid.append(reduce(pyramid[-1]))
    return pyramid


def laplacian_pyramid(image: torch.Tensor, levels: int | None = None) -> list[torch.Tensor]:
    """What each reduction loses, G_l - expand(G_{l+1}), and the coarsest Gaussian level last."""
    gaussian = gaussian_pyramid(image, levels)
    details = [fine - expand(coarse, fine.shape[-2:]) for fine, coarse in pairwise(gaussian)]
    return [*details, gaussian[-1]]


def collapse(pyramid: Sequence[torch.Tensor]) -> torch.Tensor:
    """The image of a Laplacian pyramid; the inverse of `laplacian_pyramid` up to rounding.

    >>> image = torch.rand(1, 1, 5, 6, dtype=torch.float64)
    >>> torch.allclose(collapse(laplacian_pyramid(image)), image)
    True
    """
    image = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        image = expand(image, detail.shape[-2:]).add_(detail)
    return image


def _reduce_axis(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Sum over the five taps, gathered from the even and the odd samples, each with its border repeated."""
    size = x.shape[axis]
    half = (size + 1) // 2
    even, odd = x[_at(axis, slice(0, None, 2))], x[_at(axis, slice(1, None, 2))]
    if axis == -1:
        even, odd = even.contiguous(), odd.contiguous()  # strided reads are slow, do each once
    out = even * 6
    out[_at(axis, slice(1, None))] += even[_at(axis, slice(None, -1))]
    out[_at(axis, slice(None, -1))] += even[_at(axis, slice(1, None))]
    out[_at(axis, slice(None, odd.shape[axis]))].add_(odd, alpha=4)
    out[_at(axis, slice(1, None))].add_(odd[_at(axis, slice(None, half - 1))], alpha=4)
    out[_at(axis, slice(None, 1))].add_(x[_at(axis, slice(None, 1))], alpha=5)
    last = x[_at(axis, slice(size - 1, None))]  # taken one tap too far for an even size, two for an odd one
    out[_at(axis, slice(half - 1, None))].add_(last, alpha=1 if size % 2 == 0 else 5)
    return out.div_(16)


def _expand_axis(x: torch.Tensor, size: int, axis: int) -> torch.Tensor:
    """Even samples (1, 6, 1) / 8, odd ones (1, 1) / 2; the border repeated."""
    shape = list(x.shape)
    shape[axis] = size
    out = x.new_empty(shape)
    before = torch.cat([x[_at(axis, slice(None, 1))], x[_at(axis, slice(None, -1))]], axis)
    after = torch.cat([x[_at(axis, slice(1, None))], x[_at(axis, slice(-1, None))]], axis)
    out[_at(axis, slice(1, None, 2))] = (x + after)[_at(axis, slice(None, size // 2))].mul_(0.5)
    out[_at(axis, slice(0, None, 2))] = before.add_(after).add_(x, alpha=6).mul_(0.125)
    return out


def _at(axis: int, chosen: slice) -> tuple:
    return (..., chosen) if axis == -1 else (..., chosen, slice(None))
