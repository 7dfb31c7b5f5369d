"""Training of a network on one operator or several at once: the loop over the steps."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import locked, writable_folder
from ..images import as_batch
from ..models.parameterized import ParameterizedNetwork
from ..operators.operator import Operators, as_operators
from ..processes import signals_wait
from ..progress import progress_bar
from ..randomness import seeded
from .bank import TargetBank
from .checkpoints import RunLog, identity, load_checkpoint, save_checkpoint
from .config import SCALES, Phase, TrainConfig
from .learner import Learner
from .workers import Workers

LOG_EVERY = 20  # steps
CHECKPOINT_BYTES = 20  # per number of a network: itself, its average, the optimiser's two, and the finished file


@dataclass(frozen=True)
class TrainResult:
    """What a run gives: the network (averaged weights, evaluation on its device), and how it came about."""

    network: ParameterizedNetwork
    steps: int
    samples: int
    seconds: float
    finished: bool
    device: str
    precision: str
    leads: bool = True  # false in all but one of the processes that share a run


def train(
    operators: Operators,
    images: Sequence[np.ndarray],
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
    minutes: float | None = None,
    checkpoint_every: float = 60.0,
    progress: bool = True,
    initial: ParameterizedNetwork | None = None,
    targets: str | os.PathLike | None = None,
    jobs: int = 1,
) -> TrainResult:
    """Train a network to imitate (or undo) an operator, or several.

    Parameters
    ----------
    operators : Operator, or sequence or mapping of them
        Several make a joint network: batches mix them, and the network is told each image's operator.
    images : sequence of ndarray (H, W, 3), or mapping of names to such
        Clean training images, uint8 or float in [0, 1].
    config : TrainConfig
        Default: the "laptop" scale.
    out : path, optional
        Folder for ``checkpoint.pt`` and ``log.csv``. A checkpoint found there is gone on with: a run that was
        killed ends with the same weights as one that was not. Ctrl-C ends a step first, and leaves a checkpoint.
    device : str or torch.device
    minutes : float, optional
        Stop cleanly after so long, before all steps are done; call again to go on.
    checkpoint_every : float
        Seconds between checkpoints.
    progress : bool
        Show a bar with loss, PSNR and time left.
    initial : network, optional
        Start from its weights (of the same form) instead of random ones; a checkpoint in `out` counts more.
    targets : path, optional
        Folder that keeps the filters' answers for the next run, see `TargetBank`; default: memory only.
    jobs : int
        Processes that compute the answers missing there.

    Returns
    -------
    TrainResult

    Raises
    ------
    TypeError, ValueError
        Not an image (by its number), or none that is large enough; a checkpoint of another configuration in `out`; an
        `initial` network of another form; a batch that `torchrun`'s processes cannot share evenly.
    OSError
        `out` cannot be written, has no room for the checkpoint, or belongs to another process (said before any work
        is done); or a disk became full: the last checkpoint is still whole.
    """
    config = config or SCALES["laptop"]
    operators, workers = as_operators(operators), Workers.join(torch.device(device))
    progress = progress and workers.leads
    for number, image in enumerate(images):
        _check_training_image(image, number)
    workers.check_batches([phase.batch_size for phase in config.phases])
    out = None if out is None else Path(out)
    with contextlib.nullcontext() if out is None or not workers.leads else locked(out, "training.lock"):
        learner = Learner(operators, config, workers.device, initial, workers)
        if out is not None:
            numbers = sum(tensor.numel() for tensor in learner.network.state_dict().values())
            writable_folder(out, room=CHECKPOINT_BYTES * numbers)
        banks = Banks(learner, images, progress=progress, targets=targets, jobs=jobs)
        return _run(learner, banks, out, minutes, checkpoint_every)


def _check_training_image(image: np.ndarray, number: int) -> None:
    try:
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise TypeError(f"expected an array (H, W, 3), got {getattr(image, 'shape', type(image).__name__)}")
        as_batch(image[:1, :1] if image.dtype == np.uint8 else image)  # 8 bits have no wrong values
    except (TypeError, ValueError) as error:
        raise type(error)(f"training image {number}: {error}") from error


def _run(
    learner: Learner, banks: Banks, out: Path | None, minutes: float | None, checkpoint_every: float
) -> TrainResult:
    """The steps that are left, from a checkpoint in `out` if there is one, see `train`."""
    config, workers = learner.config, learner.workers
    state: dict[str, Any] = {"step": 0, "samples": 0, "seconds": 0.0, "recent": []}
    kept = {"run": identity(learner.operators, banks.images, config), "modules": learner.modules, "state": state}
    if out is not None and (out / "checkpoint.pt").exists():
        load_checkpoint(out / "checkpoint.pt", **kept)
    out = out if workers.leads else None
    log = RunLog(None if out is None else out / "log.csv", keep_until=state["step"])
    start, last_checkpoint = time.monotonic() - state["seconds"], time.monotonic()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    title = "+".join(learner.operators)
    bar = progress_bar(total=config.steps, initial=state["step"], desc=title, unit="step", progress=banks.progress)
    try:
        while (step := state["step"]) < config.steps:
            bank = banks.at(step, deadline)
            if deadline is not None and workers.any(time.monotonic() >= deadline):
                break
            batch = bank.batch(banks.phase.batch_size, seeded(config.seed, 7, step))
            with signals_wait():  # a step is done whole or not at all
                recent = [*state["recent"], learner.step(batch, step)]
                samples, seconds = state["samples"] + banks.phase.batch_size, time.monotonic() - start
                if due := (step + 1) % LOG_EVERY == 0 or step + 1 == config.steps:
                    loss, psnr_db = np.mean(recent, axis=0)
                    rate = f"{config.learning_rate * config.rate_at(step):.3g}"
                    log.add(step + 1, samples, f"{loss:.6g}", f"{psnr_db:.3f}", rate, f"{seconds:.1f}")
                state.update(step=step + 1, samples=samples, seconds=seconds, recent=[] if due else recent)
            bar.update()
            if due:
                bar.set_postfix(loss=f"{loss:.4g}", psnr=f"{psnr_db:.2f} dB")
            if out is not None and time.monotonic() - last_checkpoint > checkpoint_every:
                save_checkpoint(out / "checkpoint.pt", **kept)
                last_checkpoint = time.monotonic()
    except (KeyboardInterrupt, SystemExit) as stop:
        if out is not None and state["step"]:
            with signals_wait():
                save_checkpoint(out / "checkpoint.pt", **kept)
            stop.args = (f"step {state['step']} of {config.steps} is kept in {out / 'checkpoint.pt'}",)
        raise
    finally:
        bar.close()
    if out is not None:
        save_checkpoint(out / "checkpoint.pt", **kept)
    return TrainResult(
        learner.average.eval(),
        steps=state["step"],
        samples=state["samples"],
        seconds=state["seconds"],
        finished=state["step"] >= config.steps,
        device=str(workers.device),
        precision=str(learner.dtype).removeprefix("torch."),
        leads=workers.leads,
    )


class Banks:
    """What a learner draws its batches from: the bank as it is at a step; a new one for each phase.

    Parameters
    ----------
    learner : Learner
    images : sequence of ndarray (H, W, 3), or mapping of names to such
    progress, targets, jobs
        See `train`.
    """

    def __init__(
        self,
        learner: Learner,
        images: Sequence[np.ndarray],
        *,
        progress: bool = False,
        targets: str | os.PathLike | None = None,
        jobs: int = 1,
    ):
        self.learner, self.images, self.progress, self.targets, self.jobs = learner, images, progress, targets, jobs
        self.config = learner.config
        base = learner.average.base_network
        step = 1 if base.margin or not base.unshuffles else base.step
        self.crops: dict = {"step": step, "border": base.border, "margin": base.margin, "equalised": base.equalised}
        self.number = -1  # no phase yet
        self.bank: TargetBank

    @property
    def phase(self) -> Phase:
        return self.config.phases[self.number]

    def at(self, step: int, deadline: float | None = None) -> TargetBank:
        config, workers, number = self.config, self.learner.workers, self.config.phase_at(step)
        if number != self.number:
            self.number = number
            self.bank = TargetBank(
                self.learner.operators,
                self.images,
                entries_per_image=config.entries_per_image,
                size=config.bank_size,
                shrink=self.phase.shrink,
                crop=self.phase.crop,
                levels=config.value_levels,
                same_value=config.same_value,
                same_crop=config.same_crop,
                **self.crops,
                values=config.values,
                recoloured=config.recoloured,
                seed=config.targets_seed,
                device=workers.device,
                folder=self.targets,
                progress=self.progress,
                strata=self.phase.batch_size,
                part=(workers.rank, workers.count),
            )
            self.bank.fill(deadline=deadline, jobs=self.jobs)
        return self.bank
