"""Several experiments: what is missing, in which order, and what came of each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..files import writable_folder
from ..models.pretrained import load_network
from ..records import device_name, provenance, write_json
from ..training.config import TrainConfig
from .catalogue import EXPERIMENTS, Entry, Experiment
from .run import Data, OutOfTimeError, run
from .store import Outcome, State, Store, has_network


@dataclass(frozen=True)
class Schedule:
    """Runs experiments of one scale and seed."""

    store: Store
    data: Data
    device: str = "cpu"
    overrides: dict = field(default_factory=dict)  # of the scale's settings, see `Experiment.config`
    initial: str | None = None  # see `run`
    deadline: float | None = None  # of `time.monotonic`
    jobs: int = 1  # processes that compute operators' answers
    progress: bool = True

    def config(self, entry: Entry) -> TrainConfig:
        """An experiment's settings."""
        return entry.config(self.store.scale, seed=self.store.seed, **self.overrides)

    def state(self, entry: Entry) -> Outcome:
        """How far an experiment is."""
        return self.store.state(entry, self.config(entry))

    def to_do(self, chosen: Sequence[Entry], *, again: bool = False) -> list[Entry]:
        """What of the chosen is missing, and what that needs, networks first.

        Damaged records and networks are named, and count as missing.
        """
        found: dict[str, Entry] = {}
        for entry in chosen:
            state, detail = self.state(entry)
            if state == State.DAMAGED:
                print(f"{entry.id}: {detail}: it is run again", flush=True)
            if state == State.LARGER:
                print(f"{entry.id}: kept, its record has {detail}", flush=True)
            elif again or state != State.FINISHED:
                found.update({id_: EXPERIMENTS[id_] for id_ in self._missing(entry)})
                found[entry.id] = entry
        return sorted(found.values(), key=lambda entry: bool(entry.needs))

    def run_all(self, todo: Sequence[Entry]) -> dict[str, Outcome]:
        """Run what `to_do` names, one after the other; gives what came of each."""
        outcomes: dict[str, Outcome] = {}
        for number, entry in enumerate(todo, start=1):
            if missing := self._missing(entry):
                state = outcomes[missing[0]].state if missing[0] in outcomes else State.FAILED
                outcomes[entry.id] = Outcome(state, f"needs the network of {missing[0]}")
                continue
            if self.deadline is not None and time.monotonic() >= self.deadline:
                outcomes[entry.id] = Outcome(State.STOPPED, "not begun")
                continue
            print(f"[{number}/{len(todo)}] {entry.id}: begun", flush=True)
            start = time.monotonic()
            try:
                outcomes[entry.id] = self.run(entry)
            except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
                outcomes[entry.id] = Outcome(State.FAILED, str(error))
            print(f"{entry.id}: {outcomes[entry.id]} ({time.monotonic() - start:.0f} s)", flush=True)
        return outcomes

    def run(self, entry: Entry) -> Outcome:
        """Run one experiment in this process, and write its record."""
        with _locked(writable_folder(self.store.folder(entry.id))) as is_ours:
            if not is_ours:
                return Outcome(State.BUSY, "another process is at it")
            state, detail = self.state(entry)
            if state == State.LARGER:
                return Outcome(state, detail)
            config, mean = self.config(entry), ""
            try:
                if isinstance(entry, Experiment):
                    facts = run(
                        entry, config, self.store.network_folder(entry.id), self.data, device=self.device,
                        targets=self.store.out / "runs" / "targets", jobs=self.jobs, initial=self.initial,
                        deadline=self.deadline, progress=self.progress,
                    )  # fmt: skip
                    mean = f", {np.mean([row['psnr_db'] for row in facts['rows']]):.2f} dB on average"
                else:
                    networks = [load_network(self.store.folder(id_) / "network.safetensors") for id_ in entry.needs]
                    facts = provenance(
                        id=entry.id, scale=config.scale, seed=config.seed, config=asdict(config), samples=0,
                        finished=True, device=device_name(self.device), files=[],
                        rows=entry.measure(networks, config, self.device),
                    )  # fmt: skip
            except OutOfTimeError as error:
                return Outcome(State.STOPPED, str(error))
            write_json(self.store.record(entry.id), {**facts, "networks": self.store.hashes(entry)})
        return Outcome(State.FINISHED, f"{len(facts['rows'])} rows{mean}")

    def _missing(self, entry: Entry) -> list[str]:
        """The networks that it needs and that are not there, or damaged."""
        return [id_ for id_ in entry.needs if not has_network(self.store.folder(id_))]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether no other process is at work in a folder; holds it meanwhile, where the system can."""
    with open(folder / "lock", "w") as file:
        is_ours = True
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass
        except OSError:
            is_ours = False
        yield is_ours
