"""The weight learning network: from an operator's parameters to the weights of a base network (paper, Eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from .base_network import Convolution

CODE_SPREAD = 0.3  # how far the ends of the code's range start from the middle, in parts of the weight


class WeightLearningNetwork(nn.Module):
    """One fully connected layer per convolution: W_i = A_i gamma + B_i.

    Parameters
    ----------
    layers : sequence of Convolution
    codes : int
        Length m of the code gamma.
    last_is_zero : bool
        Start the last convolution at zero, so that a base network with residual output starts as the identity.

    Notes
    -----
    B_i starts as usual for a convolution before a ReLU (normal, variance 2 / fan in). A_i starts `CODE_SPREAD`
    times as large, so that different codes are told apart from the first step.
    """

    def __init__(self, layers: Sequence[Convolution], *, codes: int, last_is_zero: bool = True):
        super().__init__()
        self.layers = list(layers)
        self.codes = codes
        self.heads = nn.ModuleDict()
        for layer in self.layers:
            head = nn.Linear(codes, math.prod(layer.weight_shape))
            deviation = math.sqrt(2 / layer.fan_in)
            if last_is_zero and layer is self.layers[-1]:
                deviation = 0.0
            nn.init.normal_(head.bias, std=deviation)
            nn.init.normal_(head.weight, std=CODE_SPREAD * deviation / math.sqrt(max(codes, 1)))
            self.heads[layer.name] = head

    def forward(self, gamma_code: torch.Tensor) -> dict[str, torch.Tensor]:
        """Codes (B, m) to weights: layer name to tensor (B, \\*weight_shape)."""
        return {
            layer.name: self.heads[layer.name](gamma_code).reshape(-1, *layer.weight_shape) for layer in self.layers
        }
