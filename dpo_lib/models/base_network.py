"""The base network: a list of convolutions that run with weights handed in from outside (paper, section 3.1)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..histograms import ranks
from ..images import extended, luminance
from .layers import Convolution

OUTPUTS = {"residual": 3, "direct": 3, "gain": 4, "gate": 6}  # and how many results a pixel has
NORMALISATIONS = ("instance", "kernel")
MINIMUM_SIZE = 16
INPUT_RANGE = (-2.0, 3.0)  # unclipped noise leaves [0, 1]; 8-bit values by mistake are still caught
NORM_EPSILON = 1e-5


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


def with_ranks(image: torch.Tensor) -> torch.Tensor:
    """The images (B, 3, H, W) and the `ranks` of their luminance: (B, 4, H, W).

    This is the luminance after histogram equalisation: what operators look at that go by a whole picture's histogram.
    It is taken as a constant by derivatives.
    """
    return torch.cat([image, ranks(luminance(image.detach().float())).to(image)], dim=1)


def channels_apart(image: torch.Tensor) -> torch.Tensor:
    """Each colour channel of (B, 3, H, W) as a gray picture of its own: (3 B, 3, H, W)."""
    return image.flatten(0, 1)[:, None].expand(-1, 3, -1, -1).contiguous()


def channels_together(answer: torch.Tensor) -> torch.Tensor:
    """Undo `channels_apart`: of the first channel's picture the first channel ...; a gray picture's stay as they are.

    >>> image = torch.rand(2, 3, 4, 5)
    >>> torch.equal(channels_together(channels_apart(image)), image)
    True
    """
    return answer.unflatten(0, (-1, 3)).diagonal(dim1=1, dim2=2).movedim(-1, 1).contiguous()


def fold(x: torch.Tensor) -> torch.Tensor:
    """Lay a batch side by side in the channels: (B, C, H, W) to (1, B * C, H, W)."""
    return x.reshape(1, -1, *x.shape[2:])


def unfold(x: torch.Tensor, batch: int) -> torch.Tensor:
    """Undo `fold`: (1, B * C, H, W) to (B, C, H, W)."""
    return x.reshape(batch, -1, *x.shape[2:])


def standardise_kernel(weight: torch.Tensor) -> torch.Tensor:
    """Give each output channel's kernel, (..., in, k, k), mean 0 and norm 1."""
    shape = weight.shape[-3:]
    return F.layer_norm(weight, shape, eps=1e-12) * shape.numel() ** -0.5


@dataclass
class Features:
    """A forward pass stopped halfway: what enters layer `layer`, and what later layers add to their results."""

    x: torch.Tensor
    skip: torch.Tensor
    layer: int
    standardised: bool = False  # layer's convolution and statistics are done; its scale and shift are not
    batch: int = 1
    saved: tuple[torch.Tensor, ...] = ()


