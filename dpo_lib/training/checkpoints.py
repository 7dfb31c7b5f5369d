"""What a training run leaves on disk while it goes on: a log and a checkpoint, each whole at every moment."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from ..files import write_atomically
from ..operators.operator import Operator
from .config import TrainConfig

LOG_COLUMNS = ("step", "samples", "loss", "psnr_db", "learning_rate", "seconds")


class RunLog:
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
        """Append a row of `LOG_COLUMNS`."""
        if self.path is not None:
            with open(self.path, "a", newline="") as file:
                csv.writer(file).writerow(row)


def identity(operators: Mapping[str, Operator], config: TrainConfig) -> dict:
    """What must agree between a checkpoint and the run that goes on from it."""
    parameters = {name: [p.name for p in operator.parameters] for name, operator in operators.items()}
    run = {"operator": "+".join(operators), "parameters": parameters, **asdict(config)}
    return json.loads(json.dumps(run))


def _agree(saved: dict, wanted: dict) -> bool:
    """Settings that an older checkpoint does not name had today's defaults."""
    defaults = json.loads(json.dumps(asdict(TrainConfig())))
    return saved.keys() <= wanted.keys() and all(
        saved.get(key, defaults.get(key, value)) == value for key, value in wanted.items()
    )


def save_checkpoint(path: Path, *, run: dict, modules: Mapping, state: dict) -> None:
    """Write the identity `run`, the state of the `modules` (networks, optimiser) and the counters `state`."""
    with write_atomically(path) as temporary:
        contents = {name: module.state_dict() for name, module in modules.items()}
        torch.save({"identity": json.dumps(run, sort_keys=True), **contents, "state": state}, temporary)


def load_checkpoint(path: Path, *, run: dict, modules: Mapping, state: dict) -> None:
    """Bring `modules` and `state` to what `save_checkpoint` wrote.

    Raises
    ------
    ValueError
        The file cannot be read, or belongs to a run with other settings.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found = json.loads(saved["identity"])
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({error}): move it away to start anew") from error
    if not _agree(found, run):
        raise ValueError(
            f"{path} belongs to a run with other settings: choose another output folder, or move it away to start anew"
        )
    for name, module in modules.items():
        module.load_state_dict(saved[name])
    state.update(saved["state"])
