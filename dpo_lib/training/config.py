"""Everything that a training run depends on: image sizes, budget, network, optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..models.network_config import NetworkConfig
from .optimizers import OPTIMIZERS

LOSSES = ("l2", "log_l2")
TRAINED = ("all", "norm")
PRECISIONS = ("auto", "float32", "bfloat16")
DILATED = NetworkConfig()
PYRAMID = NetworkConfig(base="pyramid", widths=(24, 48, 72, 96, 96), generated="conv(all)+norm(all)")


WHOLE = ("steps", "entries_per_image", "value_levels", "same_value", "same_crop", "targets_seed", "seed")
REAL = ("learning_rate", "muon_learning_rate", "warmup", "weight_decay", "gradient_clip", "ema", "recoloured")


def _check_numbers(config: object, *, whole: Sequence[str], real: Sequence[str]) -> None:
    for names, kind, what, below in ((whole, int, "a whole number", 2**63), (real, (int, float), "finite", 1e100)):
        for name in names:
            value = getattr(config, name)
            if isinstance(value, bool) or not isinstance(value, kind):
                raise TypeError(f"{name} must be {what}, got {value!r}")
            if not abs(value) < below:
                raise ValueError(f"{name} must be {what}, got {value!r}")


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
        _check_numbers(self, whole=("crop", "batch_size"), real=("share", "shrink"))
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
            raise ValueError(f"expected SHARE,SHRINK,CROP,BATCH such as 1,0.5,160,4, got {text}: {error}") from error

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
    network : NetworkConfig
    trained : {"all", "norm"}
        Which weights learn: all, or only the scale and shift of the normalisations.
    phases : tuple of Phase
        Image sizes, crops and batches, in order; shares add up to 1.
    entries_per_image : int
        Targets per image, of all operators together.
    bank_size : int or None
        At most so many targets.
    value_levels : int
        Training values are so many equal steps of the range, both ends among them (0: any number of it).
    same_value : int
        So many images of a batch have the same operator and value, where there are as many, and share their generated
        weights: on a CPU a step then takes about half as long.
    same_crop : int
        So many images of a batch are one crop, handed to different operators: where only a late layer is generated,
        all before it runs once for them. See `TargetBank` for what it must divide.
    recoloured : float
        Share of the targets whose photograph gets its channels in another order and 0.5 to 2 times its saturation
        before the operator runs.
    targets_seed : int
        Of the targets' values and flips; runs with other `seed` share their targets.
    values : tuple of float or None
        Train on these parameter values only; None: the operator's whole range. Only for a single operator.
    loss : {"log_l2", "l2"}
        "l2" is the paper's Eq. 3. "log_l2" averages the logarithm of each image's squared error, that is, PSNR:
        all parameter values weigh the same, where with l2 only the strong ones count.
    optimizer : {"muon", "adamw"}
        See `training.optimizers.Optimizer`.
    learning_rate, muon_learning_rate : float
        Peaks; after `warmup` (part of the steps) they fall as a cosine to a hundredth.
    weight_decay, gradient_clip, ema : float
        The optimisers' decay, the largest norm of AdamW's gradients, and the decay of the running average of the
        weights that is kept in the end (0: none).
    precision : {"auto", "float32", "bfloat16"}
        Arithmetic of the convolutions; "auto" takes bfloat16 where that is quicker.
    seed : int
    """

    scale: str = "laptop"
    steps: int = 8500
    network: NetworkConfig = PYRAMID
    phases: tuple[Phase, ...] = (Phase(1.0, 1.0, 320, 4),)
    entries_per_image: int = 3
    bank_size: int | None = None
    value_levels: int = 64
    same_value: int = 2
    same_crop: int = 1
    recoloured: float = 0.0
    targets_seed: int = 0
    values: tuple[float, ...] | None = None
    loss: str = "log_l2"
    optimizer: str = "muon"
    learning_rate: float = 8e-4
    muon_learning_rate: float = 8e-3
    warmup: float = 0.03
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    ema: float = 0.998
    precision: str = "auto"
    seed: int = 0
    trained: str = "all"

    def __post_init__(self):
        _check_numbers(self, whole=WHOLE, real=REAL)
        if not isinstance(self.network, NetworkConfig) or not all(isinstance(phase, Phase) for phase in self.phases):
            raise TypeError(f"network must be a NetworkConfig and phases Phases, got {self.network} and {self.phases}")
        choices = {"loss": LOSSES, "optimizer": OPTIMIZERS, "trained": TRAINED, "precision": PRECISIONS}
        problems = [
            f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
            for name, known in choices.items()
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in known
        ]
        if self.steps < 1:
            problems.append(f"steps must be at least 1, got {self.steps}")
        if not self.phases or not math.isclose(sum(phase.share for phase in self.phases), 1, abs_tol=1e-6):
            problems.append(f"the phases' shares must add up to 1, got {[phase.share for phase in self.phases]}")
        if not (min(self.learning_rate, self.muon_learning_rate, self.gradient_clip) > 0 and self.weight_decay >= 0):
            problems.append("learning rates and gradient_clip must be positive, weight_decay not negative")
        if not (0 <= self.ema < 1 and 0 <= self.warmup < 1):
            problems.append(f"ema and warmup must lie in [0, 1), got {self.ema} and {self.warmup}")
        if self.same_crop < 1 or any(phase.batch_size % self.same_crop for phase in self.phases):
            sizes = [phase.batch_size for phase in self.phases]
            problems.append(f"same_crop must be at least 1 and divide every batch size ({sizes}), got {self.same_crop}")
        if self.value_levels < 0 or self.value_levels == 1 or self.same_value < 1:
            problems.append(
                f"value_levels must be 0 or at least 2 and same_value at least 1, got {self.value_levels} and "
                f"{self.same_value}"
            )
        if not 0 <= self.recoloured <= 1:
            problems.append(f"recoloured must lie in [0, 1], got {self.recoloured}")
        if min(self.seed, self.targets_seed) < 0:
            problems.append(f"seeds must not be negative, got {self.seed} and {self.targets_seed}")
        if self.entries_per_image < 1:
            problems.append(f"entries_per_image must be at least 1, got {self.entries_per_image}")
        if self.bank_size is not None and (type(self.bank_size) is not int or self.bank_size < 1):
            problems.append(f"bank_size must be at least 1 or None, got {self.bank_size}")
        if problems:
            raise ValueError("; ".join(problems))

    def with_network(self, **changes) -> TrainConfig:
        """The same training of another form of network, by the names of `NetworkConfig`'s fields."""
        return replace(self, network=replace(self.network, **changes))

    @property
    def samples(self) -> int:
        """How many crops a whole run sees."""
        return sum(self.phases[self.phase_at(step)].batch_size for step in range(self.steps))

    def phase_at(self, step: int) -> int:
        """Number of the phase that `step` (from 0) belongs to."""
        ends = np.cumsum([phase.share for phase in self.phases]) * self.steps
        return min(int(np.searchsorted(ends, step + 0.5)), len(self.phases) - 1)

    def rate_at(self, step: int) -> float:
        """What the learning rates are multiplied by: linear warm-up to 1, then a cosine down to a hundredth."""
        warmup = max(1, round(self.warmup * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


SCALES = {
    "smoke": TrainConfig(
        scale="smoke",
        value_levels=0,
        same_value=1,
        steps=30,
        network=replace(DILATED, width=8),
        phases=(Phase(1.0, 0.5, 64, 2),),
        entries_per_image=1,
        optimizer="adamw",
        learning_rate=1.5e-3,
        ema=0.999,
    ),
    "laptop": TrainConfig(),
    "cpu": TrainConfig(
        scale="cpu",
        value_levels=0,
        same_value=1,
        network=replace(DILATED, width=32),
        phases=(Phase(0.65, 0.5, 160, 4), Phase(0.35, 1.0, 224, 2)),
        entries_per_image=1,
        optimizer="adamw",
        learning_rate=1.5e-3,
        ema=0.999,
    ),
    "paper": TrainConfig(
        scale="paper",
        value_levels=0,
        same_value=1,
        steps=133_333,  # of 12 images each: 1.6 million samples
        network=DILATED,
        phases=(Phase(1.0, 1.0, 320, 12),),
        entries_per_image=2,
        optimizer="adamw",
        learning_rate=1.5e-3,
        ema=0.999,
    ),
}
