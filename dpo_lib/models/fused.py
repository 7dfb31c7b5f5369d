"""Activation and last convolution in one, for processors: the step that cheap tuning repeats for every value."""

from __future__ import annotations

from collections.abc import Sequence

import torch

STRIP_VALUES = 1 << 20  # activations worked on at a time (4 MiB), so that they stay in the processor's cache
PRODUCT_COLUMNS = 16  # matrix products are quickest with a multiple of so many columns


def working_room(x: torch.Tensor, weight: torch.Tensor) -> list[torch.Tensor]:
    """Memory that `activate_and_convolve` works in; kept by callers that call it often."""
    _, channels, height, width = x.shape
    pixels = min(height, max(1, STRIP_VALUES // (channels * width))) * width
    products = weight[:, 0].numel()
    padded = -(-products // PRODUCT_COLUMNS) * PRODUCT_COLUMNS
    return [x.new_empty(pixels, columns) for columns in (channels, padded)] + [x.new_empty(products, pixels)]


def activate_and_convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    scale: torch.Tensor,
    shift: torch.Tensor,
    padding: str = "zeros",
    room: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    r"""relu(scale * x + shift), then a 3x3 or pointwise convolution to few channels: for CPUs, several times as fast.

    Parameters
    ----------
    x : tensor (B, C, H, W)
        Quickest in the channels_last layout.
    weight : tensor (D, C, 3, 3) or (D, C, 1, 1)
    scale, shift : tensor (C,) or (B, C)
    padding : {"zeros", "replicate"}
        What the convolution sees beyond the border.
    room : list of tensor, optional
        From `working_room`.

    Returns
    -------
    tensor (B, D, H, W)

    Notes
    -----
    With three outputs, a convolution's usual inner loop over the outputs is mostly empty. Instead, each pixel's C
    activations are multiplied to the 9 D values that it gives to its neighbours, one matrix product, and these are
    added up; strip by strip of some rows, which stay in the cache.

    With z = -shift / scale, where the ReLU bends,

    .. math:: relu(scale\, x + shift) = scale\, \max(x, z) + shift \quad (scale > 0), \qquad
              scale\, \min(x, z) + shift \quad (scale < 0),

    so that one comparison is all that is left to do for each activation: the scale goes into the matrix, and the shift
    gives a constant.

    Examples
    --------
    >>> x, weight = torch.randn(2, 5, 16, 20), torch.randn(3, 5, 3, 3)
    >>> scale, shift = torch.randn(5), torch.randn(5)
    >>> slow = torch.conv2d(torch.relu(scale[:, None, None] * x + shift[:, None, None]), weight, padding=1)
    >>> torch.allclose(slow, activate_and_convolve(x, weight, scale=scale, shift=shift), atol=1e-4)
    True
    """
    batch, channels, height, width = x.shape
    outputs, _, _, side = weight.shape
    active, given, planes = room or working_room(x, weight)
    rows = len(active) // width
    taps = weight.permute(2, 3, 0, 1).reshape(-1, channels)
    matrix = x.new_zeros(channels, given.shape[1])
    result = x.new_zeros(batch, outputs, height + 2, width)  # a row more above and below
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    scale, shift = (v.to(x.dtype).expand(batch, channels) for v in (scale, shift))
    for image, out, s, b in zip(pixels, result, scale, shift, strict=True):
        flat = s.abs() < torch.finfo(x.dtype).tiny  # a channel that is constant, relu(shift)
        bend = torch.where(flat, 0, -b / torch.where(flat, 1, s))
        low = torch.where(s > 0, bend, -torch.inf)
        high = torch.where(s < 0, bend, torch.inf)
        constant = (taps @ torch.where(flat, b.relu(), b)).view(side, side, outputs)
        out[:, 1:-1] = _spread(constant, height, width, padding)
        matrix[:, : len(taps)] = (taps * torch.where(flat, 0, s)).t()
        for top in range(0, height, rows):
            n = min(rows, height - top)
            strip, product = active[: n * width], given[: n * width]
            torch.clamp(image[top * width : (top + n) * width], low, high, out=strip)
            torch.mm(strip, matrix, out=product)
            to_neighbours = planes[:, : n * width].copy_(product.t()[: len(taps)])
            to_neighbours = to_neighbours.view(side, side, outputs, n, width)
            if side == 1:
                out[:, 1 + top : 1 + top + n] += to_neighbours[0, 0]
                continue
            for down in range(3):  # what tap (down, right) takes from (y, x) belongs to (y + 1 - down, x + 1 - right)
                _add_row(out[:, top + 2 - down : top + 2 - down + n], to_neighbours[down], padding)
            if padding == "replicate" and top == 0:
                _add_row(out[:, 1:2], to_neighbours[0, :, :, :1], padding)
            if padding == "replicate" and top + n == height:
                _add_row(out[:, -2:-1], to_neighbours[2, :, :, -1:], padding)
    return result[:, :, 1:-1]


def _add_row(target: torch.Tensor, from_right: torch.Tensor, padding: str) -> None:
    """Add what the three taps of one kernel row, (3, D, n, W), give to rows of the result, (D, n, W)."""
    target += from_right[1]
    target[..., 1:] += from_right[0, ..., :-1]
    target[..., :-1] += from_right[2, ..., 1:]
    if padding == "replicate":
        target[..., 0] += from_right[0, ..., 0]
        target[..., -1] += from_right[2, ..., -1]


def _spread(taps: torch.Tensor, height: int, width: int, padding: str) -> torch.Tensor:
    """What a constant gives through a padded convolution: taps (k, k, D) to (D, height, width)."""
    if padding == "replicate" or len(taps) == 1:
        return taps.sum((0, 1))[:, None, None].expand(-1, height, width)
    corner = torch.conv2d(taps.new_ones(1, 1, 3, 3), taps.permute(2, 0, 1)[:, None], padding=1)[0]
    down, right = (1 - (torch.arange(n) == 0).long() + (torch.arange(n) == n - 1).long() for n in (height, width))
    return corner[:, down.to(taps.device)][..., right.to(taps.device)]
