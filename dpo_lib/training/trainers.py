"""`train`: the loop that a configuration's model needs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ..models.baselines import END_POINT_MODELS
from ..operators.operator import Operators
from . import loop
from .config import SCALES, TrainConfig
from .end_points import halves, train_ends
from .loop import TrainResult


@functools.wraps(loop.train)
def train(
    operators: Operators, images: Sequence[np.ndarray], config: TrainConfig | None = None, **settings
) -> TrainResult:
    config = config or SCALES["laptop"]
    trainer = train_ends if config.network.model in END_POINT_MODELS else loop.train
    return trainer(operators, images, config, **settings)


def planned_samples(config: TrainConfig) -> int:
    """How many crops a whole training sees."""
    parts = halves(config) if config.network.model in END_POINT_MODELS else [config]
    return sum(part.samples for part in parts)
