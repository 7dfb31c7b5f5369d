"""From experiments to records: train what is not there, measure it; both continue where they were stopped."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
import warnings
from collections.abc import Callable, Sequence, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from ..data.rain import rain_of_pairs
from ..data.sources import image_files, named_images
from ..data.test_sets import usual_sets
from ..evaluation import evaluate, summarise
from ..files import locked, sha256_of
from ..models.parameterized import ParameterizedNetwork
from ..models.pretrained import load_any, load_network
from ..models.transfer import base_at_mid_range
from ..operators.operator import Operators, as_operators
from ..parameters import Value
from ..processes import child_processes
from ..progress import log
from ..records import device_name, output_folder, project_folder, provenance, read_json, write_json, write_rows
from ..text import duration
from ..training.card import described, save_run
from ..training.config import TrainConfig
from ..training.trainers import train
from .catalogue import EXPERIMENTS, Entry, Experiment
from .store import State, Store, comparable


@dataclass(frozen=True)
class Runner:
    """Runs experiments of one scale and seed.

    Parameters
    ----------
    store : Store
    images : tuple of str
        Folders of training images.
    tests, rain : str, optional
        Folders of test images and of rain pairs, see `data.test_sets.usual_sets`.
    limit : int, optional
        Only the first so many images of each test set.
    device : str
    overrides : dict
        In place of the scale's settings, see `Experiment.config`.
    initial : str, optional
        Begin with the base network of this one, see `base_at_mid_range`: a pretrained name, or a ``.safetensors`` file.
    deadline : float, optional
        Of `time.monotonic`: when to stop.
    progress : bool
    """

    store: Store
    images: tuple[str, ...] = ()
    tests: str | None = None
    rain: str | None = None
    limit: int | None = None
    device: str = "cpu"
    overrides: dict = field(default_factory=dict)
    initial: str | None = None
    deadline: float | None = None
    progress: bool = True

    @property
    def targets(self) -> Path:
        """Folder of the operators' answers, for all scales and seeds."""
        return self.store.out / "runs" / "targets"

    def config(self, entry: Entry) -> TrainConfig:
        """An experiment's settings."""
        return entry.config(self.store.scale, seed=self.store.seed, **self.overrides)

    def state(self, entry: Entry) -> tuple[State, str]:
        """How far an experiment is, and what else there is to say."""
        return self.store.state(entry, self.config(entry))

    def run_all(self, entries: Sequence[Entry], *, jobs: int = 1) -> dict[str, State]:
        """Run experiments, those with a network of their own `jobs` at once; gives what came of each.

        What failed beside others, for lack of memory perhaps, is tried once more alone.
        """
        if not self.images and not all(self.store.has_networks(entry) for entry in entries):
            raise ValueError("training needs images: name their folders with --images")
        apart = [entry for entry in entries if jobs > 1 and entry.trains]
        start = time.monotonic()
        outcomes: dict[str, State] = {}

        def note(entry: Entry, state: State) -> None:
            outcomes[entry.id] = state
            left = (time.monotonic() - start) / len(outcomes) * (len(entries) - len(outcomes))
            log.info("%d of %d done, at this pace %s to go", len(outcomes), len(entries), duration(left))

        with child_processes(jobs, threads=max(1, torch.get_num_threads() // jobs)) as pool:
            for entry, state in zip(apart, pool.map(replace(self, progress=False).run, apart), strict=True):
                note(entry, state)
        for entry in entries:
            if outcomes.get(entry.id, State.FAILED) == State.FAILED:
                note(entry, self.run(entry))
        return outcomes

    def run(self, entry: Entry) -> State:
        """Run one experiment, write its record, and say what came of it."""
        start, state = time.monotonic(), State.FAILED
        log.info("%s: begun", entry.id)
        try:
            self._check_time("not begun")
            with contextlib.ExitStack() as held:
                for id_ in entry.networks:
                    held.enter_context(locked(self.store.folder(id_)))
                record = self._record(entry)
                write_json(self.store.record(entry.id), record)
            state, detail = State.FINISHED, f"{len(record['rows'])} rows"
        except (TimeoutError, BlockingIOError) as error:
            state, detail = State.STOPPED, str(error)
        except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
            detail = str(error)
        level = logging.WARNING if state == State.FAILED else logging.INFO
        log.log(level, "%s: %s, %s (%.0f s)", entry.id, state.value, detail, time.monotonic() - start)
        return state

    def _record(self, entry: Entry) -> dict:
        """What its record says; networks that are not there are trained."""
        networks = [self._network(EXPERIMENTS[id_]) for id_ in entry.networks]
        if isinstance(entry, Experiment):
            return self._measure(entry, *networks)
        config = self.config(entry)
        return provenance(
            id=entry.id, scale=config.scale, seed=config.seed, config=asdict(config), samples=0,
            device=device_name(self.device), rows=entry.measure(networks, config, self.device),
        )  # fmt: skip

    def _network(self, experiment: Experiment) -> ParameterizedNetwork:
        """An experiment's network, which is trained if it is not there. One of other settings is refused."""
        config, path = self.config(experiment), self.store.network(experiment.id)
        initial = None if self.initial is None else load_any(self.initial)
        if not path.exists():
            self._train(experiment, config, path.parent, initial)
        network = load_network(path)
        begun, wanted = network.card.get("initial", {}).get("name"), initial and described(initial)["name"]
        if comparable(network.card["config"]) != comparable(config) or begun != wanted:
            raise ValueError(f"{path.parent} holds a run with other settings: move it away to train anew")
        return network

    def _train(self, experiment: Experiment, config: TrainConfig, folder: Path, initial: ParameterizedNetwork | None):
        images, files = training_images(self.images)
        rain = None if "derain" not in experiment.operators else "of pairs" if self.rain else "synthetic"
        operators = experiment.training_operators(rain_of_pairs(self.rain) if rain == "of pairs" else None)
        config = _with_entries(config, operators, images)
        result = train(
            operators, images, config, out=folder, device=self.device, progress=self.progress,
            minutes=None if self.deadline is None else (self.deadline - time.monotonic()) / 60,
            initial=None if initial is None else base_at_mid_range(initial),
            targets=self.targets, jobs=torch.get_num_threads(),
        )  # fmt: skip
        if not result.finished:
            raise TimeoutError(f"step {result.steps} of {config.steps}")
        facts = {"id": experiment.id, "name": experiment.id.replace("/", "-"), "initial": initial}
        save_run(folder, result, config, files=files, images=len(images), rain=rain, **facts)

    def _measure(self, experiment: Experiment, network: ParameterizedNetwork) -> dict:
        """Measure a network at an experiment's tests; gives the record.

        Rows are kept beside the network: what was measured before the deadline, after which no value is begun, or for
        another experiment with this network, is not measured again.
        """
        sets = usual_sets((test.operator for test in experiment.tests), self.tests, rain=self.rain, limit=self.limit)
        folder = self.store.folder(*experiment.networks)
        kept = folder / "measured.json"
        shown = {name: [*images.images, *images.files] for name, images in sets.items()}
        made_by = {"network": sha256_of(folder / "network.safetensors"), "sets": shown}
        try:
            found = read_json(kept) if kept.exists() else {}
        except ValueError as error:
            found = {}
            warnings.warn(f"{error}: it is measured again", stacklevel=2)
        measured = found["rows"] if found.get("facts") == made_by else {}
        tables, network = [], network.to(self.device)
        for operator, values, told in experiment.tests:
            for value in values:
                key = f"{operator} {value} {told}"
                if key not in measured:
                    self._check_time("trained, not measured to the end")
                    rows = evaluate(
                        told_otherwise(network, operator, told) if told else network, experiment.operator(operator),
                        sets[operator].images, values=(value,), check_range=experiment.trained_range is None,
                        device=self.device, seed=self.store.seed, targets=self.targets, progress=self.progress,
                    )  # fmt: skip
                    more = {"value": value, "told": told, "test_set": sets[operator].name}
                    measured[key] = [{**row, **more} for row in rows]
                    write_json(kept, {"facts": made_by, "rows": measured})
                tables.append(measured[key])
        write_rows(self.store.rows(experiment.id), [row for rows in tables for row in rows])
        return {
            **read_json(folder / "run.json"),
            **provenance(id=experiment.id, seed=self.store.seed, same_as=experiment.same_as),
            "trained": {key: network.card[key] for key in ("date", "commit")},
            "measured_on": {
                images.name: {"name": images.name, "images": len(images.images), "files": images.files}
                for images in sets.values()
            },
            "rows": [_summary(rows) for rows in tables],
        }

    def _check_time(self, otherwise: str) -> None:
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise TimeoutError(otherwise)


def trained_network(
    name: str, operators: Operators, images: Sequence[np.ndarray], config: TrainConfig, *, device: str = "cpu"
) -> ParameterizedNetwork:
    """A notebook's network: an experiment's, if that was trained in this checkout, or one trained now on `images`.

    Parameters
    ----------
    name : str
        The experiment's id, or the operator's name. Trainings are kept in output/runs, where a stopped one resumes.
    operators, images, config, device
        See `training.train`.
    """
    store = Store(project_folder(), config.scale, config.seed)
    single = {e.tests[0].operator: id_ for id_, e in EXPERIMENTS.items() if ("table3", "1 operator") in e.fills}
    id_ = single.get(name, name)
    if id_ in EXPERIMENTS and (path := store.network(EXPERIMENTS[id_].networks[0])).exists():
        print(f"the network of the experiment {id_}, scale {store.name}")
        return load_network(path, device=device)
    config, run = _with_entries(config, as_operators(operators), images), output_folder() / "runs" / store.name / id_
    return train(operators, images, config, out=run, device=device).network


def _with_entries(config: TrainConfig, operators: Sized, images: Sized) -> TrainConfig:
    """With so many targets an image that every operator has at least one."""
    return replace(config, entries_per_image=max(config.entries_per_image, -(-len(operators) // len(images))))


def told_otherwise(network: ParameterizedNetwork, operator: str, told: str) -> Callable[..., torch.Tensor]:
    """A joint network for one of its operators, which is told the name of another one."""
    gamma_code = network.gamma_code

    def answer(image: torch.Tensor, value: Value, *, check_range: bool = True) -> torch.Tensor:
        code = gamma_code(value, operator=operator, batch=len(image), check_range=check_range)
        wrong = gamma_code.table[gamma_code.index(told)].expand(len(image), -1)
        return network.answer(image, torch.cat([wrong, code[:, wrong.shape[1] :]], dim=1))

    return answer


@functools.lru_cache(maxsize=1)
def training_images(folders: tuple[str, ...]) -> tuple[list[np.ndarray], list[dict]]:
    """Training images, and their names and hashes; read once for all experiments of a process."""
    images, files = named_images([file for folder in folders for file in image_files(folder)])
    return list(images.values()), files


def _summary(rows: list[dict]) -> dict:
    """A record's row: the mean over the images."""
    facts = {key: rows[0][key] for key in ("operator", "value", "told", "test_set")}
    return facts | {key: round(number, 4) for key, number in summarise(rows)[-1].items() if key != "value"}
