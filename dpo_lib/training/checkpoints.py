"""What a training run leaves on disk while it goes on: a log and a checkpoint, each whole at every moment."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ..files import write_atomically
from ..operators.cached import source_of
from ..operators.operator import Operator
from ..records import read_table
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
            try:
                table = read_table(path)  # what a killed process wrote half is named and left out
            except ValueError as error:
                table = []
                warnings.warn(f"{error}: a new log is begun", stacklevel=2)
            rows = [list(row.values()) for row in table if row.get("step", "").isdigit()]
            rows = [row for row in rows if int(row[0]) <= keep_until]
        with write_atomically(path) as temporary, open(temporary, "w", newline="") as file:
            csv.writer(file).writerows([LOG_COLUMNS, *rows])

    def add(self, *row) -> None:
        """Append a row of `LOG_COLUMNS`."""
        if self.path is not None:
            with open(self.path, "a", newline="") as file:
                csv.writer(file).writerow(row)


def identity(operators: Mapping[str, Operator], images: Sequence[np.ndarray], config: TrainConfig) -> dict:
    """What must agree between a checkpoint and the run that resumes it: operators, images, configuration."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr((image.shape, str(image.dtype))).encode() + np.ascontiguousarray(image).tobytes())
    described = {
        name: {
            "parameters": {p.name: [p.low, p.high, p.sampling] for p in operator.parameters},
            "settings": {key: repr(value) for key, value in operator.settings.items()},
            "source": source_of(operator),
        }
        for name, operator in operators.items()
    }
    run = {"order": list(operators), "operators": described, "images": digest.hexdigest()[:32]}
    return json.loads(json.dumps({**run, "config": asdict(config)}))


def differences(saved: object, wanted: object, path: str = "") -> list[str]:
    """Where two identities differ, in words.

    >>> differences({"config": {"seed": 1, "steps": 5}}, {"config": {"seed": 2, "steps": 5}})
    ['config.seed: 1 there, 2 here']
    """
    if isinstance(saved, dict) and isinstance(wanted, dict):
        keys = list(dict.fromkeys([*saved, *wanted]))
        parts = (differences(saved.get(key), wanted.get(key), f"{path}.{key}".strip(".")) for key in keys)
        return [difference for part in parts for difference in part]
    return [] if saved == wanted else [f"{path}: {saved!r} there, {wanted!r} here"]


def save_checkpoint(path: Path, *, run: dict, modules: Mapping, state: dict) -> None:
    """Write the identity `run`, the state of the `modules` (networks, optimiser) and the counters `state`."""
    with write_atomically(path) as temporary:
        contents = {name: module.state_dict() for name, module in modules.items()}
        buffer = io.BytesIO()  # on a full disk torch's own writer says nothing of the disk
        torch.save({"identity": json.dumps(run, sort_keys=True), **contents, "state": state}, buffer)
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, *, run: dict, modules: Mapping, state: dict) -> None:
    """Bring `modules` and `state` to what `save_checkpoint` wrote.

    Raises
    ------
    ValueError
        The file cannot be read, or belongs to a run with other settings.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():  # torch does not look at its checksums
                raise ValueError(f"{damaged} is damaged")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found = json.loads(saved["identity"])
    except Exception as error:
        raise _unreadable(path, error) from error
    different = differences(found, run)
    if different:
        raise ValueError(
            f"{path} belongs to another run ({'; '.join(different[:5])}): choose another output folder, "
            "or move it away to start anew"
        )
    try:
        for name, module in modules.items():
            module.load_state_dict(saved[name])
        state.update(saved["state"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is not a readable checkpoint ({error}): move it away to start anew")
