"""Training of the models that are interpolated between two trainings, one at each end of the range."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..models.baselines import END_POINT_MODELS, check_one_parameter, interpolated
from ..models.parameterized import ParameterizedNetwork
from ..operators.operator import Operators, as_operators
from . import loop
from .config import TrainConfig
from .loop import TrainResult


def halves(config: TrainConfig) -> tuple[TrainConfig, TrainConfig]:
    """The trainings at the low and at the high end; together they have the steps of `config`.

    Raises
    ------
    ValueError
        Fewer than two steps, or chosen values.
    """
    model = config.network.model
    if config.steps < 2 or config.values is not None:
        raise ValueError(f"{model} trains at the two ends of the range: steps must be at least 2, values None")
    plain = config.with_network(model="base_only")
    low, high = (replace(plain, steps=steps) for steps in (config.steps - config.steps // 2, config.steps // 2))
    return low, replace(high, trained="norm") if model == "adafm" else high


def train_ends(
    operators: Operators,
    images: Sequence[np.ndarray],
    config: TrainConfig,
    *,
    out: str | os.PathLike | None = None,
    minutes: float | None = None,
    initial: ParameterizedNetwork | None = None,
    **settings,
) -> TrainResult:
    """Half the steps at the low end of the range, half at the high end from there, then one network out of two.

    Parameters
    ----------
    operators, images, config, out, minutes, initial, **settings
        See `train`. Each half has a folder of its own in `out`.

    Raises
    ------
    ValueError
        Not one operator with one parameter; see also `halves` and `train`.
    """
    parameter = check_one_parameter({name: op.parameters for name, op in as_operators(operators).items()})
    start, results = time.monotonic(), []
    for end, value, half in zip(("low", "high"), (parameter.low, parameter.high), halves(config), strict=True):
        left = None if minutes is None else minutes - (time.monotonic() - start) / 60
        folder, half = None if out is None else Path(out) / end, replace(half, values=(value,))
        results.append(loop.train(operators, images, half, out=folder, minutes=left, initial=initial, **settings))
        initial = results[-1].network
        if not results[-1].finished:
            break
    network = interpolated(results[0].network, results[-1].network, generated=END_POINT_MODELS[config.network.model])
    sums = {name: sum(getattr(result, name) for result in results) for name in ("steps", "samples", "seconds")}
    finished = len(results) == 2 and results[-1].finished
    return replace(results[0], network=network.eval(), finished=finished, **sums)
