"""The weight learning network: from an operator's parameters to the weights of a base network (paper, Eq. 4)."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .base_network import BaseNetwork
from .layers import Convolution

LARGEST = 2**28  # numbers, 1 GB; the paper's largest network has 50 million
CODE_SPREAD = 0.3  # how far the ends of the code's range start from the middle, in parts of the weight


class Generated(NamedTuple):
    """A tensor that depends on gamma: a layer's convolution, a slice of it, or its scale and shift."""

    kind: str  # "conv" or "norm"
    layer: int  # from 1
    part: str = ""  # of a convolution: "in", the slice of the first input channel, or "out", of the first output

    @property
    def name(self) -> str:
        """What weights and heads are called by.

        >>> Generated("conv", 19, "in").name, Generated("norm", 7).name
        ('conv19_in', 'norm7')
        """
        return f"{self.kind}{self.layer}" + (f"_{self.part}" if self.part else "")


def generated_tensors(where: str, layers: Sequence[Convolution]) -> tuple[Generated, ...]:
    """Spell out which tensors are generated (paper, Table 12).

    Parameters
    ----------
    where : str
        "conv(all)", "norm(all)", "conv(19)", "norm(7)", "norm(last)", "conv(2-5)" (four layers), "conv(19).in" (the
        slice of the first input channel), "conv(19).out" (of the first output channel), several joined by "+", or
        "none".
    layers : sequence of Convolution

    Raises
    ------
    ValueError
        A word that is none of these, or a number that the network does not have.

    Examples
    --------
    >>> from dpo_lib.models import dilated_layers
    >>> [tensor.name for tensor in generated_tensors("norm(18-19)+conv(20)", dilated_layers())]
    ['norm18', 'norm19', 'conv20']
    """
    if where == "none":
        return ()
    tensors: list[Generated] = []
    for word in where.split("+"):
        match = re.fullmatch(r"(conv|norm)\((all|last|\d+)(?:-(\d+))?\)(?:\.(in|out))?", word.strip())
        kind, number, end, part = match.groups("") if match else ("", "0", "", "")
        count = len(layers) - (kind == "norm")
        named = {"all": (1, count), "last": (count, count)}
        first, last = named.get(number) or (int(number), int(end or number))
        bad = (end and number in named) or (part and (kind == "norm" or number == "all" or end))
        if bad or not 1 <= first <= last <= count:
            raise ValueError(
                f"generated must be conv(all), norm(all), conv(k), conv(k-l), conv(k).in, conv(k).out, norm(k) with k "
                f"up to {len(layers)} (norm: {len(layers) - 1}), several joined by +, or none, got {where!r}"
            )
        tensors += [Generated(kind, k, part) for k in range(first, last + 1)]
    return tuple(tensors)


