"""What an operator's parameter is: name, range, how it is drawn, and the values the paper tests at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TypeAlias

import numpy as np
import torch

from .checks import as_numbers

SAMPLINGS = ("log", "uniform", "integer")
Value: TypeAlias = float | Sequence | np.ndarray | torch.Tensor | None  # what a caller may give, see `as_gamma`


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operator, in its own (physical) unit.

    Parameters
    ----------
    name : str
        What the operator's paper calls it: ``lambda``, ``sigma_s``, ``radius`` ...
    low, high : float
        The range that networks are trained on; both ends belong to it. Sampled in whole numbers, they are whole.
    sampling : {"log", "uniform", "integer"}
        Training values are drawn log-uniformly, uniformly, or uniformly among the whole numbers.
    default : float
        The value a slider starts at.
    test_values : tuple of float
        Where the paper reports numbers; like the default, within the range.
    unit : str
        "" for a pure number, else for instance "px".

    Raises
    ------
    TypeError, ValueError
        Anything else.
    """

    name: str
    low: float
    high: float
    sampling: str = "uniform"
    default: float = None  # type: ignore[assignment]  # where none is given, the middle, see below
    test_values: tuple[float, ...] = ()
    unit: str = ""

    def __post_init__(self):
        if not isinstance(self.sampling, str) or self.sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {self.sampling!r}")
        given = (self.low, self.high, *(() if self.default is None else (self.default,)), *self.test_values)
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"a parameter's name must be a word, got {self.name!r}")
        if wrong := [number for number in given if isinstance(number, bool) or not isinstance(number, Real)]:
            raise TypeError(f"{self.name} needs numbers for its range, default and test values, got {wrong[0]!r}")
        if wrong := [number for number in given if 0 < abs(number) < 1e-100 or 1e100 < abs(number) < math.inf]:
            raise ValueError(f"{self.name} needs numbers from 1e-100 to 1e100, or 0, got {wrong[0]!r}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"{self.name} needs finite low < high, got {self.low} and {self.high}")
        if self.sampling == "log" and self.low <= 0:
            raise ValueError(f"{self.name} is sampled in log scale and needs low > 0, got {self.low}")
        if self.sampling == "integer" and (self.low % 1 or self.high % 1):
            raise ValueError(
                f"{self.name} is sampled in whole numbers and needs whole ends, got {self.low}, {self.high}"
            )
        self.check(torch.tensor([float(v) for v in given], dtype=torch.float64), "its default and test values")
        if self.default is None:
            middle = math.sqrt(self.low * self.high) if self.sampling == "log" else (self.low + self.high) / 2
            object.__setattr__(self, "default", float(round(middle)) if self.sampling == "integer" else middle)
        object.__setattr__(self, "test_values", tuple(self.test_values) or (self.low, self.default, self.high))

    @property
    def label(self) -> str:
        """Name and unit, as axes have it.

        >>> Parameter("sigma_s", 1, 10, unit="px").label
        'sigma_s [px]'
        """
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def sample(self, n: int, generator: torch.Generator, *, levels: int = 0) -> torch.Tensor:
        """Draw `n` values with the CPU `generator`: tensor (n,), float64.

        With `levels` (at least 2) only so many different ones: both ends and equal steps between, in the scale of
        `sampling`.
        """
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        return self.at((u * levels).floor().clamp(max=levels - 1) / (levels - 1) if levels else u)

    def at(self, u: torch.Tensor) -> torch.Tensor:
        """Values at the parts `u` of the range, 0 to 1, in the scale that training values are drawn in."""
        if self.sampling == "log":
            return self.low * (self.high / self.low) ** u
        if self.sampling == "integer":
            return torch.floor(self.low + u * (self.high - self.low + 1)).clamp(self.low, self.high)
        return self.low + u * (self.high - self.low)

    def check(self, values: torch.Tensor, owner: str) -> None:
        """Refuse values outside the range (or NaN), naming parameter, range and operator."""
        slack = 1e-6 * (self.high - self.low)  # float32 neighbours of an end are that end
        inside = (values >= self.low - slack) & (values <= self.high + slack)
        if not bool(inside.all()):
            wrong = values[~inside].flatten()[0].item()
            raise ValueError(f"{self.name} must lie in [{self.low:g}, {self.high:g}] for {owner}, got {wrong:g}")


def distinct(parameters: Sequence[Parameter], owner: str) -> tuple[Parameter, ...]:
    """The parameters of `owner`, refused if two have one name."""
    names = [parameter.name for parameter in parameters]
    if len(set(names)) < len(names):
        raise ValueError(f"{owner} needs parameters of different names, got {', '.join(names)}")
    return tuple(parameters)


def as_gamma(
    value: Value,
    *,
    parameters: Sequence[Parameter],
    batch: int,
    owner: str,
    check_range: bool = True,
    gradient: bool = False,
) -> torch.Tensor:
    """Bring a caller's parameter value(s) to a matrix with one row per image.

    Parameters
    ----------
    value : None, number, sequence or tensor
        None: the defaults. A number: the first parameter, the others at their defaults. For one parameter, a
        sequence holds one value per image; for m parameters it holds the m values for all images. A matrix has
        one row per image.
    parameters : sequence of Parameter
        m of them.
    batch : int
        Number of images B.
    owner : str
        Name for error messages.
    check_range : bool
        Refuse values outside the parameters' ranges.

    Returns
    -------
    tensor (B, m), float64, on the CPU; with `gradient`, that of a tensor goes on
    """
    m = len(parameters)
    defaults = torch.tensor([p.default for p in parameters], dtype=torch.float64)
    if value is None:
        gamma = defaults.expand(batch, m).clone()
    elif m == 0:
        raise ValueError(f"{owner} has no parameter, got the value {value!r}: call it with the image alone")
    else:
        names = ", ".join(p.name for p in parameters)
        given = as_numbers(value, f"{names} of {owner}")
        if given.dim() == 0:
            gamma = defaults.expand(batch, m).clone()
            gamma[:, 0] = given
        elif given.dim() == 1 and m == 1 and len(given) in (1, batch):
            gamma = given[:, None].expand(batch, 1).clone()
        elif (given.dim() == 1 and m > 1 and len(given) == m) or (
            given.dim() == 2 and given.shape[1] == m and given.shape[0] in (1, batch)
        ):
            gamma = given.expand(batch, m).clone()
        else:
            raise ValueError(
                f"{owner} takes {names}: a number, or one row of {m} per image for {batch} image(s), "
                f"got shape {tuple(given.shape)}"
            )
    if not bool(torch.isfinite(gamma).all()):
        raise ValueError(f"parameters of {owner} must be finite, got {value!r}")
    if check_range:
        for column, parameter in zip(gamma.unbind(1), parameters, strict=True):
            parameter.check(column, owner)
    return gamma if gradient else gamma.detach()
