"""Training: `config` (all settings), `bank` (targets), `learner` (one step), `loop`, `checkpoints`, `workers`,
`trainers` and `end_points` (models out of two trainings)."""

from .config import SCALES, Phase, TrainConfig
from .learner import build_network, loss_of, resolve_precision
from .loop import TrainResult
from .trainers import train

__all__ = [
    "SCALES",
    "Phase",
    "TrainConfig",
    "TrainResult",
    "build_network",
    "loss_of",
    "resolve_precision",
    "train",
]
