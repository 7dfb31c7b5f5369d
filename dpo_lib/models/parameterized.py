"""What all networks with a parameter share: the code gamma that they are fed, and the call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from ..checks import as_numbers
from ..images import AnyImage, as_batch
from ..parameters import Parameter, Value, as_gamma, distinct
from .base_network import INPUT_RANGE, MINIMUM_SIZE, BaseNetwork, channels_apart, channels_together
from .network_config import OPERATOR_CODES, RESCALINGS, NetworkConfig
from .weight_learning import WeightLearningNetwork

EMBEDDING_SIZE = 8


def rescale(gamma: torch.Tensor, parameters: Sequence[Parameter], *, rescaling: str = "log") -> torch.Tensor:
    """Parameter values in their units to codes in [-1, 1], linearly or (where sampled so) in log scale.

    >>> rescale(torch.tensor([[0.002], [0.02], [0.2]]), [Parameter("lambda", 0.002, 0.2, sampling="log")]).flatten()
    tensor([-1.,  0.,  1.])
    """
    columns = []
    for column, parameter in zip(gamma.unbind(1), parameters, strict=True):
        low, high = parameter.low, parameter.high
        if rescaling == "log" and parameter.sampling == "log":
            if not bool((column > 0).all()):
                raise ValueError(f"{parameter.name} counts in log scale and must be > 0, got {column.min().item():g}")
            column, low, high = column.log(), math.log(low), math.log(high)
        columns.append((2 * column - (low + high)) / (high - low))
    return torch.stack(columns, dim=1) if columns else gamma


class GammaCode(nn.Module):
    """From operator names and parameter values to the code gamma that a network is fed.

    Parameters
    ----------
    operators : mapping
        Operator name to its parameters; the order is part of the code.
    rescaling : {"log", "linear"}
    operator_code : {"number", "one_hot", "embedding"}
        With several operators: one number i/n for the i-th of n (paper), one coordinate each, or a learned vector.
    """

    def __init__(self, operators: Mapping[str, Sequence[Parameter]], *, rescaling: str, operator_code: str):
        super().__init__()
        if rescaling not in RESCALINGS:
            raise ValueError(f"rescaling must be one of {', '.join(RESCALINGS)}, got {rescaling!r}")
        if operator_code not in OPERATOR_CODES:
            raise ValueError(f"operator_code must be one of {', '.join(OPERATOR_CODES)}, got {operator_code!r}")
        if not operators:
            raise ValueError("a network needs at least one operator, got none")
        self.operators = {name: distinct(parameters, name) for name, parameters in operators.items()}
        self.rescaling = rescaling
        self.parameter_codes = max(len(parameters) for parameters in self.operators.values())
        n = len(self.operators)
        if n == 1:
            table = torch.zeros(1, 0)
        elif operator_code == "number":
            table = torch.arange(1, n + 1)[:, None] / n
        elif operator_code == "one_hot":
            table = torch.eye(n)
        else:
            table = nn.Parameter(torch.randn(n, EMBEDDING_SIZE))
        if isinstance(table, nn.Parameter):
            self.table = table
        else:
            self.register_buffer("table", table, persistent=False)
        self.codes = self.table.shape[1] + self.parameter_codes

    def index(self, operator: str | None) -> int:
        """Position of an operator; None is allowed when there is only one."""
        names = list(self.operators)
        if operator is None and len(names) == 1:
            return 0
        if operator not in names:
            raise ValueError(f"operator must be one of {', '.join(names)}, got {operator!r}")
        return names.index(operator)

    def forward(
        self,
        value: Value = None,
        *,
        operator: str | Sequence[str] | None = None,
        batch: int = 1,
        check_range: bool = True,
    ) -> torch.Tensor:
        """Codes, tensor (batch, codes): the operator's coordinates, then its parameters in [-1, 1] (0 where it has
        fewer than others).

        Raises
        ------
        ValueError
            An unknown operator, a value outside its range, or a shape that does not fit.
        """
        if operator is None or isinstance(operator, str):
            return self._rows(value, self.index(operator), batch, check_range)
        if len(operator) != batch:
            raise ValueError(f"expected one operator per image ({batch}), got {len(operator)}")
        given = [None] * batch if value is None else self._given(value, batch)
        rows = []
        for name, row in zip(operator, given, strict=True):
            index = self.index(name)
            m = len(self.operators[name])
            if row is not None and bool(row[m:].any()):
                raise ValueError(f"{name} takes {m} value(s), then zeros, got the row {row.tolist()}")
            row = row[:m] if row is not None and m else None
            rows.append(self._rows(row[None] if row is not None else None, index, 1, check_range))
        return torch.cat(rows)

    def _given(self, value: Value, batch: int) -> torch.Tensor:
        """A row of values per image."""
        given = as_numbers(value, f"the values of {', '.join(self.operators)}")
        if given.shape not in ((batch,), (batch, self.parameter_codes)):
            raise ValueError(
                f"images of several operators take one row of {self.parameter_codes} value(s) each, {batch} row(s), "
                f"got shape {tuple(given.shape)}"
            )
        return given.reshape(batch, -1)

    def _rows(self, value: Value, index: int, batch: int, check_range: bool) -> torch.Tensor:
        name, parameters = list(self.operators.items())[index]
        gamma = as_gamma(value, parameters=parameters, batch=batch, owner=name, check_range=check_range, gradient=True)
        code = rescale(gamma, parameters, rescaling=self.rescaling).to(self.table)
        padding = code.new_zeros(batch, self.parameter_codes - len(parameters))
        return torch.cat([self.table[index].expand(batch, -1), code, padding], dim=1)


class ParameterizedNetwork(nn.Module):
    """What all networks with a parameter share: the call, its checks, and the code. Subclasses say `answer`.

    Several threads may call one network.

    Parameters
    ----------
    parameters : sequence of Parameter, or mapping
        The operator's parameters (m of them, possibly none); or, for one network for several operators, operator
        name to parameters.
    operator : str
        The operator's name where `parameters` is a sequence.
    config : NetworkConfig, optional
        The form; default: the paper's base network.
    **settings
        Changes to `config`, by the names of its fields.

    Attributes
    ----------
    card : dict
        How it was trained, see `models.pretrained.save_network`.
    gray : tuple of str
        Operators that were learned on gray pictures: a call on a colour picture answers channel by channel.
    """

    base_network: BaseNetwork
    weight_learning_network: WeightLearningNetwork

    def __init__(
        self,
        parameters: Sequence[Parameter] | Mapping[str, Sequence[Parameter]],
        config: NetworkConfig | None = None,
        *,
        operator: str = "",
        **settings,
    ):
        super().__init__()
        self.config = replace(config or NetworkConfig(), **settings)
        operators = parameters if isinstance(parameters, Mapping) else {operator: parameters}
        self.gamma_code = GammaCode(operators, rescaling=self.config.rescaling, operator_code=self.config.operator_code)
        self.card: dict = {}
        self.gray: tuple[str, ...] = ()

    @property
    def operators(self) -> dict[str, tuple[Parameter, ...]]:
        """Operator names and their parameters."""
        return self.gamma_code.operators

    @property
    def operator(self) -> str:
        """The operator's name; of a joint network, all names joined by "+"."""
        return "+".join(self.operators)

    def extra_repr(self) -> str:
        """What the network is, in a few lines."""

        def described(name: str, parameters: Sequence[Parameter]) -> str:
            ranges = [f"{p.name} from {p.low:g} to {p.high:g}{f' {p.unit}' if p.unit else ''}" for p in parameters]
            return f"{name} ({', '.join(ranges)})" if ranges else name

        model, numbers = self.config.model, sum(tensor.numel() for tensor in self.state_dict().values())
        lines = [
            "; ".join(described(name or "operator", parameters) for name, parameters in self.operators.items()),
            f"{self.config.describe()}, {len(self.base_network.convolutions)} convolutions",
            *([f"learned on gray pictures: {', '.join(self.gray)}"] if self.gray else []),
            f"generated: {self.config.generated}" if model == "decoupled" else f"model: {model}",
            f"{numbers:,} stored numbers",
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        body = "".join(f"  {line}\n" for line in self.extra_repr().splitlines())
        return f"{type(self).__name__}(\n{body})"

    def answer(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) and codes (B, codes) to images."""
        raise TypeError(f"{type(self).__name__} does not say how it answers")

    def answers(self, image: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """One image (1, 3, H, W) at every code (B, codes): (B, 3, H, W)."""
        return self.answer(image.expand(len(code), -1, -1, -1), code)

    def _answer(self, image: torch.Tensor, code: torch.Tensor, operator: str | Sequence[str] | None) -> torch.Tensor:
        """`answer`, channel by channel where the picture has colours and the operator was learned without."""
        names = [operator or self.operator] * len(image) if operator is None or isinstance(operator, str) else operator
        gray = [name in self.gray for name in names]
        if not any(gray) or bool((image == image[:, :1]).all()):
            return self.answer(image, code)
        if all(gray):
            return channels_together(self.answer(channels_apart(image), code.repeat_interleave(3, dim=0)))
        rows = zip(image.split(1), code.split(1), names, strict=True)
        return torch.cat([self._answer(*row) for row in rows])

    def forward(
        self,
        image: AnyImage,
        value: Value = None,
        *,
        operator: str | Sequence[str] | None = None,
        check_range: bool = True,
    ) -> AnyImage:
        """Answer for the image(s) at the parameter value(s).

        Parameters
        ----------
        image : tensor (B, 3, H, W) floating in [0, 1], or ndarray (H, W, 3) or (B, H, W, 3), floating or uint8
            Computed in the precision of the weights, or in autocast's, whatever its own.
        value : number, sequence or tensor, optional
            A number for all images, or one value per image; None for the parameters' defaults. The answer to a tensor
            is differentiable with respect to it, as to the image and the weights.
        operator : str or sequence of str, optional
            Which operator, for a network that knows several; or one per image (then `value` has a row per image).
        check_range : bool
            Refuse values outside the range that the network was trained on.

        Returns
        -------
        Same kind and dtype as `image`.

        Raises
        ------
        TypeError, ValueError
            Bad image (at least 16 pixels a side), value or operator; the message says what was expected.
        """
        batch, restore = as_batch(image, minimum_size=MINIMUM_SIZE, low=INPUT_RANGE[0], high=INPUT_RANGE[1])
        code = self.gamma_code(value, operator=operator, batch=batch.shape[0], check_range=check_range)
        weight = next(self.parameters())
        if isinstance(image, torch.Tensor):
            return restore(self._answer(batch.to(weight.dtype), code, operator))
        with torch.no_grad():
            return restore(self._answer(batch.to(weight), code, operator))