class WeightLearningNetwork(nn.Module):
    """One fully connected layer per generated tensor: W_i = A_i gamma + B_i. The other weights are plain ones.

    Parameters
    ----------
    base_network : BaseNetwork
        Whose weights these are.
    codes : int
        Length m of the code gamma.
    generated : str
        Which tensors depend on gamma, see `generated_tensors` (paper: every convolution).
    hidden : int
        Width of a hidden layer in each head (Table 13; 0: none).
    relu : bool
        A ReLU after the hidden layer.
    trunk : sequence of int
        Widths of a network shared by all heads that comes before them: (64, 8) gives weights that are mixtures of
        eight sets of kernels, mixed by a network with 64 hidden units.
    last_is_zero : bool
        Start the last convolution at zero, so that a base network with residual output starts as the identity.

    Notes
    -----
    B_i starts as usual for a convolution before a ReLU (normal, variance 2 / fan in; with standardised kernels
    1 / fan in). A_i starts `CODE_SPREAD` times as large, so that different codes are told apart from the first step.
    """

    def __init__(
        self,
        base_network: BaseNetwork,
        *,
        codes: int,
        generated: str = "conv(all)",
        hidden: int = 0,
        relu: bool = True,
        trunk: Sequence[int] = (),
        last_is_zero: bool = True,
    ):
        super().__init__()
        self.layers = base_network.convolutions
        self.codes = codes
        self.generated = generated_tensors(generated, self.layers)
        self.trunk = nn.Sequential()
        for number, width in enumerate(trunk):
            if number:
                self.trunk.append(nn.ReLU())
            self.trunk.append(nn.Linear(codes, width))
            codes = width
        self.heads = nn.ModuleDict()
        self.fixed = nn.ParameterDict()
        variance = 1 if base_network.normalisation == "kernel" else 2
        whole = {tensor.layer for tensor in self.generated if tensor.kind == "conv" and not tensor.part}
        sizes = [math.prod(self._shape(tensor)) * (1 + (hidden or codes)) for tensor in self.generated]
        sizes += [math.prod(layer.weight_shape) for k, layer in enumerate(self.layers, 1) if k not in whole]
        if sum(sizes) > LARGEST:
            raise ValueError(
                f"a network of {sum(sizes):,} numbers is too large, expected at most {LARGEST:,}: use fewer channels, "
                "hidden units or generated tensors"
            )
        deviations = [math.sqrt(variance / layer.fan_in) for layer in self.layers]
        if last_is_zero:
            deviations[-1] = 0.0
        for number, (layer, deviation) in enumerate(zip(self.layers, deviations, strict=True), start=1):
            if number not in whole:
                self.fixed[layer.name] = nn.Parameter(deviation * torch.randn(layer.weight_shape))
        for tensor in self.generated:
            layer, deviation = self.layers[tensor.layer - 1], deviations[tensor.layer - 1]
            size = math.prod(self._shape(tensor))
            self.heads[tensor.name] = _head(codes, size, 0.0 if tensor.kind == "norm" else deviation, hidden, relu)
            if tensor.kind == "norm":
                last = last_linear(self.heads[tensor.name])
                spread = 0.0 if tensor.layer in whole else CODE_SPREAD
                nn.init.normal_(last.weight, std=spread / math.sqrt(max(last.in_features, 1)))
                with torch.no_grad():
                    last.bias[: layer.out_channels] = base_network.initial_scale(layer)

    def _shape(self, tensor: Generated) -> tuple[int, ...]:
        layer = self.layers[tensor.layer - 1]
        if tensor.kind == "norm":
            return (2, layer.out_channels)
        first, second, *kernel = layer.weight_shape
        return (1 if tensor.part == "out" else first, 1 if tensor.part == "in" else second, *kernel)

    def forward(self, gamma_code: torch.Tensor) -> dict[str, torch.Tensor]:
        """Codes (B, m) to tensors by name.

        Generated ones have a batch axis in front, (B, \\*weight_shape) for convolutions and (B, 2, C) for scale and
        shift; the others are the same for all images.
        """
        code = self.trunk(gamma_code)
        weights = dict(self.fixed.items())
        for tensor in self.generated:
            values = self.heads[tensor.name](code).reshape(len(code), *self._shape(tensor))
            if tensor.part:  # one slice of an otherwise plain weight
                name, axis = f"conv{tensor.layer}", 2 if tensor.part == "in" else 1
                whole = self.fixed[name].expand(len(code), *self.fixed[name].shape)
                rest = whole.narrow(axis, 1, whole.shape[axis] - 1)
                weights[name] = torch.cat([values.to(rest.dtype), rest], dim=axis)
            else:
                weights[tensor.name] = values
        return weights


def last_linear(head: nn.Module) -> nn.Linear:
    """The layer of a head that gives the weights."""
    return head if isinstance(head, nn.Linear) else head[-1]  # type: ignore[index]


def _head(codes: int, size: int, deviation: float, hidden: int, relu: bool) -> nn.Module:
    """gamma to `size` numbers: one linear layer, or two."""
    with warnings.catch_warnings():  # an operator without parameters has no codes: a layer without inputs is meant
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
        last = nn.Linear(hidden or codes, size)
    nn.init.normal_(last.bias, std=deviation)
    nn.init.normal_(last.weight, std=CODE_SPREAD * deviation / math.sqrt(max(last.in_features, 1)))
    if not hidden:
        return last
    return nn.Sequential(nn.Linear(codes, hidden), *([nn.ReLU()] if relu else []), last)
