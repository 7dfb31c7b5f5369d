"""Training of a network on one operator or several at once: the loop over the steps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from ..files import writable_folder
from ..models.parameterized import ParameterizedNetwork
from ..operators.operator import Operators, as_operators
from ..randomness import seeded
from .bank import TargetBank
from .checkpoints import RunLog, identity, load_checkpoint, save_checkpoint
from .config import SCALES, Phase, TrainConfig
from .learner import Learner
from .workers import Workers

LOG_EVERY = 20  # steps


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
    images : sequence of ndarray (H, W, 3)
        Clean training images, uint8 or float in [0, 1].
    config : TrainConfig
        Default: the "laptop" scale.
    out : path, optional
        Folder for ``checkpoint.pt`` and ``log.csv``. A checkpoint found there is gone on with: a run that was
        killed ends with the same weights as one that was not.
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
    ValueError
        No usable image; a checkpoint of another configuration in `out`; an `initial` network of another form; a batch
        that `torchrun`'s processes cannot share evenly.
    OSError
        `out` cannot be written (said before any work is done).
    """
    config = config or SCALES["laptop"]
    operators, workers = as_operators(operators), Workers.join(torch.device(device))
    device, progress = workers.device, progress and workers.leads
    workers.check_batches([phase.batch_size for phase in config.phases])
    out = None if out is None else writable_folder(out)
    learner = Learner(operators, config, device, initial, workers)
    state: dict[str, Any] = {"step": 0, "samples": 0, "seconds": 0.0}
    kept = {"run": identity(operators, images, config), "modules": learner.modules, "state": state}
    if out is not None and (out / "checkpoint.pt").exists():
        load_checkpoint(out / "checkpoint.pt", **kept)
    out = out if workers.leads else None
    log = RunLog(None if out is None else out / "log.csv", keep_until=state["step"])
    base = learner.average.base_network
    crops = {"step": 1 if base.wrap or not base.unshuffles else base.step, "torus": base.wrap > 0}
    banks = _Banks(operators, images, config, workers, progress, targets, jobs, crops)
    start, last_checkpoint = time.monotonic() - state["seconds"], time.monotonic()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    title = "+".join(operators)
    bar = tqdm(total=config.steps, initial=state["step"], desc=title, unit="step", disable=not progress)
    recent = []
    while (step := state["step"]) < config.steps:
        bank = banks.at(step, deadline)
        if deadline is not None and workers.any(time.monotonic() >= deadline):
            break
        batch = bank.batch(banks.phase.batch_size, seeded(config.seed, 7, step))
        recent.append(learner.step(batch, step))
        samples = state["samples"] + banks.phase.batch_size
        state.update(step=step + 1, samples=samples, seconds=time.monotonic() - start)
        bar.update()
        if state["step"] % LOG_EVERY == 0 or state["step"] == config.steps:
            loss, psnr_db = np.mean(recent, axis=0)
            recent = []
            bar.set_postfix(loss=f"{loss:.4g}", psnr=f"{psnr_db:.2f} dB")
            rate = f"{config.learning_rate * config.rate_at(step):.3g}"
            log.add(state["step"], state["samples"], f"{loss:.6g}", f"{psnr_db:.3f}", rate, f"{state['seconds']:.1f}")
        if out is not None and time.monotonic() - last_checkpoint > checkpoint_every:
            save_checkpoint(out / "checkpoint.pt", **kept)
            last_checkpoint = time.monotonic()
    bar.close()
    if out is not None:
        save_checkpoint(out / "checkpoint.pt", **kept)
    return TrainResult(
        learner.average.eval(),
        steps=state["step"],
        samples=state["samples"],
        seconds=state["seconds"],
        finished=state["step"] >= config.steps,
        device=str(device),
        precision=str(learner.dtype).removeprefix("torch."),
        leads=workers.leads,
    )


class _Banks:
    """The bank as it is at a step; a new one for each phase."""

    def __init__(self, operators, images, config: TrainConfig, workers: Workers, progress: bool, targets, jobs, crops):
        self.crops: dict = crops
        self.operators, self.images, self.config, self.workers = operators, images, config, workers
        self.progress, self.targets, self.jobs = progress, targets, jobs
        self.number = -1  # no phase yet
        self.bank: TargetBank

    @property
    def phase(self) -> Phase:
        return self.config.phases[self.number]

    def at(self, step: int, deadline: float | None = None) -> TargetBank:
        config, number = self.config, self.config.phase_at(step)
        if number != self.number:
            self.number = number
            self.bank = TargetBank(
                self.operators,
                self.images,
                entries_per_image=config.entries_per_image,
                size=config.bank_size,
                shrink=self.phase.shrink,
                crop=self.phase.crop,
                levels=config.value_levels,
                same_value=config.same_value,
                **self.crops,
                values=config.values,
                recoloured=config.recoloured,
                seed=config.targets_seed,
                device=self.workers.device,
                folder=self.targets,
                progress=self.progress,
                strata=self.phase.batch_size,
                part=(self.workers.rank, self.workers.count),
            )
            self.bank.fill(deadline=deadline, jobs=self.jobs)
        return self.bank
