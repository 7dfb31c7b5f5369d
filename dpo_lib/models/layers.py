"""The layers of a base network: two lists of convolutions and their places, no weights.

`dilated_layers` is the paper's list, `pyramid_layers` one made for little compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

DILATIONS = (2, 4, 4, 8, 8, 16, 1)
WIDTHS = (24, 48, 72, 96)
PADDINGS = ("replicate", "zeros")


@dataclass(frozen=True)
class Convolution:
    """One convolution without bias, its weight not included, and its place in the network.

    Parameters
    ----------
    name : str
    in_channels, out_channels, kernel_size, stride, dilation : int
        Padding keeps the size (divided by the stride).
    transposed, depthwise : bool
    padding : {"zeros", "replicate"}
        What lies beyond the border; a transposed convolution pads with zeros.
    activation : {"after", "before", "none"}
        Where a ReLU stands; `__call__` holds the one before.
    shuffles : bool
        Four channels of the result become a square of 2x2 pixels.
    opens_block, closes_block : bool
        What enters the first is added to what leaves the second.
    saves, joins : bool
        What leaves the first is added to what leaves the second, last saved first joined.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    transposed: bool = False
    depthwise: bool = False
    padding: str = "zeros"
    activation: str = "after"
    shuffles: bool = False
    opens_block: bool = False
    closes_block: bool = False
    saves: bool = False
    joins: bool = False

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape that torch's conv2d (or conv_transpose2d) expects."""
        first, second = self.out_channels, 1 if self.depthwise else self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second, self.kernel_size, self.kernel_size)

    @property
    def fan_in(self) -> int:
        """Number of input values that one output value sums over."""
        taps = self.kernel_size**2 // (self.stride**2 if self.transposed else 1)
        return (1 if self.depthwise else self.in_channels) * taps

    @property
    def margin(self) -> int:
        """Pixels that are padded on each side."""
        return self.dilation * ((self.kernel_size - 1) // 2)

    def __call__(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Convolve, after a ReLU where `activation` says "before".

        Parameters
        ----------
        x : tensor (N, C, H, W)
        weight : tensor
            Of `weight_shape`: the same for all. Or (B, \\*weight_shape): one weight per image; then x is folded,
            (1, B * C, H, W), see `fold`, and the B convolutions are one grouped convolution.
        bias : tensor (out_channels,) or (B, out_channels), optional
        """
        groups = self.in_channels if self.depthwise else 1
        if weight.dim() == 5:
            groups *= weight.shape[0]
            weight = weight.flatten(0, 1)
        if bias is not None:
            bias = bias.flatten().repeat(weight.shape[0] // bias.numel())
        if self.transposed:
            return F.conv_transpose2d(x, weight, bias, stride=self.stride, padding=self.margin, groups=groups)
        margin = self.margin
        padded = self.padding == "replicate" and margin > 0
        if padded:
            with torch.autocast(x.device.type, enabled=False):  # which on CPUs would pad in float32
                x, margin = F.pad(x, (margin,) * 4, mode="replicate"), 0
        if self.activation == "before":
            x = F.relu(x, inplace=padded)
        return F.conv2d(x, weight, bias, stride=self.stride, padding=margin, dilation=self.dilation, groups=groups)


def dilated_layers(
    *,
    width: int = 64,
    dilations: Sequence[int] = DILATIONS,
    depthwise: bool = False,
    inputs: int = 3,
    codes: int = 0,
    outputs: int = 3,
    padding: str = "zeros",
) -> list[Convolution]:
    """The paper's list of layers, in run order.

    Three convolutions (the third at stride 2), residual blocks of dilated convolutions, a transposed convolution back
    to full size and two more convolutions.

    Parameters
    ----------
    width : int
        Channels of the hidden layers.
    dilations : sequence of int
        One residual block each.
    depthwise : bool
        Blocks of a pointwise convolution up to twice the width, a 3x3 depth-wise and a pointwise one down again
        (section 5, there with width 128), instead of two 3x3 convolutions.
    inputs : int
        Channels of the image.
    codes : int
        Extra input channels (for the baseline that is fed its parameters as pictures).
    outputs : int
        Channels that the last convolution gives.
    padding : {"zeros", "replicate"}
        The paper's networks pad with zeros.

    Examples
    --------
    >>> import math
    >>> layers = dilated_layers()
    >>> len(layers), sum(math.prod(layer.weight_shape) for layer in layers)
    (20, 696256)
    """
    specs: list[tuple[int, int, dict]] = [
        (inputs + 1 + codes, width, {}),
        (width, width, {}),
        (width, width, {"stride": 2}),
    ]
    for dilation in dilations:
        if depthwise:
            specs += [
                (width, 2 * width, {"kernel_size": 1, "opens_block": True}),
                (2 * width, 2 * width, {"dilation": dilation, "depthwise": True}),
                (2 * width, width, {"kernel_size": 1, "closes_block": True}),
            ]
        else:
            specs += [
                (width, width, {"dilation": dilation, "opens_block": True}),
                (width, width, {"dilation": dilation, "closes_block": True}),
            ]
    specs += [
        (width, width, {"kernel_size": 4, "stride": 2, "transposed": True}),
        (width, width, {}),
        (width, outputs, {"activation": "none"}),
    ]
    return _numbered(specs, padding)


def pyramid_layers(
    *,
    widths: Sequence[int] = WIDTHS,
    blocks: int = 2,
    tail: int = 0,
    last_kernel: int = 3,
    inputs: int = 3,
    codes: int = 0,
    outputs: int = 3,
    padding: str = "replicate",
) -> list[Convolution]:
    """A pyramid of resolutions, in run order: half size, a quarter, an eighth ... and up again.

    The picture enters with its 2x2 pixels as channels, so that no layer has many channels at full size. Each level has
    residual blocks of two 3x3 convolutions, each after a ReLU; on the way up a level's own result is added.

    Parameters
    ----------
    widths : sequence of int
        Channels of each level, finest first.
    blocks : int
        Residual blocks per level, down and up.
    tail : int
        Channels of one more pointwise convolution before the last, for networks in which only its scale and shift
        depend on the parameters (0: none).
    last_kernel : int
        Kernel size of the last convolution.
    inputs, codes, outputs, padding
        See `dilated_layers`; `outputs` of a full-size pixel.

    Examples
    --------
    >>> layers = pyramid_layers(widths=(8, 16))
    >>> [layer.out_channels for layer in layers]
    [8, 8, 8, 8, 8, 16, 16, 16, 16, 16, 32, 8, 8, 8, 8, 12]
    """

    def block(width: int) -> list:
        first, second = {"opens_block": True}, {"closes_block": True}
        return [(width, width, {"activation": "before", **place}) for place in (first, second)]

    linear: dict = {"activation": "none"}
    down, up = {"kernel_size": 2, "stride": 2}, {"kernel_size": 1, "shuffles": True}
    specs = [(4 * inputs + codes, widths[0], linear)]
    for level, width in enumerate(widths):
        if level:
            channels_in, channels_out, place = specs[-1]
            specs[-1] = (channels_in, channels_out, {**place, "saves": True})
            specs.append((widths[level - 1], width, {**linear, **down}))
        specs += blocks * block(width)
    for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True):
        specs += [(coarse, 4 * fine, {**linear, **up, "joins": True}), *(blocks * block(fine))]
    if tail:
        specs.append((widths[0], tail, {**linear, "kernel_size": 1}))
    specs.append(
        (tail or widths[0], 4 * outputs, {"kernel_size": last_kernel, "activation": "before", "shuffles": True})
    )
    return _numbered(specs, padding)


def _numbered(specs: Sequence[tuple[int, int, dict]], padding: str) -> list[Convolution]:
    return [
        Convolution(f"conv{number}", channels_in, channels_out, padding=padding, **place)
        for number, (channels_in, channels_out, place) in enumerate(specs, start=1)
    ]
