"""Several experiments: what is missing, in which order, one after the other or several processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm.auto import tqdm

from ..files import writable_folder
from .catalogue import EXPERIMENTS, Experiment
from .run import STOPPED, TrainingImages, run
from .store import FINISHED, LARGER, Settings, has_network, state_of

FAILED = "failed"
POLL_S = 0.5


def dependencies(experiment: Experiment) -> tuple[str, ...]:
    """Ids whose networks have to be there first."""
    return (experiment.same_as,) if experiment.same_as else experiment.needs


def to_do(chosen: Sequence[Experiment], settings: Settings, *, again: bool = False) -> list[Experiment]:
    """What of the chosen is missing, and what that needs, networks first.

    Damaged records and networks are named, and count as missing.
    """
    found: dict[str, Experiment] = {}
    for experiment in chosen:
        state, detail = state_of(experiment, settings)
        if state == "damaged":
            print(f"{experiment.id}: {detail}: it is run again", flush=True)
        if state == LARGER:
            print(f"{experiment.id}: kept, its record has {detail}", flush=True)
        elif again or state != FINISHED:
            needed = [id_ for id_ in dependencies(experiment) if not has_network(id_, settings)]
            found.update({id_: EXPERIMENTS[id_] for id_ in needed})
            found[experiment.id] = experiment
    return sorted(found.values(), key=lambda experiment: bool(dependencies(experiment)))


@dataclass
class Schedule:
    """What is waiting, and what came of the rest."""

    waiting: list[Experiment]
    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def next(self, settings: Settings, running: Sequence[str] = ()) -> Experiment | None:
        """Take out the next one whose networks are there; those whose networks failed are given up."""
        for experiment in list(self.waiting):
            needs = [id_ for id_ in dependencies(experiment) if not has_network(id_, settings)]
            if not needs:
                self.waiting.remove(experiment)
                return experiment
            coming = {*running, *(other.id for other in self.waiting)}
            if lost := [id_ for id_ in needs if id_ not in coming]:
                self.waiting.remove(experiment)
                state = self.outcomes.get(lost[0], (FAILED, ""))[0]
                self.outcomes[experiment.id] = (state, f"needs the network of {lost[0]}")
        return None


def run_here(todo: Sequence[Experiment], settings: Settings, *, deadline: float | None) -> dict[str, tuple[str, str]]:
    """One after the other in this process; gives what came of each."""
    schedule, images = Schedule(list(todo)), TrainingImages(settings.images)
    while deadline is None or time.monotonic() < deadline:
        experiment = schedule.next(settings)
        if experiment is None:
            break
        number = len(todo) - len(schedule.waiting)
        print(f"[{number}/{len(todo)}] {experiment.id}: begun", flush=True)
        start = time.monotonic()
        try:
            state, detail = run(experiment, settings, images, deadline=deadline)
        except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
            state, detail = FAILED, str(error)
        schedule.outcomes[experiment.id] = (state, detail)
        print(f"{experiment.id}: {state}, {detail} ({time.monotonic() - start:.0f} s)", flush=True)
    left = dict.fromkeys([experiment.id for experiment in schedule.waiting], (STOPPED, "not begun"))
    return schedule.outcomes | left


def run_at_once(
    todo: Sequence[Experiment], settings: Settings, *, jobs: int, deadline: float | None, words: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Up to `jobs` processes at once, each with one experiment; what they print goes to its ``output.log``.

    `words` are the options that they are started with, apart from the id and the minutes.
    """
    schedule, running = Schedule(list(todo)), {}
    bar = tqdm(total=len(todo), unit="run")
    try:
        while True:
            ended = [id_ for id_, (process, _) in running.items() if process.poll() is not None]
            for id_ in ended:
                process, log = running.pop(id_)
                schedule.outcomes[id_] = outcome = _outcome_of(EXPERIMENTS[id_], settings, process.returncode, log)
                bar.write(f"{id_}: {outcome[0]}, {outcome[1]}")
            if ended or not running:
                _start_more(schedule, running, settings, jobs, deadline, words)
            if not running:
                break
            bar.n = len(schedule.outcomes)
            bar.set_postfix_str(", ".join(f"{id_} {_step(id_, settings)}" for id_ in running))
            time.sleep(POLL_S)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.wait()
        bar.close()
    left = dict.fromkeys([experiment.id for experiment in schedule.waiting], (STOPPED, "not begun"))
    return schedule.outcomes | left


def _step(id_: str, settings: Settings) -> str:
    """How far a training that is going on has come, by its log."""
    log = settings.run_folder(id_) / "log.csv"
    last = log.read_text().splitlines()[-1].split(",")[0] if log.exists() and log.stat().st_size else ""
    return f"{last}/{settings.config(EXPERIMENTS[id_]).steps}" if last.isdigit() else ""


def _start_more(schedule: Schedule, running: dict, settings: Settings, jobs: int, deadline, words) -> None:
    """Start processes until `jobs` are running; they share the processor's cores."""
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    while len(running) < jobs and (deadline is None or time.monotonic() < deadline):
        experiment = schedule.next(settings, tuple(running))
        if experiment is None:
            return
        log = writable_folder(settings.run_folder(experiment.id)) / "output.log"
        minutes = [] if deadline is None else ["--minutes", f"{max(0.0, deadline - time.monotonic()) / 60:.4f}"]
        command = [sys.executable, "-m", "dpo_lib", "experiments", "run", experiment.id, *words, "--again", *minutes]
        with open(log, "w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": threads}
            )
        running[experiment.id] = (process, log)


def _outcome_of(experiment, settings: Settings, code: int, log: Path) -> tuple[str, str]:
    """What came of a process."""
    state, detail = state_of(experiment, settings)
    if code == 0 and state in (FINISHED, LARGER):
        return state, detail
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith((experiment.id, "error:"))), f"exit code {code}")
    return (STOPPED if code == 3 else FAILED), said.removeprefix(f"{experiment.id}: ") + f" (see {log})"
