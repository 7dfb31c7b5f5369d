"""One experiment from nothing to its record: train, measure, write; each step is taken up where it was left."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from ..data.rain import rain_of_pairs
from ..data.sources import file_list, image_files, load_folder
from ..files import writable_folder
from ..models.pretrained import load_any, save_network
from ..models.transfer import base_at_mid_range
from ..operators.cached import kept_targets
from ..records import device_name, provenance, write_json
from ..training.trainers import train
from .catalogue import Experiment
from .measure import OutOfTimeError, measure, measure_without_training
from .store import FINISHED, LARGER, Settings, comparable, load_run, state_of

STOPPED, BUSY = "stopped", "busy"


class TrainingImages:
    """The training images, read at the first use and once for all experiments of a process."""

    def __init__(self, folders: tuple[str, ...]):
        self.folders = folders

    @functools.cached_property
    def paths(self) -> list[Path]:
        """All files."""
        if not self.folders:
            raise ValueError("training needs images: name their folders with --images")
        return [file for folder in self.folders for file in image_files(folder)]

    @functools.cached_property
    def arrays(self) -> list[np.ndarray]:
        """The images."""
        return load_folder(self.paths)

    @functools.cached_property
    def files(self) -> list[dict]:
        """Names and hashes."""
        return file_list(self.paths)


def run(
    experiment: Experiment, settings: Settings, images: TrainingImages, *, deadline: float | None = None
) -> tuple[str, str]:
    """Train if necessary, measure, and write the record.

    Parameters
    ----------
    experiment : Experiment
        What it needs must be finished.
    settings : Settings
    images : TrainingImages
    deadline : float, optional
        Of `time.monotonic`: when to stop.

    Returns
    -------
    state, detail : str
        "finished", "stopped" (out of time; call again to go on), "busy" (another process is at it) or "larger" (the
        record is of a run of more samples, which is kept).

    Raises
    ------
    ValueError, OSError
        Bad images, folders, or settings.
    """
    with _alone(writable_folder(settings.run_folder(experiment.id))) as alone:
        if not alone:
            return BUSY, "another process is at it"
        state, detail = state_of(experiment, settings)
        if state == LARGER:
            return LARGER, detail
        try:
            if experiment.measures:
                facts = measure_without_training(experiment, settings)
            else:
                if experiment.trains:
                    _train(experiment, settings, images, deadline)
                facts = measure(experiment, settings, deadline)
        except OutOfTimeError as error:
            return STOPPED, str(error)
        write_json(settings.record(experiment.id), facts)
    rows = facts["rows"]
    mean = "" if experiment.measures else f", {np.mean([row['psnr_db'] for row in rows]):.2f} dB on average"
    return FINISHED, f"{len(rows)} rows{mean}"


def _train(experiment: Experiment, settings: Settings, images: TrainingImages, deadline: float | None) -> None:
    """Train to the end, or raise `OutOfTimeError`; leaves ``network.safetensors`` and ``run.json``."""
    path, config = settings.network(experiment.id), settings.config(experiment)
    if path.exists():
        try:
            _, facts = load_run(experiment.id, settings)
        except ValueError as error:
            _set_aside(path, str(error))
        else:
            begun, wanted = (found and found["name"] for found in (facts.get("initial"), _initial(settings)[1]))
            if comparable(facts["config"]) != comparable(json.loads(json.dumps(asdict(config)))) or begun != wanted:
                raise ValueError(f"{path.parent} holds a run with other settings: move it away to train anew")
            return
    for checkpoint in path.parent.rglob("checkpoint.pt"):
        if not _readable(checkpoint):
            _set_aside(checkpoint, "not readable")
    rain = rain_of_pairs(settings.rain) if settings.rain and "derain" in experiment.operators else None
    operators = experiment.training_operators(rain)
    # every operator of a joint network needs an entry in the bank
    entries = max(config.entries_per_image, -(-len(operators) // len(images.arrays)))
    config = replace(config, entries_per_image=entries)
    initial, begun = _initial(settings)
    if torch.device(settings.device).type == "cpu":  # on a GPU they are computed many at a time
        operators = [kept_targets(operator, settings.out / "runs" / "training_targets") for operator in operators]
    minutes = None if deadline is None else max((deadline - time.monotonic()) / 60, 1e-9)
    result = train(
        operators, images.arrays, config, out=path.parent, device=settings.device, minutes=minutes,
        progress=settings.progress, initial=initial,
    )  # fmt: skip
    if not result.finished:
        raise OutOfTimeError(f"step {result.steps} of {config.steps}")
    card = provenance(
        name=experiment.id.replace("/", "-"),
        id=experiment.id,
        operator="+".join(experiment.operators),
        scale=settings.scale,
        config=asdict(config),
        steps=result.steps,
        samples=result.samples,
        wall_time_s=round(result.seconds),
        finished=True,
        device=device_name(settings.device),
        precision=result.precision,
        training_images=len(images.arrays),
        rain="streaks of the training pairs" if rain else "synthetic",
        **({} if begun is None else {"initial": begun}),
    )
    write_json(path.parent / "run.json", {**card, "files": images.files})
    save_network(path, result.network, card=card)


def _initial(settings: Settings):
    """The network to begin with, and what it had seen itself; None without."""
    if settings.initial is None:
        return None, None
    network = load_any(settings.initial)
    seen = {key: network.card[key] for key in ("scale", "steps", "samples") if key in network.card}
    return base_at_mid_range(network), {"name": network.card.get("name") or Path(settings.initial).stem, **seen}


def _readable(checkpoint: Path) -> bool:
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception:
        return False
    return True


def _set_aside(path: Path, why: str) -> None:
    """Rename a damaged file, so that the work is done again, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    print(f"{path} is damaged, moved to {aside.name}, done again ({why})", flush=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process is at work in a folder; holds it meanwhile, where the system can."""
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
