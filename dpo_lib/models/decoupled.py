"""Base network and weight learning network together (paper, Fig. 1): one network for every parameter value."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from ..images import as_batch
from ..parameters import Parameter, as_gamma
from .base_network import DILATIONS, MINIMUM_SIZE, BaseNetwork
from .weight_learning import WeightLearningNetwork

RESCALINGS = ("linear", "log")
INPUT_RANGE = (-2.0, 3.0)  # unclipped noise leaves [0, 1]; 8-bit values by mistake are still caught


def rescale(gamma: torch.Tensor, parameters: Sequence[Parameter], *, rescaling: str = "log") -> torch.Tensor:
    """Parameter values in their units to codes in [-1, 1], linearly or (where sampled so) in log scale.

    >>> rescale(torch.tensor([[0.002], [0.02], [0.2]]), [Parameter("lambda", 0.002, 0.2, sampling="log")]).flatten()
    tensor([-1.,  0.,  1.])
    """
    columns = []
    for column, parameter in zip(gamma.unbind(1), parameters, strict=True):
        low, high = parameter.low, parameter.high
        if rescaling == "log" and parameter.sampling == "log":
            column, low, high = column.log(), math.log(low), math.log(high)
        columns.append((2 * column - (low + high)) / (high - low))
    return torch.stack(columns, dim=1) if columns else gamma


class DecoupledNetwork(nn.Module):
    """One pair of networks for an operator and all values of its parameters.

    Parameters
    ----------
    parameters : sequence of Parameter
        m of them; empty for an operator without parameters.
    operator : str
        The operator's name, for error messages and model cards.
    width, dilations, residual_output
        See `BaseNetwork`.
    rescaling : {"log", "linear"}
        How parameter values become codes; "log" applies to parameters sampled in log scale (paper: linear).

    Examples
    --------
    >>> net = DecoupledNetwork([Parameter("lambda", 0.002, 0.2, sampling="log")], operator="l0", width=8)
    >>> image = torch.rand(2, 3, 33, 40)
    >>> net(image, 0.02).shape, net(image, [0.002, 0.2]).shape
    (torch.Size([2, 3, 33, 40]), torch.Size([2, 3, 33, 40]))
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        *,
        operator: str = "",
        width: int = 64,
        dilations: Sequence[int] = DILATIONS,
        residual_output: bool = True,
        rescaling: str = "log",
    ):
        super().__init__()
        if rescaling not in RESCALINGS:
            raise ValueError(f"rescaling must be one of {', '.join(RESCALINGS)}, got {rescaling!r}")
        self.parameter_ranges = tuple(parameters)
        self.operator = operator
        self.rescaling = rescaling
        self.config = {
            "width": width,
            "dilations": list(dilations),
            "residual_output": residual_output,
            "rescaling": rescaling,
        }
        self.base_network = BaseNetwork(width=width, dilations=dilations, residual_output=residual_output)
        self.weight_learning_network = WeightLearningNetwork(
            self.base_network.convolutions, codes=len(self.parameter_ranges), last_is_zero=residual_output
        )

    def gamma_code(self, value, *, batch: int = 1, check_range: bool = True) -> torch.Tensor:
        """What the weight learning network is fed: tensor (batch, m) in [-1, 1].

        Raises
        ------
        ValueError
            A value outside its parameter's range, or a shape that does not fit; see `parameters.as_gamma`.
        """
        gamma = as_gamma(
            value, parameters=self.parameter_ranges, batch=batch, owner=self.operator, check_range=check_range
        )
        return rescale(gamma, self.parameter_ranges, rescaling=self.rescaling).to(self.base_network.scale)

    def weights(self, value=None, *, check_range: bool = True) -> dict[str, torch.Tensor]:
        """The base network's weights for one parameter value: layer name to tensor of its `weight_shape`."""
        code = self.gamma_code(value, check_range=check_range)
        return {name: weight[0] for name, weight in self.weight_learning_network(code).items()}

    def forward(self, image, value=None, *, check_range: bool = True):
        """Answer for the image(s) at the parameter value(s).

        Parameters
        ----------
        image : tensor (B, 3, H, W) floating in [0, 1], or ndarray (H, W, 3) floating in [0, 1] or uint8
        value : number, sequence or tensor, optional
            A number for all images, or one value per image; None for the parameters' defaults.
        check_range : bool
            Refuse values outside the range that the network was trained on.

        Returns
        -------
        Same kind as `image`.

        Raises
        ------
        TypeError, ValueError
            Bad image (at least 16 pixels a side) or value; the message says what was expected.
        """
        if self.training and isinstance(image, torch.Tensor):  # the training loop's own batches need no check
            return self._answer(image, value, check_range)
        parameter = self.base_network.scale
        batch, restore = as_batch(image, minimum_size=MINIMUM_SIZE, low=INPUT_RANGE[0], high=INPUT_RANGE[1])
        if isinstance(image, torch.Tensor):
            return self._answer(batch, value, check_range)
        with torch.no_grad():
            return restore(self._answer(batch.to(parameter), value, check_range))

    def _answer(self, image: torch.Tensor, value, check_range: bool) -> torch.Tensor:
        code = self.gamma_code(value, batch=image.shape[0], check_range=check_range)
        if bool((code == code[:1]).all()):  # one weight for all: no need to generate it B times
            weights = {name: weight[0] for name, weight in self.weight_learning_network(code[:1]).items()}
        else:
            weights = self.weight_learning_network(code)
        return self.base_network(image, weights)

    def at(self, value=None, *, check_range: bool = True) -> PlainNetwork:
        """A plain module for one parameter value: weights baked in, same output, ready for export."""
        with torch.no_grad():
            return PlainNetwork(self.base_network, self.weights(value, check_range=check_range)).eval().requires_grad_(False)


class PlainNetwork(nn.Module):
    """A base network with its weights baked in: ``module(image)`` on tensors (B, 3, H, W), nothing generated."""

    def __init__(self, base_network: BaseNetwork, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.base_network = copy.deepcopy(base_network)
        self.weights = nn.ParameterDict({name: weight.detach().clone() for name, weight in weights.items()})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Tensor (B, 3, H, W) to tensor (B, 3, H, W)."""
        return self.base_network(image, self.weights)
