"""The weight learning network: from an operator's parameters to the weights of a base network (paper, Eq. 4)."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from .base_network import Convolution

CODE_SPREAD = 0.3  # how far the ends of the code's range start from the middle, in parts of the weight


def generated_names(where: str, layers: Sequence[Convolution]) -> tuple[str, ...]:
    """Spell out which tensors are generated (paper, Table 12).

    Parameters
    ----------
    where : str
        "conv(all)", "norm(all)", "conv(19)", "norm(7)", "norm(last)", "conv(19).in" (the slice of the first input
        channel), "conv(19).out" (of the first output channel), several joined by "+", or "none".
    layers : sequence of Convolution

    Raises
    ------
    ValueError
        A word that is none of these, or a number that the network does not have.

    Examples
    --------
    >>> from dpo_lib.models import convolutions
    >>> generated_names("norm(19)+conv(20)", convolutions())
    ('norm19', 'conv20')
    """
    if where == "none":
        return ()
    names: list[str] = []
    for word in where.split("+"):
        match = re.fullmatch(r"(conv|norm)\((all|last|\d+)\)(\.in|\.out)?", word.strip())
        kind, number, part = match.groups() if match else ("", "", None)
        count = len(layers) - (kind == "norm")
        number = str(count) if number == "last" else number
        bad = not match or (part and (kind == "norm" or number == "all"))
        if bad or (number != "all" and not 1 <= int(number) <= count):
            raise ValueError(
                f"generated must be conv(all), norm(all), conv(k), conv(k).in, conv(k).out, norm(k) with k up to "
                f"{len(layers)} (norm: {len(layers) - 1}), several joined by +, or none, got {where!r}"
            )
        numbers = range(1, count + 1) if number == "all" else [int(number)]
        names += [f"{kind}{k}{(part or '').replace('.', '_')}" for k in numbers]
    return tuple(names)


class WeightLearningNetwork(nn.Module):
    """One fully connected layer per generated tensor: W_i = A_i gamma + B_i. The other weights are plain ones.

    Parameters
    ----------
    layers : sequence of Convolution
    codes : int
        Length m of the code gamma.
    generated : str
        Which tensors depend on gamma, see `generated_names` (paper: every convolution).
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
    B_i starts as usual for a convolution before a ReLU (normal, variance 2 / fan in). A_i starts `CODE_SPREAD`
    times as large, so that different codes are told apart from the first step.
    """

    def __init__(
        self,
        layers: Sequence[Convolution],
        *,
        codes: int,
        generated: str = "conv(all)",
        hidden: int = 0,
        relu: bool = True,
        trunk: Sequence[int] = (),
        last_is_zero: bool = True,
    ):
        super().__init__()
        self.layers = list(layers)
        self.codes = codes
        self.generated = generated_names(generated, self.layers)
        self.trunk = nn.Sequential()
        for number, width in enumerate(trunk):
            if number:
                self.trunk.append(nn.ReLU())
            self.trunk.append(nn.Linear(codes, width))
            codes = width
        self.heads = nn.ModuleDict()
        self.fixed = nn.ParameterDict()
        for number, layer in enumerate(self.layers, start=1):
            deviation = math.sqrt(2 / layer.fan_in)
            if last_is_zero and number == len(self.layers):
                deviation = 0.0
            shape = layer.weight_shape
            if f"conv{number}" in self.generated:
                self.heads[f"conv{number}"] = _head(codes, math.prod(shape), deviation, hidden, relu)
            else:
                self.fixed[f"conv{number}"] = nn.Parameter(deviation * torch.randn(shape))
            for part, size in (("in", math.prod(shape) // shape[1]), ("out", math.prod(shape) // shape[0])):
                if f"conv{number}_{part}" in self.generated:
                    self.heads[f"conv{number}_{part}"] = _head(codes, size, deviation, hidden, relu)
            if f"norm{number}" in self.generated:
                head = _head(codes, 2 * layer.out_channels, 0.0, hidden, relu)
                last = head if isinstance(head, nn.Linear) else head[-1]
                nn.init.normal_(last.weight, std=CODE_SPREAD / math.sqrt(max(last.in_features, 1)))
                with torch.no_grad():
                    last.bias[: layer.out_channels] = 1
                self.heads[f"norm{number}"] = head

    def forward(self, gamma_code: torch.Tensor) -> dict[str, torch.Tensor]:
        """Codes (B, m) to tensors by name.

        Generated ones have a batch axis in front, (B, \\*weight_shape) for convolutions and (B, 2, C) for scale and
        shift; the others are the same for all images.
        """
        code = self.trunk(gamma_code)
        weights = dict(self.fixed.items())
        for name, head in self.heads.items():
            values = head(code)
            layer = self.layers[int(re.search(r"\d+", name)[0]) - 1]
            if name.startswith("norm"):
                weights[name] = values.reshape(len(code), 2, layer.out_channels)
            elif name == layer.name:
                weights[name] = values.reshape(-1, *layer.weight_shape)
            else:  # one slice of an otherwise plain weight
                axis = 2 if name.endswith("_in") else 1
                whole = self.fixed[layer.name].expand(len(code), *layer.weight_shape)
                slice_shape = [len(code), *layer.weight_shape]
                slice_shape[axis] = 1
                rest = whole.narrow(axis, 1, whole.shape[axis] - 1)
                weights[layer.name] = torch.cat([values.reshape(slice_shape).to(rest.dtype), rest], dim=axis)
        return weights


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
