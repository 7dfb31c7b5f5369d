"""What is on disk of the experiments: networks, records, and how far each has come."""

from __future__ import annotations

import enum
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from ..records import read_rows
from ..training.config import TrainConfig
from ..training.trainers import planned_samples
from .catalogue import Entry, Experiment


class State(enum.Enum):
    """How far an experiment is, or how an attempt to run it ended."""

    MISSING = "missing"
    BEGUN = "begun"
    TRAINED = "trained"
    SMALLER = "smaller"  # measured, but the network saw fewer samples than the settings have
    FINISHED = "finished"
    STOPPED = "stopped"  # the same command continues
    FAILED = "failed"


@dataclass(frozen=True)
class Store:
    """What lies where: ``runs/SCALE/`` (networks, checkpoints) and ``results/SCALE/`` (records, tables) in a folder.

    SCALE is followed by the seed, if that is not 0.
    """

    out: Path
    scale: str = "laptop"
    seed: int = 0

    @property
    def name(self) -> str:
        """The scale's folder."""
        return self.scale if self.seed == 0 else f"{self.scale}-seed{self.seed}"

    @property
    def results(self) -> Path:
        """Folder of the tables."""
        return self.out / "results" / self.name

    def folder(self, id_: str) -> Path:
        """Where the checkpoint, log and network of an experiment are that trains one."""
        return self.out / "runs" / self.name / id_

    def network(self, id_: str) -> Path:
        """The network in this folder."""
        return self.folder(id_) / "network.safetensors"

    def record(self, id_: str) -> Path:
        """An experiment's record."""
        return self.results / "runs" / f"{id_}.json"

    def rows(self, id_: str) -> Path:
        """What its record sums up: a row for each image and value."""
        return self.record(id_).with_suffix(".csv")

    def images_of(self, experiment: Experiment, table: str, row: dict) -> list[dict]:
        """The images' rows that a cell of a table sums up, see `collect`; none, where they were not kept."""
        told = next(cell[-1] for cell in experiment.cells() if cell[:2] == (table, row["network"]))
        wanted = (row["operator"], "" if row["value"] == "default" else row["value"], told)
        path = self.rows(experiment.id)
        rows = read_rows(path) if path.exists() else []
        return [each for each in rows if (each["operator"], each["value"], each["told"]) == wanted]

    def has_networks(self, entry: Entry) -> bool:
        """Whether all the networks that an experiment measures are there."""
        return all(self.network(id_).exists() for id_ in entry.networks)

    def read_record(self, entry: Entry) -> dict | None:
        """An experiment's record, None if there is none; a damaged one is named in a warning and counts as none."""
        path = self.record(entry.id)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            measured = {(row.get("operator"), row.get("value"), row.get("told")) for row in record["rows"]}
            wanted = {(test.operator, value, test.told) for test in entry.tests for value in test.values}
            if not wanted <= measured:
                raise ValueError(f"{len(wanted - measured)} of {len(wanted)} measurements are missing")
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            warnings.warn(f"{path} is damaged ({error}): {entry.id} counts as not measured", stacklevel=2)
            return None
        return record

    def state(self, entry: Entry, config: TrainConfig) -> tuple[State, str]:
        """How far an experiment with these settings is, and what else there is to say."""
        record = self.read_record(entry)
        if record is None:
            if entry.networks and self.has_networks(entry):
                return State.TRAINED, "not measured"
            begun = any(any(self.folder(id_).rglob("checkpoint.pt")) for id_ in entry.networks)
            return State.BEGUN if begun else State.MISSING, ""
        samples, other = record["samples"], comparable(record["config"]) != comparable(config)
        if other and isinstance(entry, Experiment) and samples < (planned := planned_samples(config)):
            return State.SMALLER, f"{samples} samples where these settings have {planned}"
        return State.FINISHED, f"{samples} samples"


def comparable(config: TrainConfig | dict) -> dict:
    """A configuration as JSON holds it, without `entries_per_image`, which follows from the number of images."""
    plain = config if isinstance(config, dict) else json.loads(json.dumps(asdict(config)))
    return {key: value for key, value in plain.items() if key != "entries_per_image"}
