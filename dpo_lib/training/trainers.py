"""`train`: the loop that a configuration's model needs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from ..models.baselines import END_POINT_MODELS
from ..operators.operator import Operators
from . import loop
from .config import SCALES, TrainConfig
from .end_points import halves, train_ends
from .loop import TrainResult


@functools.wraps(loop.train)
def train(
    operators: Operators,
    images: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    config: TrainConfig | None = None,
    **settings,
) -> TrainResult:
    images = list(images.values()) if isinstance(images, Mapping) else images
    config = config or SCALES["laptop"]
    trainer = train_ends if config.network.model in END_POINT_MODELS else loop.train
    with _usual_mood(settings.get("device", "cpu")):
        return trainer(operators, images, config, **settings)


@contextlib.contextmanager
def _usual_mood(device: str | torch.device) -> Iterator[None]:
    """With gradients, without autocast, in single precision: whatever a caller has set for itself."""
    kind, default = torch.device(device).type, torch.get_default_dtype()
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(kind, enabled=False):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)


def planned_samples(config: TrainConfig) -> int:
    """How many crops a whole training sees."""
    parts = halves(config) if config.network.model in END_POINT_MODELS else [config]
    return sum(part.samples for part in parts)
