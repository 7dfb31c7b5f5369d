"""What is on disk of the experiments: networks, records, and how far each has come."""

from __future__ import annotations

import enum
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from ..files import sha256_of
from ..models.parameterized import ParameterizedNetwork
from ..models.pretrained import load_network
from ..training.config import TrainConfig
from ..training.trainers import planned_samples
from .catalogue import EXPERIMENTS, Entry, Experiment

RECORD_KEYS = ("id", "scale", "config", "samples", "finished", "rows", "networks", "versions", "commit", "files")


class State(enum.Enum):
    """How far an experiment is, or what came of an attempt to run it."""

    MISSING = "missing"
    BEGUN = "begun"
    TRAINED = "trained"
    FINISHED = "finished"
    LARGER = "larger"  # the record is of a run of more samples, which is kept
    SMALLER = "smaller"
    OUTDATED = "outdated"  # the record is of a network that was trained anew since
    DAMAGED = "damaged"
    STOPPED = "stopped"  # at the time limit: the same command continues
    BUSY = "busy"  # another process runs it
    FAILED = "failed"

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return self in (State.FINISHED, State.LARGER)


class Outcome(NamedTuple):
    """A state, and what else there is to say."""

    state: State
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.state.value}, {self.detail}" if self.detail else self.state.value


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
        """Where an experiment's checkpoint, log and network are."""
        return self.out / "runs" / self.name / id_

    def network_folder(self, id_: str) -> Path:
        """`folder` of the experiment whose network it has."""
        return self.folder(getattr(EXPERIMENTS[id_], "same_as", "") or id_)

    def record(self, id_: str) -> Path:
        """An experiment's record."""
        return self.results / "runs" / f"{id_}.json"

    def hashes(self, entry: Entry) -> dict[str, str]:
        """The networks that an experiment is about, those that are there, with their hashes."""
        paths = {id_: self.folder(id_) / "network.safetensors" for id_ in entry.needs or (entry.id,)}
        return {id_: sha256_of(path) for id_, path in paths.items() if path.is_file()}

    def read_record(self, entry: Entry) -> dict:
        """An experiment's record, checked.

        Raises
        ------
        FileNotFoundError
            There is none.
        ValueError
            It is damaged, or lacks something; says what.
        """
        path = self.record(entry.id)
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            missing = [key for key in RECORD_KEYS if key not in record]
            if missing:
                raise ValueError(f"it lacks {', '.join(missing)}")
            if record["id"] != entry.id or record["finished"] is not True or not record["rows"]:
                raise ValueError("it is another run's, or not finished")
            if isinstance(entry, Experiment):
                measured = {(row["operator"], row["value"], row["told"]) for row in record["rows"] if "psnr_db" in row}
                wanted = {cell[2:] for cell in entry.cells()}
                if not wanted <= measured:
                    raise ValueError(f"{len(wanted - measured)} of {len(wanted)} measurements are missing")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path} is damaged ({error})") from error
        return record

    def state(self, entry: Entry, config: TrainConfig) -> Outcome:
        """How far an experiment with these settings is."""
        try:
            record = self.read_record(entry)
        except FileNotFoundError:
            return self._state_of_run(entry, config) if isinstance(entry, Experiment) else Outcome(State.MISSING)
        except ValueError as error:
            return Outcome(State.DAMAGED, str(error))
        samples = record["samples"]
        if not isinstance(entry, Experiment) or comparable(record["config"]) == comparable(config):
            if any(record["networks"].get(id_) != digest for id_, digest in self.hashes(entry).items()):
                return Outcome(State.OUTDATED, "its network was trained anew since")
            return Outcome(State.FINISHED, f"{samples} samples")
        planned = planned_samples(config)
        detail = f"{samples} samples where these settings have {planned}"
        return Outcome(State.LARGER if samples >= planned else State.SMALLER, detail)

    def _state_of_run(self, entry: Experiment, config: TrainConfig) -> Outcome:
        folder = self.network_folder(entry.id)
        if (folder / "network.safetensors").exists():
            return Outcome(State.TRAINED, "not measured")
        if not any(folder.rglob("checkpoint.pt")):
            return Outcome(State.MISSING)
        logged = [log.read_text().splitlines()[-1].partition(",")[0] for log in folder.rglob("log.csv")]
        steps = sum(int(number) for number in logged if number.isdigit())
        return Outcome(State.BEGUN, f"about step {steps} of {config.steps}")


def load_run(folder: Path) -> tuple[ParameterizedNetwork, dict]:
    """A finished network, and what made it (``run.json``).

    Raises
    ------
    FileNotFoundError, ValueError
        There is none, or it is damaged.
    """
    network, path = load_network(folder / "network.safetensors"), folder / "run.json"
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not facts.keys() >= {"config", "samples", "files"}:
            raise ValueError("not a run's")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    return network, facts


def has_network(folder: Path) -> bool:
    """Whether a finished network is there, and whole."""
    try:
        load_run(folder)
    except (OSError, ValueError):
        return False
    return True


def comparable(config: TrainConfig | dict) -> dict:
    """A configuration as JSON holds it, without `entries_per_image`, which follows from the number of images."""
    plain = config if isinstance(config, dict) else json.loads(json.dumps(asdict(config)))
    return {key: value for key, value in plain.items() if key != "entries_per_image"}
