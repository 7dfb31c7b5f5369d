"""Cheap parameter tuning: what does not depend on the parameters is computed once per image (paper, section 3.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..images import as_batch
from .base_network import MINIMUM_SIZE, Features

if TYPE_CHECKING:
    from .decoupled import DecoupledNetwork

INPUT_RANGE = (-2.0, 3.0)  # unclipped noise leaves [0, 1]; 8-bit values by mistake are still caught
STRIP_VALUES = 1 << 20  # activations worked on at a time (4 MiB), so that they stay in the processor's cache
PRODUCT_COLUMNS = 16  # matrix products are quickest with a multiple of so many columns


def first_generated(generated: Sequence[str]) -> tuple[int, bool]:
    """Number (from 0) of the first layer that depends on gamma, and whether its convolution does, too.

    >>> first_generated(("norm19",)), first_generated(("conv20", "norm7")), first_generated(("norm19", "conv19_in"))
    ((18, False), (6, False), (18, True))
    """
    numbers = [int(re.search(r"\d+", name)[0]) for name in generated]
    first = min(numbers)
    convolution = any(n == first and name.startswith("conv") for n, name in zip(numbers, generated, strict=True))
    return first - 1, convolution


class SingleLayerTuner:
    """The answers of a network to one image, at one parameter value after the other.

    Everything before the first generated tensor is run once, here; a call runs the rest. Where only the scale and
    shift of the last normalisation are generated, that is these two and one convolution to three channels: 0.74 % of
    the network's multiplications.

    Parameters
    ----------
    network : DecoupledNetwork
        Its generated tensors should lie near the end, such as ``generated="norm(last)"``. Weights that change later
        need a new tuner.
    image : tensor (B, 3, H, W) floating in [0, 1], or ndarray (H, W, 3) floating in [0, 1] or uint8

    Raises
    ------
    ValueError
        Nothing can be shared, because the first convolution is generated; or no tensor is generated.

    Notes
    -----
    Keeps C x H x W numbers per image, C the width of the layer before the first generated tensor; see
    `memory_bytes`.

    Examples
    --------
    >>> from dpo_lib.models import DecoupledNetwork
    >>> from dpo_lib.parameters import Parameter
    >>> net = DecoupledNetwork([Parameter("lambda", 0, 1)], operator="l0", width=8, generated="norm(last)").eval()
    >>> tuner = net.tuner(torch.rand(1, 3, 33, 40))
    >>> tuner(0.2).shape, tuner(value=0.8, operator="l0").shape
    (torch.Size([1, 3, 33, 40]), torch.Size([1, 3, 33, 40]))
    """

    def __init__(self, network: DecoupledNetwork, image: torch.Tensor | np.ndarray):
        base, generated = network.base_network, network.weight_learning_network.generated
        if not generated:
            raise ValueError("a tuner needs a network with a generated tensor, got generated='none': call the network")
        layer, convolution = first_generated(generated)
        if layer == 0 and convolution:
            raise ValueError(
                f"a tuner shares what comes before the first generated tensor, but {network.config['generated']} "
                "generates the first convolution: use a network with generated='norm(last)' or another late layer"
            )
        batch, self._restore = as_batch(image, minimum_size=MINIMUM_SIZE, low=INPUT_RANGE[0], high=INPUT_RANGE[1])
        self.network, self.layer = network, layer
        with torch.no_grad():
            self.image = batch.to(base.scale) if isinstance(image, np.ndarray) else batch
            fixed = dict(network.weight_learning_network.fixed.items())
            features = base.advance(base.begin(self.image), fixed, until=layer, standardise=not convolution)
        self.features = _without_needless_skip(features, base.convolutions)
        last = base.convolutions[-1]
        # a generated slice of the last convolution has a plain rest in `fixed`, hence both conditions
        plain = last.name in fixed and not any(name.startswith(last.name) for name in generated)
        self.only_activation = not convolution and layer == len(base.convolutions) - 2 and plain
        if self.only_activation and self.image.device.type == "cpu":
            self.features.x = self.features.skip = self.features.x.contiguous(memory_format=torch.channels_last)
            self._room = working_room(self.features.x, outputs=last.out_channels)

    @property
    def memory_bytes(self) -> int:
        """Memory of the features that are kept."""
        kept = {id(x): x for x in (self.features.x, self.features.skip)}
        return sum(x.numel() * x.element_size() for x in kept.values())

    @torch.no_grad()
    def __call__(self, value=None, *, operator: str | Sequence[str] | None = None, check_range: bool = True):
        """Answer at the parameter value(s): as ``network(image, value, operator=operator)``.

        Parameters
        ----------
        value, operator, check_range
            See `ParameterizedNetwork.forward`.

        Returns
        -------
        Same kind as the image.
        """
        network, base = self.network, self.network.base_network
        code = network.gamma_code(value, operator=operator, batch=len(self.image), check_range=check_range)
        weights = network.generate(code)
        if self.only_activation and self.image.device.type == "cpu":
            scale, shift = base.scale_and_shift(self.layer, weights)
            last = weights[base.convolutions[-1].name]
            x = activate_and_convolve(self.features.x, last, scale=scale, shift=shift, room=self._room)
            done = Features(x, x, self.layer + 2, batch=len(self.image))
        else:
            done = base.advance(self.features, weights)
        return self._restore(base.finish(self.image, done))


def working_room(x: torch.Tensor, *, outputs: int) -> list[torch.Tensor]:
    """Memory that `activate_and_convolve` works in; kept by callers that call it often."""
    _, channels, height, width = x.shape
    pixels = min(height, max(1, STRIP_VALUES // (channels * width))) * width
    padded = -(-9 * outputs // PRODUCT_COLUMNS) * PRODUCT_COLUMNS
    return [x.new_empty(pixels, columns) for columns in (channels, padded)] + [x.new_empty(9 * outputs, pixels)]


def activate_and_convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    *,
    scale: torch.Tensor,
    shift: torch.Tensor,
    room: Sequence[torch.Tensor] | None = None,
) -> torch.Tensor:
    r"""relu(scale * x + shift), then a 3x3 convolution to few channels: for processors, several times as fast.

    Parameters
    ----------
    x : tensor (B, C, H, W)
        Quickest in the channels_last layout.
    weight : tensor (D, C, 3, 3)
    scale, shift : tensor (C,) or (B, C)
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
    outputs = len(weight)
    active, given, planes = room or working_room(x, outputs=outputs)
    rows = len(active) // width
    taps = weight.permute(2, 3, 0, 1).reshape(9 * outputs, channels)
    matrix = x.new_zeros(channels, given.shape[1])
    result = x.new_zeros(batch, outputs, height + 2, width)  # a row more above and below
    pixels = x.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    scale, shift = (v.to(x.dtype).expand(batch, channels) for v in (scale, shift))
    for image, out, s, b in zip(pixels, result, scale, shift, strict=True):
        flat = s.abs() < torch.finfo(x.dtype).tiny  # a channel that is constant, relu(shift)
        bend = torch.where(flat, 0, -b / torch.where(flat, 1, s))
        low = torch.where(s > 0, bend, -torch.inf)
        high = torch.where(s < 0, bend, torch.inf)
        out[:, 1:-1] = _spread((taps @ torch.where(flat, b.relu(), b)).view(3, 3, outputs), height, width)
        matrix[:, : 9 * outputs] = (taps * torch.where(flat, 0, s)).t()
        falling = bool((s < 0).any())
        for top in range(0, height, rows):
            n = min(rows, height - top)
            strip, product = active[: n * width], given[: n * width]
            torch.maximum(image[top * width : (top + n) * width], low, out=strip)
            if falling:
                torch.minimum(strip, high, out=strip)
            torch.mm(strip, matrix, out=product)
            to_neighbours = planes[:, : n * width].copy_(product.t()[: 9 * outputs])
            to_neighbours = to_neighbours.view(3, 3, outputs, n, width)
            for down in range(3):  # what tap (down, right) takes from (y, x) belongs to (y + 1 - down, x + 1 - right)
                target = out[:, top + 2 - down : top + 2 - down + n]
                target += to_neighbours[down, 1]
                target[..., 1:] += to_neighbours[down, 0, ..., :-1]
                target[..., :-1] += to_neighbours[down, 2, ..., 1:]
    return result[:, :, 1:-1]


def _spread(taps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """What a constant gives through a convolution padded with zeros: taps (3, 3, D) to (D, height, width)."""
    corner = torch.conv2d(taps.new_ones(1, 1, 3, 3), taps.permute(2, 0, 1)[:, None], padding=1)[0]
    down, right = (1 - (torch.arange(n) == 0).long() + (torch.arange(n) == n - 1).long() for n in (height, width))
    return corner[:, down.to(taps.device)][..., right.to(taps.device)]


def _without_needless_skip(features: Features, layers: Sequence) -> Features:
    """The features laid out for reuse; the skip connection is kept only inside a residual block."""
    start = features.layer + (features.standardised and layers[features.layer].opens_block)
    marks = (layer for layer in layers[start:] if layer.opens_block or layer.closes_block)
    mark = next(marks, None)
    needed = mark is not None and mark.closes_block
    x = features.x.contiguous()
    skip = features.skip.contiguous() if needed else x
    return Features(x, skip, features.layer, features.standardised, features.batch)
