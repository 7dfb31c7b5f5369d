"""The command ``python -m dpo_lib.experiments``: list, run, show how far they are, and collect the tables."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm.auto import tqdm

from .experiments import EXPERIMENTS, Experiment, find
from .files import writable_folder
from .records import device_name, output_folder
from .run_files import FINISHED, LARGER, Settings, has_network, state_of
from .runs import BUSY, STOPPED, TrainingImages, run
from .tables import collect
from .training.config import SCALES, Phase

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
        command = [sys.executable, "-m", "dpo_lib.experiments", "run", experiment.id, *words, "--again", *minutes]
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


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib.experiments``: 0 if all is finished, 1 after a failure, 2 if nothing could be run, 3 if the
    minutes were over (the same command goes on).
    """
    given = _parser().parse_args(arguments)
    try:
        return given.command(given)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command goes on", file=sys.stderr)
        return 130


def _list(given) -> int:
    chosen = find(given.ids) if given.ids else EXPERIMENTS.values()
    if given.networks:
        print("\n".join(experiment.id for experiment in chosen if experiment.trains))
        return 0
    for experiment in chosen:
        what = f"the network of {experiment.same_as}" if experiment.same_as else "+".join(experiment.operators)
        if experiment.measures:
            what = f"{experiment.measures}, of {', '.join(experiment.needs) or 'untrained networks'}"
        changes = ", ".join(f"{key}={value}" for key, value in experiment.changes.items())
        fills = ", ".join(f"{table}: {network}" if network else table for table, network in experiment.fills)
        print(f"{experiment.id:34s} {what}{f' ({changes})' if changes else ''} -> {fills}")
    return 0


def _status(given) -> int:
    chosen = find(given.ids) if given.ids else list(EXPERIMENTS.values())
    for scale in [given.scale] if given.scale else SCALES:
        settings = Settings(out=_out(given), scale=scale, seed=given.seed)
        states = {experiment.id: state_of(experiment, settings) for experiment in chosen}
        for id_, (state, detail) in states.items():
            if given.scale or state != "missing":
                print(f"{scale}  {id_:34s} {state}{f': {detail}' if detail else ''}")
        finished = sum(state in (FINISHED, LARGER) for state, _ in states.values())
        print(f"{scale}: {finished} of {len(states)} finished")
    return 0


def _run(given) -> int:
    deadline = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    settings = Settings(
        out=_out(given),
        scale=given.scale,
        seed=given.seed,
        device=given.device,
        images=tuple(given.images),
        tests=given.tests,
        rain=given.rain,
        steps=given.steps,
        test_images=given.test_images,
        bank_size=given.bank_size,
        phases=tuple(given.phases) or None,
        initial=given.initial,
    )
    if given.jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {given.jobs}")
    device_name(given.device)  # an unknown device is said before anything is done
    chosen = find(given.ids)
    todo = to_do(chosen, settings, again=given.again)
    print(f"{len(todo)} to run ({len(chosen)} chosen), scale {given.scale}, on {given.device}", flush=True)
    if any(e.trains and not has_network(e.id, settings) for e in todo) and not given.images:
        raise ValueError("training needs images: name their folders with --images")
    # times are measured at the end, alone
    together = [e for e in todo if e.measures != "times"] if given.jobs > 1 else []
    outcomes = {}
    if together:
        outcomes = run_at_once(together, settings, jobs=given.jobs, deadline=deadline, words=_words(given))
    outcomes |= run_here([e for e in todo if e not in together], settings, deadline=deadline)
    for word in (STOPPED, BUSY, FAILED):
        ids = [id_ for id_, (state, _) in outcomes.items() if state == word]
        if ids:
            print(f"{word}: {', '.join(ids)}", flush=True)
    states = {state for state, _ in outcomes.values()}
    return 1 if FAILED in states else 3 if states & {STOPPED, BUSY} else 0


def _collect(given) -> int:
    written = []
    for scale in [given.scale] if given.scale else SCALES:
        written += collect(Settings(out=_out(given), scale=scale, seed=given.seed))
    for path in written:
        print(f"wrote {path}")
    if not written:
        print("nothing is finished yet: python -m dpo_lib.experiments run")
    return 0


def _words(given) -> list[str]:
    """The options of a run as they were given, for the processes that do it."""
    words, names = [], ("images", "tests", "rain", "scale", "device", "seed", "steps", "test_images", "out")
    for name in (*names, "bank_size", "phases", "initial"):
        value = getattr(given, name)
        if value not in (None, []):
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return words


def _out(given) -> Path:
    return Path(given.out) if given.out else output_folder()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m dpo_lib.experiments", description="The paper's tables, as runs.")
    commands = parser.add_subparsers(required=True, metavar="list | run | status | collect")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--seed", type=int, default=0)
    shared.add_argument("--out", help="folder that holds runs/ and results/ (default: the checkout)")
    ids = {"metavar": "ID", "help": "an id, the beginning of ids (table1/l0), or a pattern ('*/wls/*')"}

    def command(name: str, function, about: str, parents=(shared,)):
        added = commands.add_parser(name, help=about, parents=parents)
        added.set_defaults(command=function)
        return added.add_argument

    add = command("list", _list, "the experiments", parents=())
    add("ids", nargs="*", **ids)
    add("--networks", action="store_true", help="only the ids of what is trained, one a line")

    add = command("status", _status, "what is finished")
    add("ids", nargs="*", **ids)
    add("--scale", choices=SCALES, help="only this one, missing experiments as well")

    add = command("run", _run, "train and measure what is missing")
    add("ids", nargs="+", **ids)
    add("--images", nargs="+", default=[], metavar="DIR", help="folders of training photographs")
    add("--tests", metavar="DIR", help="test images, or a folder of sets by name (default: scikit-image's photographs)")
    add("--rain", metavar="DIR", help="folder of rain pairs with pairs.csv (default: synthetic rain)")
    add("--scale", choices=SCALES, default="cpu", help="budget (default: cpu)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--minutes", type=float, help="stop cleanly after so long; the same command goes on")
    add("--jobs", type=int, default=1, help="so many at once, for small networks on one GPU (default: 1)")
    add("--steps", type=int, help="optimiser steps, in place of the scale's")
    add("--test-images", type=int, metavar="N", help="only the first N of each test set")
    add("--bank-size", type=int, metavar="N", help="at most so many training targets at a time, for slow operators")
    add(
        "--phases", type=Phase.from_text, nargs="+", default=[], metavar="SHARE,SHRINK,CROP,BATCH",
        help="image sizes and batches in order, in place of the scale's",
    )  # fmt: skip
    add("--initial", metavar="NETWORK", help="begin with its base network: a pretrained name or a .safetensors file")
    add("--again", action="store_true", help="measure again what is finished, say on other test images")

    add = command("collect", _collect, "one CSV per table")
    add("--scale", choices=SCALES, help="only this one")
    return parser
