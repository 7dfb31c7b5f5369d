"""The base network: twenty convolutions that run with weights handed in from outside (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

DILATIONS = (2, 4, 4, 8, 8, 16, 1)
MINIMUM_SIZE = 16
INPUT_RANGE = (-2.0, 3.0)  # unclipped noise leaves [0, 1]; 8-bit values by mistake are still caught
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
    depthwise: bool = False
    opens_block: bool = False
    closes_block: bool = False

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

    def __call__(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Convolve.

        Parameters
        ----------
        x : tensor (N, C, H, W)
        weight : tensor
            Of `weight_shape`: the same for all. Or (B, \\*weight_shape): one weight per image; then x is folded,
            (1, B * C, H, W), see `fold`, and the B convolutions are one grouped convolution.
        """
        groups = self.in_channels if self.depthwise else 1
        if weight.dim() == 5:
            groups *= weight.shape[0]
            weight = weight.flatten(0, 1)
        if self.transposed:
            return F.conv_transpose2d(x, weight, stride=self.stride, padding=1, groups=groups)
        padding = self.dilation * (self.kernel_size // 2)
        return F.conv2d(x, weight, stride=self.stride, padding=padding, dilation=self.dilation, groups=groups)


def convolutions(
    *, width: int = 64, dilations: Sequence[int] = DILATIONS, depthwise: bool = False, codes: int = 0
) -> list[Convolution]:
    """The list of layers, in run order.

    Parameters
    ----------
    width : int
        Channels of the hidden layers.
    dilations : sequence of int
        One residual block each.
    depthwise : bool
        Blocks of a pointwise convolution up to twice the width, a 3x3 depth-wise and a pointwise one down again
        (section 5, there with width 128), instead of two 3x3 convolutions.
    codes : int
        Extra input channels (for the baseline that is fed its parameters as pictures).

    Examples
    --------
    >>> import math
    >>> layers = convolutions()
    >>> len(layers), sum(math.prod(layer.weight_shape) for layer in layers)
    (20, 696256)
    """
    specs = [(4 + codes, width, {}), (width, width, {}), (width, width, {"stride": 2})]
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
    specs += [(width, width, {"kernel_size": 4, "stride": 2, "transposed": True}), (width, width, {}), (width, 3, {})]
    return [
        Convolution(f"conv{number}", channels_in, channels_out, **settings)
        for number, (channels_in, channels_out, settings) in enumerate(specs, start=1)
    ]


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


def unfold(x: torch.Tensor, batch: int) -> torch.Tensor:
    """The way back: (1, B * C, H, W) to (B, C, H, W)."""
    return x.reshape(batch, -1, *x.shape[2:])


@dataclass
class Features:
    """A forward pass stopped halfway: what enters layer `layer` (and the skip connection around it)."""

    x: torch.Tensor
    skip: torch.Tensor
    layer: int
    standardised: bool = False  # layer's convolution and statistics are done; its scale and shift are not
    batch: int = 1


class BaseNetwork(nn.Module):
    """Learns what all parameter values share; its convolution weights come from outside.

    Three convolutions (the third at stride 2), residual blocks of dilated convolutions, a transposed convolution
    back to full size and two more convolutions. All but the last are followed by instance normalisation, whose
    scale and shift are this module's own unless they are handed in too, and by a ReLU.

    Parameters
    ----------
    width, dilations, depthwise, codes
        See `convolutions` (paper: 64 channels, dilations 2, 4, 4, 8, 8, 16, 1). With `codes`, every layer adds a
        learned part of its convolution's result to the normalised one.
    residual_output : bool
        The last convolution's result is added to the image (True), or is the output itself (False, the paper's
        main networks).
    """

    def __init__(
        self,
        *,
        width: int = 64,
        dilations: Sequence[int] = DILATIONS,
        residual_output: bool = True,
        depthwise: bool = False,
        codes: int = 0,
    ):
        super().__init__()
        if width < 1 or not dilations or min(dilations) < 1:
            raise ValueError(f"width and dilations must be positive, got width {width}, dilations {tuple(dilations)}")
        self.residual_output = residual_output
        self.channels_last = True  # the layout that convolutions are fastest in; the benchmarks compare it
        self.together: bool | None = None  # run the images of a batch in one convolution; None: on GPUs
        self.convolutions = convolutions(width=width, dilations=dilations, depthwise=depthwise, codes=codes)
        self.norm_channels = [layer.out_channels for layer in self.convolutions[:-1]]
        self.scale = nn.Parameter(torch.ones(sum(self.norm_channels)))
        self.shift = nn.Parameter(torch.zeros(sum(self.norm_channels)))
        self.mix = None
        if codes:  # normalisation would cancel constant pictures: each layer keeps a part of what comes in
            self.mix = nn.Parameter(torch.tensor([1.0] + [0.0] * (len(self.norm_channels) - 1)))

    def scale_and_shift(self, index: int, weights: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Of normalisation number `index` (from 0): the given ones, else the module's own; (C,) or (B, C) each."""
        given = weights.get(f"norm{index + 1}")
        if given is not None:
            return given.select(-2, 0), given.select(-2, 1)
        start = sum(self.norm_channels[:index])
        window = slice(start, start + self.norm_channels[index])
        return self.scale[window], self.shift[window]

    def normalise(self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Instance normalisation of every channel of every image to its scale and shift."""
        if scale.dim() == 2 and x.shape[0] > 1:  # one pair per image, images not folded
            return apply_scale_and_shift(F.instance_norm(x, eps=NORM_EPSILON), scale, shift)
        scale, shift = scale.flatten(), shift.flatten()
        repeats = x.shape[1] // len(scale)
        scale, shift = scale.repeat(repeats), shift.repeat(repeats)
        if x.shape[0] == 1 and (repeats > 1 or self.training):
            # the same numbers as instance_norm, which would first copy a channels_last tensor
            return F.batch_norm(x, None, None, scale, shift, training=True, eps=NORM_EPSILON)
        return F.instance_norm(x, weight=scale, bias=shift, eps=NORM_EPSILON)

    def convolve(self, layer: Convolution, x: torch.Tensor, weight: torch.Tensor, batch: int) -> torch.Tensor:
        """Fold or unfold the images as the weight asks for, then convolve."""
        generated = weight.dim() == 5 and batch > 1
        if weight.dim() == 5 and batch == 1:
            weight = weight[0]
        folded = x.shape[0] == 1 and batch > 1
        if generated and not folded:
            x = fold(x)
        elif folded and not generated:
            x = unfold(x, batch)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return layer(x.contiguous(memory_format=layout), weight)

    def begin(self, image: torch.Tensor, codes: torch.Tensor | None = None) -> Features:
        """What the first layer sees: the image, its edge map and (for the baseline) code pictures."""
        channels = [image, edge_map(image)]
        if codes is not None:
            channels.append(codes[:, :, None, None].expand(-1, -1, *image.shape[2:]).to(image))
        x = torch.cat(channels, dim=1)
        return Features(x, x, layer=0, batch=len(image))

    def advance(
        self,
        features: Features,
        weights: Mapping[str, torch.Tensor],
        *,
        until: int | None = None,
        standardise: bool = False,
    ) -> Features:
        """Run layers from where `features` stopped up to (not including) layer `until`, default the end.

        With `standardise`, the convolution of layer `until` and its normalisation to mean 0 and variance 1 are run,
        too: all of it that does not depend on its scale and shift.
        """
        until = len(self.convolutions) if until is None else until
        x, skip, batch = features.x, features.skip, features.batch
        for index in range(features.layer, until):
            layer = self.convolutions[index]
            if index == features.layer and features.standardised:
                x = apply_scale_and_shift(x, *self.scale_and_shift(index, weights))
            else:
                if layer.opens_block:
                    skip = x
                x = self.convolve(layer, x, weights[layer.name], batch)
                if index == len(self.convolutions) - 1:
                    return Features(unfold(x, batch), skip, until, batch=batch)
                normal = self.normalise(x, *self.scale_and_shift(index, weights))
                x = normal if self.mix is None else torch.addcmul(normal, x, self.mix[index].to(x.dtype))
            if layer.closes_block:
                x = x + skip.reshape(x.shape)
            x = F.relu(x)
        if standardise:
            layer = self.convolutions[until]
            skip = x if layer.opens_block else skip
            x = F.instance_norm(unfold(self.convolve(layer, x, weights[layer.name], batch), batch), eps=NORM_EPSILON)
            skip = unfold(skip, batch)
        return Features(x, skip, until, standardise, batch)

    def finish(self, image: torch.Tensor, features: Features) -> torch.Tensor:
        """The answer: cropped to the image's size (an odd size came back one pixel larger), added to the image."""
        x = features.x[..., : image.shape[2], : image.shape[3]]
        return image + x if self.residual_output else x

    def forward(
        self, image: torch.Tensor, weights: Mapping[str, torch.Tensor], codes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run with the given weights.

        Parameters
        ----------
        image : tensor (B, 3, H, W)
        weights : mapping
            "conv1", "conv2" ... to a weight of the layer's `weight_shape`, or with a batch axis in front: one
            weight per image. Optionally "norm1" ... to scale and shift, (2, C) or (B, 2, C).
        codes : tensor (B, codes), optional
            Only for a network made with `codes`.

        Returns
        -------
        tensor (B, 3, H, W)
        """
        together = image.device.type != "cpu" if self.together is None else self.together
        if len(image) > 1 and not together:
            return torch.cat([self(*one) for one in self._one_by_one(image, weights, codes)])
        return self.finish(image, self.advance(self.begin(image, codes), weights))

    def _one_by_one(self, image, weights, codes):
        """Arguments of `forward` for each image alone: quicker on CPUs, which keep one image's layers in their cache
        (and whose gradients of grouped convolutions are slow).
        """
        dimensions = {name: 2 if name.startswith("norm") else 4 for name in weights}
        for k in range(len(image)):
            own = {name: w[k] if w.dim() > dimensions[name] else w for name, w in weights.items()}
            yield image[k : k + 1], own, None if codes is None else codes[k : k + 1]


def apply_scale_and_shift(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """x * scale + shift per channel (C,), or per image and channel (B, C)."""
    return torch.addcmul(shift[..., None, None].to(x.dtype), x, scale[..., None, None].to(x.dtype))