class BaseNetwork(nn.Module):
    """Learns what all parameter values share; its convolution weights come from outside.

    Every layer but the last has a scale and a shift per channel after its normalisation, which are this module's own
    unless they are handed in too.

    Parameters
    ----------
    layers : sequence of Convolution
        See `dilated_layers` and `pyramid_layers`. Where the last one shuffles, the image enters as 2x2 pixels, too;
        elsewhere together with its edge map.
    normalisation : {"instance", "kernel"}
        "instance" (paper): every channel of every image gets mean 0 and variance 1. "kernel": every output channel's
        kernel gets mean 0 and norm 1 instead, so that an answer does not depend on far parts of a picture.
    output : {"residual", "direct", "gain", "gate"}
        What comes out: the image plus the last layer's result, that result itself (the paper's main networks), or
        image * (1 + g) + r, with one g for all colours ("gain") or one for each ("gate").
    border : {"edge", "symmetric", "wrap"}
        What the image is taken to be beyond its borders, see `images.extended`: where an unshuffled one is filled up to
        a multiple of ``step`` (there "wrap" repeats the last pixels), and in the margin.
    margin : int
        Pixels that are laid around the image first and cut from the answer in the end.
    equalised : bool
        The network sees the image `with_ranks`; a fourth channel that an image brings is taken for that of the picture
        that it was cut from.
    codes : int
        Extra input channels. With instance normalisation every layer then adds a learned part of its convolution's
        result to the normalised one.
    """

    def __init__(
        self,
        layers: Sequence[Convolution],
        *,
        normalisation: str = "instance",
        output: str = "residual",
        border: str = "edge",
        margin: int = 0,
        equalised: bool = False,
        codes: int = 0,
    ):
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation must be one of {', '.join(NORMALISATIONS)}, got {normalisation!r}")
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
        self.normalisation, self.output, self.codes = normalisation, output, codes
        self.border, self.margin, self.equalised = border, margin, equalised
        self.channels_last = True  # the layout that convolutions are fastest in; the benchmarks compare it
        self.together: bool | None = None  # run the images of a batch in one convolution; None: on GPUs
        self.frozen_statistics = False  # derivatives take means and variances of images as constants
        self.convolutions = list(layers)
        self.unshuffles = self.convolutions[-1].shuffles
        self.step = 2 * 2 ** sum(layer.saves for layer in layers)  # an unshuffled picture's sides: multiples of it
        self.norm_channels = [layer.out_channels for layer in self.convolutions[:-1]]
        starts = [torch.full((layer.out_channels,), self.initial_scale(layer)) for layer in self.convolutions[:-1]]
        self.scale = nn.Parameter(torch.cat(starts))
        self.shift = nn.Parameter(torch.zeros(sum(self.norm_channels)))
        self.mix = None
        if codes and normalisation == "instance":  # it would cancel constant pictures: each layer keeps a part of them
            self.mix = nn.Parameter(torch.tensor([1.0] + [0.0] * (len(self.norm_channels) - 1)))

    def sharing(self, *, layers: Sequence[Convolution] | None = None, **settings) -> BaseNetwork:
        """The same parameters, not copies, with other layers in the places of these, or other attributes."""
        other = copy.copy(self)
        other.convolutions = self.convolutions if layers is None else list(layers)
        for name, value in settings.items():
            setattr(other, name, value)
        return other

    def initial_scale(self, layer: Convolution) -> float:
        """What a layer's scale starts from: with standardised kernels it keeps the variance, and blocks start small."""
        if self.normalisation == "instance":
            return 1.0
        return 0.2 if layer.closes_block else 2**0.5 if layer.activation == "before" else 1.0

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
        if self.frozen_statistics:
            variance, mean = torch.var_mean(x.detach(), dim=(2, 3), correction=0, keepdim=True)
            return apply_scale_and_shift((x - mean) * (variance + NORM_EPSILON).rsqrt(), scale, shift)
        if scale.dim() == 2 and x.shape[0] > 1:  # one pair per image, images not folded
            return apply_scale_and_shift(F.instance_norm(x, eps=NORM_EPSILON), scale, shift)
        scale, shift = scale.flatten(), shift.flatten()
        repeats = x.shape[1] // len(scale)
        scale, shift = scale.repeat(repeats), shift.repeat(repeats)
        if (repeats > 1 or self.training) and x.shape[0] == 1:
            # the same numbers as instance_norm, which would first copy a channels_last tensor
            return F.batch_norm(x, None, None, scale, shift, training=True, eps=NORM_EPSILON)
        return F.instance_norm(x, weight=scale, bias=shift, eps=NORM_EPSILON)

    def convolve(
        self, layer: Convolution, x: torch.Tensor, weight: torch.Tensor, batch: int, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Fold or unfold the images as the weight asks for, then convolve."""
        generated = weight.dim() == 5 and batch > 1
        if weight.dim() == 5 and batch == 1:
            weight = weight[0]
        folded = x.shape[0] != batch
        if generated and not folded:
            x = fold(x)
        elif folded and not generated:
            x = unfold(x, batch)
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return layer(x.contiguous(memory_format=layout), weight, bias)

    def convolve_and_normalise(
        self, index: int, x: torch.Tensor, weights: Mapping[str, torch.Tensor], batch: int
    ) -> torch.Tensor:
        """Layer number `index` (from 0) up to its scale and shift."""
        layer = self.convolutions[index]
        weight = weights[layer.name]
        if index == len(self.norm_channels):
            return self.convolve(layer, x, weight, batch)
        scale, shift = self.scale_and_shift(index, weights)
        if self.normalisation == "instance":
            x = self.convolve(layer, x, weight, batch)
            normal = self.normalise(x, scale, shift)
            return normal if self.mix is None else torch.addcmul(normal, x, self.mix[index].to(x.dtype))
        weight = standardise_kernel(weight)
        if scale.dim() == 1 or weight.dim() == 5:  # fewer kernels than pixels: scale the kernels
            weight = weight * scale[..., None, None, None]
            return self.convolve(layer, x, weight, batch, shift)
        return apply_scale_and_shift(unfold(self.convolve(layer, x, weight, batch), batch), scale, shift)

    def begin(self, image: torch.Tensor, codes: torch.Tensor | None = None) -> Features:
        """What the first layer sees: the image with its edge map, or its 2x2 pixels; and (for the baseline) codes."""
        if self.equalised and image.shape[1] == 3:
            image = with_ranks(image)
        if self.margin:
            image = extended(image, self.border, before=self.margin, after=(self.margin, self.margin))
        if self.unshuffles:
            down, right = ((side + self.step - 1) // self.step * self.step - side for side in image.shape[2:])
            beyond = "symmetric" if self.border == "symmetric" else "edge"  # opposite borders have no grid in common
            image = extended(image, beyond, after=(down, right))
            channels = [F.pixel_unshuffle(image - 0.5, 2)]
        else:
            channels = [image[:, :3], edge_map(image[:, :3])]
            channels += [image[:, 3:]] if self.equalised else []
        if codes is not None:
            channels.append(codes[:, :, None, None].expand(-1, -1, *channels[0].shape[2:]).to(image))
        x = torch.cat(channels, dim=1)
        return Features(x, x, layer=0, batch=image.shape[0])

    def features(self, x: torch.Tensor, *, layer: int, saved: tuple[torch.Tensor, ...] = ()) -> Features:
        """A pass that goes on with `x` at a layer, for one image."""
        return Features(x, x, layer=layer, saved=saved)

    def advance(
        self,
        features: Features,
        weights: Mapping[str, torch.Tensor],
        *,
        until: int | None = None,
        standardise: bool = False,
    ) -> Features:
        """Run layers from where `features` stopped up to (not including) layer `until`, default the end.

        With `standardise`, the convolution of layer `until` and its normalisation are run, too: all of it that does
        not depend on its scale and shift.
        """
        until = len(self.convolutions) if until is None else until
        x, skip, saved, batch = features.x, features.skip, list(features.saved), features.batch
        for index in range(features.layer, until):
            layer = self.convolutions[index]
            if index == features.layer and features.standardised:
                x = apply_scale_and_shift(x, *self.scale_and_shift(index, weights))
            else:
                skip = x if layer.opens_block else skip
                x = self.convolve_and_normalise(index, x, weights, batch)
            x = F.pixel_shuffle(x, 2) if layer.shuffles else x
            x = x.add_(saved.pop().reshape(x.shape)) if layer.joins else x
            x = x.add_(skip.reshape(x.shape)) if layer.closes_block else x
            x = F.relu(x) if layer.activation == "after" else x
            if layer.saves:
                saved.append(x)
        if standardise:
            layer = self.convolutions[until]
            skip = x if layer.opens_block else skip
            x = self.convolve_standardised(layer, x, weights[layer.name], batch)
        x, skip, *saved = (unfold(part, batch) for part in (x, skip, *saved))
        return Features(x, skip, until, standardise, batch, tuple(saved))

    def convolve_standardised(
        self, layer: Convolution, x: torch.Tensor, weight: torch.Tensor, batch: int
    ) -> torch.Tensor:
        """A layer's result before its scale and shift, (B, C, H, W)."""
        if self.normalisation == "kernel":
            return unfold(self.convolve(layer, x, standardise_kernel(weight), batch), batch)
        return F.instance_norm(unfold(self.convolve(layer, x, weight, batch), batch), eps=NORM_EPSILON)

    def finish(self, image: torch.Tensor, features: Features) -> torch.Tensor:
        """The answer: cropped to the image's size (others than multiples come back larger), put together with it."""
        x, image = features.x, image[:, :3]
        for axis in (2, 3):
            start, size = self.margin, image.shape[axis]
            if torch.compiler.is_exporting():  # where a view would make the program depend on how sizes divide
                x = x.index_select(axis, torch.arange(start, start + size, device=x.device))
            else:
                x = x.narrow(axis, start, size)
        if self.output in ("gain", "gate"):
            gain, offset = x.to(image.dtype).split((x.shape[1] - 3, 3), dim=1)
            return torch.addcmul(image + offset, image, gain)
        return image + x if self.output == "residual" else x

    def forward(
        self, image: torch.Tensor, weights: Mapping[str, torch.Tensor], codes: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Run with the given weights.

        Parameters
        ----------
        image : tensor (B, 3, H, W), or (B, 4, H, W) `with_ranks`
        weights : mapping
            "conv1", "conv2" ... to a weight of the layer's `weight_shape`, or with a batch axis in front: one
            weight per image. Optionally "norm1" ... to scale and shift, (2, C) or (B, 2, C).
        codes : tensor (B, codes), optional
            Only for a network made with `codes`.

        Returns
        -------
        tensor (B, 3, H, W)
        """
        together = self.together if self.together is not None else image.device.type != "cpu"
        # an exported program takes any number of images: nothing in it may ask for that number
        if not (together or torch.compiler.is_exporting()) and len(image) > 1:
            return torch.cat([self(*one) for one in self.one_by_one(image, weights, codes)])
        return self.finish(image, self.advance(self.begin(image, codes), weights))

    def one_by_one(
        self, image: torch.Tensor, weights: Mapping[str, torch.Tensor], codes: torch.Tensor | None
    ) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor | None]]:
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
