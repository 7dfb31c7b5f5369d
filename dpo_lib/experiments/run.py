"""One experiment from nothing to its record: train, then measure; each continues where it was stopped."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..data.rain import rain_of_pairs
from ..data.sources import file_list, image_files, load_folder
from ..data.test_sets import ImageSet, usual_sets
from ..models.parameterized import ParameterizedNetwork
from ..models.pretrained import load_any
from ..models.transfer import base_at_mid_range
from ..training.card import described, save_run
from ..training.config import TrainConfig
from ..training.trainers import planned_samples, train
from .catalogue import Experiment
from .measure import OutOfTimeError, measure
from .store import comparable, load_run


@dataclass(frozen=True)
class Data:
    """The images of a run; those for training are read at the first use, and once for all experiments of a process."""

    folders: tuple[str, ...] = ()  # of training images
    tests: str | None = None  # a folder, see `data.test_sets.usual_sets`
    rain: str | None = None  # one of rain pairs
    limit: int | None = None  # only so many images of each test set

    @functools.cached_property
    def paths(self) -> list[Path]:
        """All training files."""
        if not self.folders:
            raise ValueError("training needs images: name their folders with --images")
        return [file for folder in self.folders for file in image_files(folder)]

    @functools.cached_property
    def images(self) -> list[np.ndarray]:
        """The training images."""
        return load_folder(self.paths)

    @functools.cached_property
    def files(self) -> list[dict]:
        """Names and hashes of the training images."""
        return file_list(self.paths)

    def test_sets(self, operators: Iterable[str]) -> dict[str, ImageSet]:
        """What each operator is measured on."""
        return usual_sets(operators, self.tests, rain=self.rain, limit=self.limit)


def run(
    experiment: Experiment,
    config: TrainConfig,
    folder: Path,
    data: Data,
    *,
    device: str = "cpu",
    targets: Path | None = None,
    jobs: int = 1,
    initial: str | None = None,
    deadline: float | None = None,
    progress: bool = True,
) -> dict:
    """Train the network if it is not there, and measure it; gives the record.

    Parameters
    ----------
    experiment, config, data
    folder : path
        Of the network, whether it is the experiment's own or that of another one.
    device, targets, jobs, progress
        See `train`; operators' answers on test images are kept in the same folder.
    initial : str, optional
        Begin with the base network of this one, see `base_at_mid_range`: a pretrained name, or a ``.safetensors`` file.
    deadline : float, optional
        Of `time.monotonic`: when to stop.

    Raises
    ------
    OutOfTimeError
        Call again to continue.
    ValueError, OSError
        Bad images, folders, or settings.
    """
    if experiment.trains:
        start = None if initial is None else load_any(initial)
        if not _is_trained(folder, config, start):
            how = {"device": device, "targets": targets, "jobs": jobs, "progress": progress}
            _train(experiment, config, folder, data, start, deadline, **how)
    network, facts = load_run(folder)
    if facts["samples"] < planned_samples(config):
        raise ValueError(f"{folder} holds a run of only {facts['samples']} samples: move it away to train anew")
    sets = data.test_sets(test.operator for test in experiment.tests)
    return measure(
        experiment, network.to(device), facts, folder, sets, device=device, seed=config.seed, targets=targets,
        deadline=deadline, progress=progress,
    )  # fmt: skip


def _train(experiment, config, folder, data, initial, deadline, **how) -> None:
    """Train to the end, or raise `OutOfTimeError`."""
    rainy = "derain" in experiment.operators
    operators = experiment.training_operators(rain_of_pairs(data.rain) if rainy and data.rain else None)
    entries = max(config.entries_per_image, -(-len(operators) // len(data.images)))  # one for each operator
    config = replace(config, entries_per_image=entries)
    how["minutes"] = None if deadline is None else max((deadline - time.monotonic()) / 60, 1e-9)
    start = None if initial is None else base_at_mid_range(initial)
    result = train(operators, data.images, config, out=folder, initial=start, **how)
    if not result.finished:
        raise OutOfTimeError(f"step {result.steps} of {config.steps}")
    facts = {"id": experiment.id, "name": experiment.id.replace("/", "-"), "initial": initial}
    rain = ("of pairs" if data.rain else "synthetic") if rainy else None
    save_run(folder, result, config, files=data.files, images=len(data.images), rain=rain, **facts)


def _is_trained(folder: Path, config: TrainConfig, initial: ParameterizedNetwork | None) -> bool:
    """Whether the finished network is there. Damaged files are set aside; a network of other settings is refused."""
    path = folder / "network.safetensors"
    if path.exists():
        try:
            _, facts = load_run(folder)
        except ValueError as error:
            _set_aside(path, str(error))
        else:
            begun, wanted = facts.get("initial", {}).get("name"), initial and described(initial)["name"]
            if comparable(facts["config"]) != comparable(config) or begun != wanted:
                raise ValueError(f"{folder} holds a run with other settings: move it away to train anew")
            return True
    for checkpoint in folder.rglob("checkpoint.pt"):
        try:
            torch.load(checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a damaged file raises
            _set_aside(checkpoint, f"not readable: {error}".splitlines()[0])
    return False


def _set_aside(path: Path, why: str) -> None:
    """Rename a damaged file, so that the work is done again, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    print(f"{path} is damaged, moved to {aside.name}, done again ({why})", flush=True)
