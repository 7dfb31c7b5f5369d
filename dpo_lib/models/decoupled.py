"""Base network and weight learning network together (paper, Fig. 1): one network for every parameter value."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ..parameters import Parameter, Value
from .base_network import BaseNetwork, channels_apart, channels_together
from .network_config import NetworkConfig
from .parameterized import ParameterizedNetwork
from .single_layer import SingleLayerTuner, first_generated
from .tiles import run
from .weight_learning import WeightLearningNetwork


class DecoupledNetwork(ParameterizedNetwork):
    """One pair of networks for an operator (or several) and all values of its parameters.

    Parameters
    ----------
    parameters, operator, config, **settings
        See `ParameterizedNetwork`. With a late `generated`, such as "norm(last)", `tuner` makes new values cheap.

    Examples
    --------
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> image = torch.rand(2, 3, 33, 40)
    >>> net(image, 0.02).shape, net(image, [0.002, 0.2]).shape
    (torch.Size([2, 3, 33, 40]), torch.Size([2, 3, 33, 40]))
    """

    def __init__(
        self,
        parameters: Sequence[Parameter] | Mapping[str, Sequence[Parameter]],
        config: NetworkConfig | None = None,
        *,
        operator: str = "",
        **settings,
    ):
        super().__init__(parameters, config, operator=operator, **settings)
        self.base_network = self.config.base_network()
        self.weight_learning_network = WeightLearningNetwork(
            self.base_network,
            codes=self.gamma_code.codes,
            generated=self.config.generated,
            hidden=self.config.hidden,
            relu=self.config.relu,
            trunk=self.config.trunk,
            last_is_zero=self.config.last_is_zero,
        )

    def weights(
        self, value: Value = None, *, operator: str | None = None, check_range: bool = True
    ) -> dict[str, torch.Tensor]:
        """The base network's weights for one parameter value: name to tensor, without a batch axis."""
        return self.generate(self.gamma_code(value, operator=operator, check_range=check_range))

    def generate(self, code: torch.Tensor) -> dict[str, torch.Tensor]:
        """The base network's weights for codes (B, codes), with a batch axis only where the images' codes differ."""
        if len(code) > 1 and not bool((code == code[:1]).all()):
            return self.weight_learning_network(code)
        fixed = self.weight_learning_network.fixed
        weights = self.weight_learning_network(code[:1])
        return {name: tensor if tensor is fixed.get(name) else tensor[0] for name, tensor in weights.items()}

    def answer(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) and codes (B, codes) to images; equal codes generate their weights once."""
        return run(self.base_network, image, self.generate(code))

    def answers(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """One image (1, 3, H, W) at every code (B, codes): (B, 3, H, W); what no code changes runs once."""
        base, learning = self.base_network, self.weight_learning_network
        layer, convolution = len(base.convolutions), True
        if learning.generated:
            layer, convolution = first_generated(learning.generated)
        fixed = dict(learning.fixed.items())
        shared = base.advance(base.begin(image), fixed, until=layer, standardise=not convolution)
        rows = (self.generate(row) for row in code.split(1))
        return torch.cat([base.finish(image, base.advance(shared, weights)) for weights in rows])

    def tuner(self, image: torch.Tensor | np.ndarray) -> SingleLayerTuner:
        """Run once what does not depend on the parameters: ``net.tuner(image)(value)`` is ``net(image, value)``."""
        return SingleLayerTuner(self, image)

    def at(self, value: Value = None, *, operator: str | None = None, check_range: bool = True) -> PlainNetwork:
        """A plain module for one parameter value: weights baked in, same output, ready for export."""
        with torch.no_grad():
            weights = self.weights(value, operator=operator, check_range=check_range)
        gray = (operator or self.operator) in self.gray
        return PlainNetwork(self.base_network, weights, gray=gray).eval().requires_grad_(False)


class PlainNetwork(nn.Module):
    """A base network with its weights baked in: ``module(image)`` on tensors (B, 3, H, W), nothing generated.

    Where they were learned on `gray` pictures, it answers channel by channel.
    """

    def __init__(self, base_network: BaseNetwork, weights: Mapping[str, torch.Tensor], *, gray: bool = False):
        super().__init__()
        self.gray = gray
        self.base_network = copy.deepcopy(base_network)
        self.weights = nn.ParameterDict({name: weight.detach().clone() for name, weight in weights.items()})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Tensor (B, 3, H, W) to tensor (B, 3, H, W)."""
        answer = run(self.base_network, channels_apart(image) if self.gray else image, dict(self.weights.items()))
        return channels_together(answer) if self.gray else answer
