"""Training of a decoupled network on one operator, and its command line.

Reads in run order: settings, the loop, checkpoints, the command line.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from .bank import TargetBank, seeded
from .files import writable_folder, write_atomically
from .models.decoupled import DecoupledNetwork
from .operators.operator import Operator

LOSSES = ("l2", "log_l2")
LOG_FLOOR = 1e-5  # squared error below which log_l2 stops rewarding (50 dB)
LOG_COLUMNS = ("step", "samples", "loss", "psnr_db", "learning_rate", "seconds")


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


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run depends on, besides operator and images. Checks itself.

    Parameters
    ----------
    scale : str
        Name of the budget, for tables.
    steps : int
        Optimiser steps in all.
    width, dilations, residual_output, rescaling
        The network's, see `DecoupledNetwork`.
    phases : tuple of Phase
        Image sizes, crops and batches, in order; shares add up to 1.
    entries_per_image : int
        Targets kept per image at a time.
    replace_every : int
        A bank entry is replaced by a new one every so many steps (0: never).
    values : tuple of float or None
        Train on these parameter values only; None: the operator's whole range.
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
        if problems:
            raise ValueError("; ".join(problems))

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


def resolve_precision(precision: str, device: torch.device, *, width: int) -> torch.dtype:
    """Arithmetic of the convolutions: "auto" is bfloat16 wherever that is computed natively, else float32.

    Notes
    -----
    On a CPU only widths that are multiples of 16 count as native: for others, torch 2.13's gradient of grouped,
    dilated bfloat16 convolutions is not a number (found with widths 8, 20 and 24 on an AVX-512 machine).
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has_units = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        native = device.type == "cpu" and width % 16 == 0 and bool(has_units())
    if precision == "bfloat16" and device.type == "cpu" and width % 16:
        raise ValueError(f"bfloat16 on a CPU needs a width that is a multiple of 16, got {width}: use float32")
    return torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and native) else torch.float32


def loss_of(prediction: torch.Tensor, target: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of a batch and its mean PSNR in dB (no rounding, for the log)."""
    squared = (prediction.float() - target).square().flatten(1).mean(1)
    psnr_db = -10 * torch.log10(squared.detach().clamp_min(1e-10)).mean()
    return (squared.mean() if kind == "l2" else torch.log(squared + LOG_FLOOR).mean()), psnr_db


def build_network(operator: Operator, config: TrainConfig) -> DecoupledNetwork:
    """The untrained network of a configuration; the same seed gives the same numbers on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return DecoupledNetwork(
            operator.parameters,
            operator=operator.name,
            width=config.width,
            dilations=config.dilations,
            residual_output=config.residual_output,
            rescaling=config.rescaling,
        )


@dataclass(frozen=True)
class TrainResult:
    """What a run gives: the network (averaged weights, evaluation on its device), and how it came about."""

    network: DecoupledNetwork
    steps: int
    samples: int
    seconds: float
    finished: bool
    device: str
    precision: str


def train(
    operator: Operator,
    images: Sequence[np.ndarray],
    config: TrainConfig | None = None,
    *,
    out: str | os.PathLike | None = None,
    device: str | torch.device = "cpu",
    minutes: float | None = None,
    checkpoint_every: float = 60.0,
    progress: bool = True,
) -> TrainResult:
    """Train a network to imitate (or undo) an operator.

    Parameters
    ----------
    operator : Operator
    images : sequence of ndarray (H, W, 3)
        Clean training images, uint8 or float in [0, 1].
    config : TrainConfig
        Default: the "cpu" scale.
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

    Returns
    -------
    TrainResult

    Raises
    ------
    ValueError
        No usable image; or a checkpoint of another configuration in `out`.
    OSError
        `out` cannot be written (said before any work is done).
    """
    config = config or SCALES["cpu"]
    device = torch.device(device)
    out = None if out is None else writable_folder(out)
    dtype = resolve_precision(config.precision, device, width=config.width)
    network = build_network(operator, config).to(device)
    average = build_network(operator, config).to(device).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=device.type == "cuda"
    )
    state = {"step": 0, "samples": 0, "seconds": 0.0}
    if out is not None and (out / "checkpoint.pt").exists():
        _load_checkpoint(out / "checkpoint.pt", operator, config, network, average, optimizer, state)
    log = _Log(None if out is None else out / "log.csv", keep_until=state["step"])
    start, last_checkpoint = time.monotonic() - state["seconds"], time.monotonic()
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    bar = tqdm(total=config.steps, initial=state["step"], desc=operator.name, unit="step", disable=not progress)
    bank, bank_phase, recent = None, None, []
    step = state["step"]
    while step < config.steps and (deadline is None or time.monotonic() < deadline):
        number = config.phase_at(step)
        phase = config.phases[number]
        since = step - config.first_step(number) if number != bank_phase else since + 1
        replaced = since // config.replace_every if config.replace_every else 0
        if number != bank_phase:
            bank = TargetBank(
                operator,
                images,
                entries_per_image=config.entries_per_image,
                shrink=phase.shrink,
                crop=phase.crop,
                values=config.values,
                seed=config.seed + 1000 * number,
                device=device,
                progress=progress,
            )
            bank.fill(replaced)
            bank_phase = number
        bank.advance(replaced)
        inputs, targets, values = bank.batch(phase.batch_size, seeded(config.seed, 7, step))
        rate = config.learning_rate_at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            prediction = network(inputs, values if values.shape[1] else None, check_range=False)
        loss, psnr_db = loss_of(prediction, targets, config.loss)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"the loss became {float(loss)} at step {step}: lower learning_rate (now {config.learning_rate:g})"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
        optimizer.step()
        _update_average(average, network, min(config.ema, (step + 1) / (step + 10)) if config.ema else 0.0)
        step += 1
        state.update(step=step, samples=state["samples"] + len(inputs), seconds=time.monotonic() - start)
        recent.append((float(loss.detach()), float(psnr_db)))
        bar.update()
        if step % 20 == 0 or step == config.steps:
            mean_loss, mean_psnr = np.mean(recent, axis=0)
            recent = []
            bar.set_postfix(loss=f"{mean_loss:.4g}", psnr=f"{mean_psnr:.2f} dB")
            log.add(step, state["samples"], f"{mean_loss:.6g}", f"{mean_psnr:.3f}", f"{rate:.3g}", f"{state['seconds']:.1f}")
        if out is not None and time.monotonic() - last_checkpoint > checkpoint_every:
            _save_checkpoint(out / "checkpoint.pt", operator, config, network, average, optimizer, state)
            last_checkpoint = time.monotonic()
    bar.close()
    if out is not None:
        _save_checkpoint(out / "checkpoint.pt", operator, config, network, average, optimizer, state)
    return TrainResult(
        network=average.eval(),
        steps=state["step"],
        samples=state["samples"],
        seconds=state["seconds"],
        finished=state["step"] >= config.steps,
        device=str(device),
        precision=str(dtype).removeprefix("torch."),
    )


