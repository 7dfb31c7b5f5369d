"""Everything that a training run depends on: image sizes, budget, network, optimiser."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np

from ..models.baselines import MODELS

LOSSES = ("l2", "log_l2")
TRAINED = ("all", "norm")


@dataclass(frozen=True)
class Phase:
    """A stretch of training at one image size.

    Parameters
    ----------
    share : float
        Part of all steps.
    shrink : float
        Images are reduced to this part of their size.
    crop : int
        Side of the square crops, in pixels.
    batch_size : int
    """

    share: float
    shrink: float
    crop: int
    batch_size: int

    def __post_init__(self):
        if not (0 < self.share <= 1 and 0 < self.shrink <= 1 and self.crop >= 16 and self.batch_size >= 1):
            raise ValueError(
                f"a phase needs 0 < share <= 1, 0 < shrink <= 1, crop >= 16 and batch_size >= 1, got {self}"
            )

    @classmethod
    def from_text(cls, text: str) -> Phase:
        """A phase as command lines have it.

        >>> Phase.from_text("1,0.5,160,4")
        Phase(share=1.0, shrink=0.5, crop=160, batch_size=4)
        """
        try:
            share, shrink, crop, batch_size = text.split(",")
            return cls(float(share), float(shrink), int(crop), int(batch_size))
        except ValueError as error:
            wanted = "SHARE,SHRINK,CROP,BATCH such as 1,0.5,160,4"
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text}: {error}") from error

    def __str__(self) -> str:
        return f"{self.share:g},{self.shrink:g},{self.crop},{self.batch_size}"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run depends on, besides operator and images. Checks itself.

    Parameters
    ----------
    scale : str
        Name of the budget, for tables.
    steps : int
        Optimiser steps in all.
    width, dilations, residual_output, rescaling, operator_code, depthwise, generated, hidden, relu, trunk
        The network's, see `DecoupledNetwork`.
    model : str
        "decoupled", or one of the baselines, see `models.baselines.build_model`.
    trained : {"all", "norm"}
        Which weights learn: all, or only the scale and shift of the normalisations.
    phases : tuple of Phase
        Image sizes, crops and batches, in order; shares add up to 1.
    entries_per_image : int
        Targets kept per image at a time, of all operators together.
    bank_size : int or None
        At most so many targets at a time; with fewer than there are images, the images take turns.
    replace_every : int
        A bank entry is replaced by a new one every so many steps (0: never).
    values : tuple of float or None
        Train on these parameter values only; None: the operator's whole range. Only for a single operator.
    loss : {"log_l2", "l2"}
        "l2" is the paper's Eq. 3. "log_l2" averages the logarithm of each image's squared error, that is, PSNR:
        all parameter values weigh the same, where l2 hears only the strong ones.
    learning_rate : float
        Peak; after `warmup` (part of the steps) it falls as a cosine to a hundredth.
    weight_decay, gradient_clip, ema : float
        AdamW's decay, the largest gradient norm, and the decay of the running average of the weights that is kept
        in the end (0: none).
    precision : {"auto", "float32", "bfloat16"}
        Arithmetic of the convolutions; "auto" takes bfloat16 where the processor computes it natively.
    seed : int
    """

    scale: str = "cpu"
    steps: int = 5000
    width: int = 32
    dilations: tuple[int, ...] = (2, 4, 4, 8, 8, 16, 1)
    residual_output: bool = True
    rescaling: str = "log"
    phases: tuple[Phase, ...] = (Phase(0.65, 0.5, 160, 4), Phase(0.35, 1.0, 224, 2))
    entries_per_image: int = 1
    bank_size: int | None = None
    replace_every: int = 6
    values: tuple[float, ...] | None = None
    loss: str = "log_l2"
    learning_rate: float = 1.5e-3
    warmup: float = 0.03
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    ema: float = 0.999
    precision: str = "auto"
    seed: int = 0
    model: str = "decoupled"
    operator_code: str = "one_hot"
    depthwise: bool = False
    generated: str = "conv(all)"
    hidden: int = 0
    relu: bool = True
    trunk: tuple[int, ...] = ()
    trained: str = "all"

    def __post_init__(self):
        problems = []
        if self.steps < 1:
            problems.append(f"steps must be at least 1, got {self.steps}")
        if not self.phases or not math.isclose(sum(phase.share for phase in self.phases), 1, abs_tol=1e-6):
            problems.append(f"the phases' shares must add up to 1, got {[phase.share for phase in self.phases]}")
        if self.loss not in LOSSES:
            problems.append(f"loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            problems.append(f"precision must be auto, float32 or bfloat16, got {self.precision!r}")
        if not (self.learning_rate > 0 and self.gradient_clip > 0 and self.weight_decay >= 0):
            problems.append("learning_rate and gradient_clip must be positive, weight_decay not negative")
        if not (0 <= self.ema < 1 and 0 <= self.warmup < 1):
            problems.append(f"ema and warmup must lie in [0, 1), got {self.ema} and {self.warmup}")
        if self.entries_per_image < 1 or self.replace_every < 0:
            problems.append("entries_per_image must be at least 1, replace_every at least 0")
        if self.bank_size is not None and self.bank_size < 1:
            problems.append(f"bank_size must be at least 1 or None, got {self.bank_size}")
        if self.model not in MODELS:
            problems.append(f"model must be one of {', '.join(MODELS)}, got {self.model!r}")
        if self.trained not in TRAINED:
            problems.append(f"trained must be one of {', '.join(TRAINED)}, got {self.trained!r}")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def network_settings(self) -> dict:
        """What `build_model` needs besides the operators' parameters."""
        names = (
            "model", "width", "dilations", "depthwise", "residual_output", "rescaling", "operator_code",
            "generated", "hidden", "relu", "trunk",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def phase_at(self, step: int) -> int:
        """Number of the phase that `step` (from 0) belongs to."""
        ends = np.cumsum([phase.share for phase in self.phases]) * self.steps
        return min(int(np.searchsorted(ends, step + 0.5)), len(self.phases) - 1)

    def first_step(self, phase: int) -> int:
        """First step of a phase."""
        return next(step for step in range(self.steps) if self.phase_at(step) == phase)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a hundredth."""
        warmup = max(1, round(self.warmup * self.steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


SCALES = {
    "smoke": TrainConfig(
        scale="smoke", steps=30, width=8, phases=(Phase(1.0, 0.5, 64, 2),), replace_every=10
    ),
    "cpu": TrainConfig(),
    "paper": TrainConfig(
        scale="paper",
        steps=20000,
        width=64,
        phases=(Phase(0.7, 0.5, 160, 24), Phase(0.3, 1.0, 256, 12)),
        entries_per_image=16,
        replace_every=1,
    ),
}
