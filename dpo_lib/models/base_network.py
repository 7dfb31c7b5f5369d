"""The base network: twenty convolutions that run with weights handed in from outside (paper, section 3.1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

DILATIONS = (2, 4, 4, 8, 8, 16, 1)
MINIMUM_SIZE = 16
NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Convolution:
    """One convolution without bias, its weight not included. Padding keeps the size (divided by the stride)."""

    name: str
    in_channels: int
    out_channels: int
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    transposed: bool = False

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Shape that torch's conv2d (or conv_transpose2d) expects."""
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return (first, second, self.kernel_size, self.kernel_size)

    @property
    def fan_in(self) -> int:
        """Number of input values that one output value sums over."""
        taps = self.kernel_size**2 // (self.stride**2 if self.transposed else 1)
        return self.in_channels * taps

    def __call__(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolve.

        Parameters
        ----------
        x : tensor (N, C, H, W)
        weight : tensor
            Of `weight_shape`: the same for all. Or (B, \\*weight_shape): one weight per image; then x is folded,
            (1, B * C, H, W), see `fold`, and the B convolutions are one grouped convolution.
        """
        groups = 1
        if weight.dim() == 5:
            groups = weight.shape[0]
            weight = weight.flatten(0, 1)
        if self.transposed:
            return F.conv_transpose2d(x, weight, stride=self.stride, padding=1, groups=groups)
        return F.conv2d(x, weight, stride=self.stride, padding=self.dilation, dilation=self.dilation, groups=groups)


def convolutions(*, width: int = 64, dilations: Sequence[int] = DILATIONS) -> list[Convolution]:
    """The list of layers, in run order.

    >>> layers = convolutions()
    >>> len(layers), sum(math.prod(layer.weight_shape) for layer in layers)
    (20, 696256)
    """
    layers = [
        Convolution("conv1", 4, width),
        Convolution("conv2", width, width),
        Convolution("conv3", width, width, stride=2),
    ]
    for dilation in dilations:
        for _ in range(2):
            layers.append(Convolution(f"conv{len(layers) + 1}", width, width, dilation=dilation))
    layers.append(Convolution(f"conv{len(layers) + 1}", width, width, kernel_size=4, stride=2, transposed=True))
    layers.append(Convolution(f"conv{len(layers) + 1}", width, width))
    layers.append(Convolution(f"conv{len(layers) + 1}", width, 3))
    return layers


def edge_map(image: torch.Tensor) -> torch.Tensor:
    """How much each pixel differs from its neighbours (paper, Eq. 2).

    A quarter of the summed absolute differences to the four neighbours, averaged over the channels; a neighbour
    outside the image counts as equal.

    Parameters
    ----------
    image : tensor (B, 3, H, W)

    Returns
    -------
    tensor (B, 1, H, W)

    Notes
    -----
    Differs from the paper: Eq. 2 sums over the channels. The mean, which the authors' program uses, keeps the map
    in the image's range.

    Examples
    --------
    >>> step = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 3, 3, 4)
    >>> edge_map(step)[0, 0, 1]
    tensor([0.0000, 0.2500, 0.2500, 0.0000])
    """
    down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
    right = (image[..., :, 1:] - image[..., :, :-1]).abs().mean(1, keepdim=True)
    vertical = F.pad(down, (0, 0, 1, 0)) + F.pad(down, (0, 0, 0, 1))
    horizontal = F.pad(right, (1, 0)) + F.pad(right, (0, 1))
    return (vertical + horizontal) / 4


def fold(x: torch.Tensor) -> torch.Tensor:
    """Lay a batch side by side in the channels: (B, C, H, W) to (1, B * C, H, W)."""
    return x.reshape(1, -1, *x.shape[2:])


class BaseNetwork(nn.Module):
    """Learns what all parameter values share; its convolution weights come from outside.

    Three convolutions (the third at stride 2), residual blocks of two dilated convolutions each, a transposed
    convolution back to full size and two more convolutions. All but the last are followed by instance
    normalisation, whose scale and shift are this module's own, and by a ReLU.

    Parameters
    ----------
    width : int
        Channels of the hidden layers (paper: 64).
    dilations : sequence of int
        One residual block each (paper: 2, 4, 4, 8, 8, 16, 1).
    residual_output : bool
        The last convolution's result is added to the image (True), or is the output itself (False, the paper).
    """

    def __init__(self, *, width: int = 64, dilations: Sequence[int] = DILATIONS, residual_output: bool = True):
        super().__init__()
        if width < 1 or not dilations or min(dilations) < 1:
            raise ValueError(f"width and dilations must be positive, got width {width}, dilations {tuple(dilations)}")
        self.residual_output = residual_output
        self.convolutions = convolutions(width=width, dilations=dilations)
        self.scale = nn.Parameter(torch.ones(len(self.convolutions) - 1, width))
        self.shift = nn.Parameter(torch.zeros(len(self.convolutions) - 1, width))

    def normalise(self, x: torch.Tensor, index: int) -> torch.Tensor:
        """Instance normalisation number `index`: every channel of every image to its learned scale and shift."""
        repeats = x.shape[1] // self.scale.shape[1]
        scale, shift = self.scale[index].repeat(repeats), self.shift[index].repeat(repeats)
        if x.shape[0] == 1 and (repeats > 1 or self.training):
            # the same numbers as instance_norm, which would first copy a channels_last tensor
            return F.batch_norm(x, None, None, scale, shift, training=True, eps=NORM_EPSILON)
        return F.instance_norm(x, weight=scale, bias=shift, eps=NORM_EPSILON)

    def forward(self, image: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Run with the given weights.

        Parameters
        ----------
        image : tensor (B, 3, H, W)
        weights : mapping
            Layer name to its weight: of the layer's `weight_shape`, or with a batch axis in front, one weight
            per image (then for all layers).

        Returns
        -------
        tensor (B, 3, H, W)
        """
        batch, _, height, width = image.shape
        x = torch.cat([image, edge_map(image)], dim=1)
        if weights[self.convolutions[0].name].dim() == 5:
            x = fold(x)
        x = x.contiguous(memory_format=torch.channels_last)
        first_of_block, end_of_blocks = range(3, len(self.convolutions) - 3, 2), len(self.convolutions) - 3
        skip = x
        for index, convolution in enumerate(self.convolutions[:-1]):
            if index in first_of_block:
                skip = x
            x = self.normalise(convolution(x, weights[convolution.name]), index)
            if 3 <= index < end_of_blocks and index not in first_of_block:
                x = x + skip
            x = F.relu(x)
        x = self.convolutions[-1](x, weights[self.convolutions[-1].name])
        x = x.reshape(batch, 3, *x.shape[2:])[..., :height, :width]  # an odd size came back one pixel larger
        return image + x if self.residual_output else x
