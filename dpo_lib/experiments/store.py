"""What is on disk of an experiment: its network, its record, and how far it has come."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..files import sha256_of
from ..models.parameterized import ParameterizedNetwork
from ..models.pretrained import load_network
from ..training.config import Phase, TrainConfig
from ..training.trainers import planned_samples
from .catalogue import EXPERIMENTS, Experiment

FINISHED, LARGER = "finished", "larger"
RECORD_KEYS = ("id", "scale", "config", "samples", "finished", "rows", "networks", "versions", "commit", "files")


@dataclass(frozen=True)
class Settings:
    """Where and how experiments are run; what the command line says.

    Parameters
    ----------
    out : path
        Holds ``runs/`` (networks, checkpoints) and ``results/`` (records, tables).
    scale : str
    seed : int
        Results of another seed than 0 go to ``results/SCALE-seedN``.
    device : str
    images : tuple of path
        Folders of training images.
    tests, rain : path, optional
        Folders of test images and of rain pairs, see `dpo_lib.data.test_sets`.
    steps : int, optional
        In place of the scale's.
    test_images : int, optional
        Per set; default: all (smoke: 1).
    progress : bool
    bank_size : int, optional
    phases : tuple of Phase, optional
        In place of the scale's.
    initial : str, optional
        Every network begins with the base network of this one, see `models.transfer.base_at_mid_range`: the name of a
        pretrained network, or a ``.safetensors`` file.
    """

    out: Path
    scale: str = "cpu"
    seed: int = 0
    device: str = "cpu"
    images: tuple[str, ...] = ()
    tests: str | None = None
    rain: str | None = None
    steps: int | None = None
    test_images: int | None = None
    progress: bool = True
    bank_size: int | None = None
    phases: tuple[Phase, ...] | None = None
    initial: str | None = None

    @property
    def folder(self) -> str:
        """Name of the scale's folder, with the seed if it is not 0."""
        return self.scale if self.seed == 0 else f"{self.scale}-seed{self.seed}"

    def run_folder(self, id_: str) -> Path:
        """Where an experiment's network, checkpoint and log are."""
        return self.out / "runs" / self.folder / id_

    def network(self, id_: str) -> Path:
        """An experiment's finished network."""
        return self.run_folder(EXPERIMENTS[id_].same_as or id_) / "network.safetensors"

    def record(self, id_: str) -> Path:
        """An experiment's record."""
        return self.out / "results" / self.folder / "runs" / f"{id_}.json"

    def config(self, experiment: Experiment) -> TrainConfig:
        """The settings that an experiment is trained with."""
        config = experiment.config(self.scale, steps=self.steps, seed=self.seed)
        changes = {"bank_size": self.bank_size, "phases": self.phases}
        return replace(config, **{name: value for name, value in changes.items() if value is not None})


def read_record(path: Path, experiment: Experiment) -> dict:
    """An experiment's record, checked.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is damaged, or lacks something; says what.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in RECORD_KEYS if key not in record]
        if missing or record["id"] != experiment.id or record["finished"] is not True or not record["rows"]:
            raise ValueError(f"it lacks {', '.join(missing)}" if missing else "it is another run's, or not finished")
        measured = {(row.get("operator"), row.get("value"), row.get("told")) for row in record["rows"]}
        wanted = {(cell.operator, cell.value, cell.told) for cell in experiment.cells()}
        if not wanted <= measured or not all("psnr_db" in row or experiment.measures for row in record["rows"]):
            raise ValueError(f"{len(wanted - measured)} of {len(wanted)} measurements are missing")
    except (ValueError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    return record


def state_of(experiment: Experiment, settings: Settings) -> tuple[str, str]:
    """How far an experiment is: "finished", "larger" (a run of more samples is kept), "smaller", "outdated" (the
    network is another one by now), "damaged", "trained", "begun" or "missing", and a detail.
    """
    try:
        record = read_record(settings.record(experiment.id), experiment)
    except FileNotFoundError:
        return _state_of_run(experiment, settings)
    except ValueError as error:
        return "damaged", str(error)
    wanted = json.loads(json.dumps(asdict(settings.config(experiment))))
    if experiment.measures or comparable(record["config"]) == comparable(wanted):
        if any(record["networks"].get(id_) != digest for id_, digest in networks_now(experiment, settings).items()):
            return "outdated", "its network is another one by now"
        return FINISHED, f"{record['samples']} samples"
    planned = planned_samples(settings.config(experiment))
    detail = f"{record['samples']} samples where these settings have {planned}"
    return (LARGER if record["samples"] >= planned else "smaller"), detail


def networks_now(experiment: Experiment, settings: Settings) -> dict[str, str]:
    """The networks that an experiment is about, those that are there, with their hashes."""
    ids = experiment.needs if experiment.measures else (experiment.same_as or experiment.id,)
    return {id_: sha256_of(settings.network(id_)) for id_ in ids if settings.network(id_).is_file()}


def load_run(id_: str, settings: Settings) -> tuple[ParameterizedNetwork, dict]:
    """An experiment's finished network, and what made it (``run.json``).

    Raises
    ------
    FileNotFoundError, ValueError
        There is none, or it is damaged.
    """
    path = settings.network(id_)
    network = load_network(path)
    try:
        facts = json.loads((path.parent / "run.json").read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or not facts.keys() >= {"config", "samples", "files"}:
            raise ValueError("not a run's")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.parent / 'run.json'} is damaged ({error})") from error
    return network, facts


def has_network(id_: str, settings: Settings) -> bool:
    """Whether an experiment's network is there, and whole."""
    try:
        load_run(id_, settings)
    except (OSError, ValueError):
        return False
    return True


def _state_of_run(experiment: Experiment, settings: Settings) -> tuple[str, str]:
    """How far an experiment without a record is."""
    if experiment.measures:
        return "missing", ""
    folder = settings.network(experiment.id).parent
    if settings.network(experiment.id).exists():
        return "trained", "not measured"
    logs = [log.read_text().splitlines()[-1:] for log in folder.rglob("log.csv")]
    steps = sum(int(line[0].split(",")[0]) for line in logs if line and line[0].split(",")[0].isdigit())
    if any(folder.rglob("checkpoint.pt")):
        return "begun", f"about step {steps} of {settings.config(experiment).steps}"
    return "missing", ""


def comparable(config: dict) -> dict:
    """A configuration without the number of bank entries, which follows from the number of images."""
    return {key: value for key, value in config.items() if key != "entries_per_image"}
