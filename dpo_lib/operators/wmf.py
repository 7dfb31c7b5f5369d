"""Weighted median filter: remove small structures and keep edges, without new values (Zhang et al. 2014)."""

from __future__ import annotations

import math

import torch

from .operator import Operator, Parameter, broadcast

STRIP = 2**18  # pixels filtered at a time, which bounds the memory for large images


def weighted_median_filter(
    image: torch.Tensor, radius: torch.Tensor | float, *, sigma: float = 25.5 / 255, levels: int = 256
) -> torch.Tensor:
    """Replace each value by the weighted median of the square window around it.

    The neighbour q of pixel p has the weight w(p, q) = exp(-(I(p) - I(q))^2 / (2 sigma^2)), and the result is the
    smallest value v for which the neighbours with I(q) <= v have at least half of the window's weight. A larger
    radius removes larger structures and rounds corners; a smaller sigma keeps fainter ones.

    Parameters
    ----------
    image : tensor (B, 3, H, W)
        float32 or float64 in [0, 1], on any device.
    radius : float or tensor (B,)
        Window radius in pixels, rounded to the nearest whole number r >= 0 (halves up); the window has (2 r + 1)^2
        pixels. The paper's range is [1, 10].
    sigma : float
        Range sigma of the weights, > 0, in units of the image's range. ``math.inf`` makes all weights equal: the
        plain median filter.
    levels : int
        Number of different values, at least 2, up to which a channel is filtered exactly. The work grows with it.

    Returns
    -------
    tensor (B, 3, H, W)
        Same dtype and device. Every value occurs in the channel (or is a level of it, see below).

    Raises
    ------
    ValueError
        radius negative or not finite, sigma not positive, or fewer than 2 levels.

    Notes
    -----
    Each channel is guided by itself. Beyond the border the image is continued by its nearest pixel, as in OpenCV's
    ``medianBlur``, with which the plain median agrees exactly.

    The filter is built from level sets. Let v_1 < ... < v_n be the channel's values and h_p(v) the number of pixels
    in the window of p with the value v: one sliding sum of an indicator image per value, the cost of which hardly
    depends on the radius. Then

        result(p) = the first v_k with sum_{j <= k} h_p(v_j) w(v_j - I(p)) >= 1/2 sum_j h_p(v_j) w(v_j - I(p))

    This is exact for a channel of at most `levels` different values, so for every 8-bit image. A channel of more is
    first rounded to `levels` evenly spaced values between its smallest and largest, an error of 0.002 at most.

    Differs from the paper: the reference allows any guide image, colours included, and finds the median with a joint
    histogram that is updated from pixel to pixel. The labels of the decoupled learning paper came from a range
    sigma so large (thousands on a scale of 1) that all weights were equal; ``OPERATOR`` therefore has sigma infinite.

    Agreement with itself (PSNR, results/self_agreement.csv): 100 dB or more on mirrored and shifted photographs; this
    caps no network.

    References
    ----------
    .. [1] Q. Zhang, L. Xu, J. Jia, "100+ times faster weighted median filter (WMF)", IEEE Conference on Computer
       Vision and Pattern Recognition, 2014. doi:10.1109/CVPR.2014.362

    Examples
    --------
    >>> image = torch.full((1, 3, 5, 7), 0.2)
    >>> image[..., 2, 3] = 0.6
    >>> weighted_median_filter(image, 1)[0, 0, 2, 3].item() == image[0, 0, 0, 0].item()
    False
    >>> weighted_median_filter(image, 1, sigma=math.inf)[0, 0, 2, 3].item() == image[0, 0, 0, 0].item()
    True
    """
    radii = broadcast(radius, image).flatten().tolist()
    if not all(0 <= r < math.inf for r in radii) or not sigma > 0 or levels < 2:
        raise ValueError(
            f"wmf needs radius >= 0, sigma > 0 and levels >= 2, got radius {radii}, sigma {sigma}, levels {levels}"
        )
    return torch.stack(
        [
            torch.stack([_filter_plane(plane, math.floor(r + 0.5), sigma, levels) for plane in planes])
            for planes, r in zip(image, radii, strict=True)
        ]
    )