@torch.no_grad()
def _update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


class _Log:
    """The CSV log: a row per twenty steps; rows after the checkpoint that is gone on from are dropped."""

    def __init__(self, path: Path | None, *, keep_until: int):
        self.path = path
        if path is None:
            return
        rows = []
        if path.exists() and keep_until:
            with open(path, newline="") as file:
                rows = [row for row in list(csv.reader(file))[1:] if row and int(row[0]) <= keep_until]
        with write_atomically(path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([LOG_COLUMNS, *rows])

    def add(self, *row) -> None:
        if self.path is not None:
            with open(self.path, "a", newline="") as file:
                csv.writer(file).writerow(row)


def _identity(operator: Operator, config: TrainConfig) -> str:
    return json.dumps({"operator": operator.name, **asdict(config)}, sort_keys=True)


def _save_checkpoint(path: Path, operator, config, network, average, optimizer, state) -> None:
    with write_atomically(path) as temporary:
        torch.save(
            {
                "identity": _identity(operator, config),
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "state": state,
            },
            temporary,
        )


def _load_checkpoint(path: Path, operator, config, network, average, optimizer, state) -> None:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        identity = saved["identity"]
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}): move it away to start anew") from error
    if identity != _identity(operator, config):
        raise ValueError(
            f"{path} belongs to a run with other settings: choose another output folder, or move it away to start anew"
        )
    network.load_state_dict(saved["network"])
    average.load_state_dict(saved["average"])
    optimizer.load_state_dict(saved["optimizer"])
    state.update(saved["state"])


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib.training``: train on a folder of images; call again with the same words to go on."""
    from .data import file_list, image_files, load_folder
    from .operators import OPERATORS
    from .pretrained import save_network
    from .records import provenance, write_json

    parser = argparse.ArgumentParser(prog="python -m dpo_lib.training", description=main.__doc__)
    parser.add_argument("--operator", required=True, help=f"one of {', '.join(OPERATORS)}")
    parser.add_argument("--images", required=True, nargs="+", help="folder(s) of training images")
    parser.add_argument("--out", required=True, help="folder for the network, checkpoint, log and record")
    parser.add_argument("--scale", default="cpu", choices=SCALES, help="budget (default: cpu)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long; call again to go on")
    parser.add_argument("--steps", type=int, help="optimiser steps, instead of the scale's")
    parser.add_argument("--width", type=int, help="channels, instead of the scale's")
    parser.add_argument("--values", type=float, nargs="+", help="train on these parameter values only")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        if given.operator not in OPERATORS:
            raise ValueError(f"there is no operator {given.operator!r}: choose from {', '.join(OPERATORS)}")
        operator = OPERATORS[given.operator]
        changes = {name: getattr(given, name) for name in ("steps", "width", "seed") if getattr(given, name) is not None}
        config = replace(SCALES[given.scale], **changes, values=None if given.values is None else tuple(given.values))
        out = writable_folder(given.out)
        files = [file for folder in given.images for file in image_files(folder)]
        images = [image for folder in given.images for image in load_folder(folder)]
        result = train(operator, images, config, out=out, device=given.device, minutes=given.minutes)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    card = provenance(
        operator=operator.name,
        scale=config.scale,
        config=asdict(config),
        steps=result.steps,
        samples=result.samples,
        wall_time_s=round(result.seconds),
        finished=result.finished,
        device=_device_name(given.device),
        precision=result.precision,
        training_images=len(images),
    )
    save_network(out / "network.safetensors", result.network, card=card)
    write_json(out / "run.json", {**card, "files": file_list(files)})
    print(f"{result.steps} of {config.steps} steps; wrote {out / 'network.safetensors'}")
    return 0


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    raise SystemExit(main())