def _filter_plane(plane: torch.Tensor, radius: int, sigma: float, levels: int) -> torch.Tensor:
    """Filter one channel (H, W)."""
    if radius == 0:
        return plane.clone()
    values, index = torch.unique(plane, return_inverse=True)
    if len(values) > levels:
        low, high = values[0], values[-1]
        values = low + (high - low) * torch.linspace(0, 1, levels).to(values)
        index = (plane - low).mul_((levels - 1) / (high - low)).round_()
    height, width = plane.shape
    rows, columns = (
        torch.arange(-radius, size + radius, device=plane.device).clamp_(0, size - 1) for size in (height, width)
    )
    padded = index.to(torch.int16 if len(values) < 2**15 else torch.int32)[rows][:, columns]
    step = max(1, STRIP // width)
    strips = (padded[top : min(top + step, height) + 2 * radius] for top in range(0, height, step))
    if math.isinf(sigma):
        medians = [_plain_median(strip, len(values), radius) for strip in strips]
    else:
        medians = [_weighted_median(strip, values, radius, sigma) for strip in strips]
    return values[torch.cat(medians)]


def _plain_median(padded: torch.Tensor, count: int, radius: int) -> torch.Tensor:
    """Indices of the window medians: how many levels have more than half of the window above them."""
    half = (2 * radius + 1) ** 2 // 2
    levels = torch.arange(count, dtype=padded.dtype, device=padded.device).view(-1, 1, 1)
    median = torch.zeros_like(padded[radius:-radius, radius:-radius])
    for some in _groups(count, padded.device):
        more_above = _window_counts(padded > levels[some], radius) > half
        median += more_above.sum(0, dtype=median.dtype)
    return median.long()


def _weighted_median(padded: torch.Tensor, values: torch.Tensor, radius: int, sigma: float) -> torch.Tensor:
    """Indices of the weighted window medians: how many levels have less than half of the weight up to them."""
    count = len(values)
    levels = torch.arange(count, dtype=padded.dtype, device=padded.device).view(-1, 1, 1)
    centre = values[padded[radius:-radius, radius:-radius].long()]
    histogram = torch.empty(count, *centre.shape, dtype=values.dtype, device=values.device)
    for some in _groups(count, padded.device):
        weight = (centre - values[some].view(-1, 1, 1)).square_().mul_(-0.5 / sigma**2).exp_()
        torch.mul(weight, _window_counts(padded == levels[some], radius), out=histogram[some])
    half = histogram.sum(0) / 2
    reached = torch.zeros_like(centre)
    median = torch.zeros_like(centre, dtype=torch.long)
    for weight in histogram[:-1]:
        reached += weight
        median += reached < half
    return median


def _groups(count: int, device: torch.device) -> list[slice]:
    """Which levels to take together: on a GPU all, on a CPU one at a time so that they stay in its cache."""
    size = 1 if device.type == "cpu" else 256
    return [slice(k, k + size) for k in range(0, count, size)]


def _window_counts(chosen: torch.Tensor, radius: int) -> torch.Tensor:
    """Number of chosen pixels (k, H + 2 radius, W + 2 radius) in every window, in small integers where they do."""
    length = 2 * radius + 1
    small = length**2 < 2**15
    counts = _sliding_sum(chosen.view(torch.uint8) if small else chosen.int(), length, 1)
    return _sliding_sum(counts.short() if small else counts, length, 2)


def _sliding_sum(x: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """Sums over `length` neighbours along `dim`, built of sums over 1, 2, 4, ... neighbours."""
    size = x.shape[dim] - length + 1
    total: torch.Tensor | None = None
    reached, width = 0, 1
    while True:
        if length & width:
            part = x.narrow(dim, reached, size)
            total = part.clone() if total is None else total.add_(part)
            reached += width
        if total is not None and reached == length:
            return total
        rest = x.shape[dim] - width
        x = x.narrow(dim, 0, rest) + x.narrow(dim, width, rest)
        width *= 2


OPERATOR = Operator(
    name="wmf",
    title="Weighted median filter",
    function=weighted_median_filter,
    parameters=(Parameter("radius", 1, 10, default=5.5, test_values=(1, 3.25, 5.5, 7.75, 10), unit="px"),),
    settings={"sigma": math.inf},
)
