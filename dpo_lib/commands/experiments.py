"""``python -m dpo_lib experiments``: list, run, show how far they are, and collect the tables.

    python -m dpo_lib experiments list                            # what there is
    python -m dpo_lib experiments run table1/l0 --images DIR      # train and measure what is missing
    python -m dpo_lib experiments status                          # what is finished
    python -m dpo_lib experiments collect                         # a CSV per table, the paper's numbers beside ours

``docs/cluster.md`` is about many machines.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..experiments.catalogue import Experiment, find
from ..experiments.collect import collect
from ..experiments.run import Data
from ..experiments.schedule import Schedule
from ..experiments.store import State, Store, has_network
from ..records import device_name, project_folder
from ..training.config import SCALES, Phase
from .parser import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib experiments``: 0 if all is finished, 1 after a failure, 2 if nothing could be run, 3 if the
    time limit was reached (the same command continues).
    """
    given = _parser().parse_args(arguments)
    try:
        return given.command(given)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        return 130


def _list(given) -> int:
    chosen = find(given.ids or ["*"])
    if given.networks:
        print("\n".join(entry.id for entry in chosen if entry.trains))
        return 0
    for entry in chosen:
        changes = ""
        if isinstance(entry, Experiment):
            what = f"the network of {entry.same_as}" if entry.same_as else "+".join(entry.operators)
            own = entry.network if entry.values is None else {**entry.network, "values": entry.values}
            changes = ", ".join(f"{key}={value}" for key, value in own.items())
        else:
            what = f"{entry.measure.__name__}, of {', '.join(entry.needs) or 'untrained networks'}"
        fills = ", ".join(f"{table}: {network}" if network else table for table, network in entry.fills)
        print(f"{entry.id:34s} {what}{f' ({changes})' if changes else ''} -> {fills}")
    return 0


def _status(given) -> int:
    for store in _stores(given):
        schedule = Schedule(store, Data())
        states = {entry.id: schedule.state(entry) for entry in find(given.ids or ["*"])}
        for id_, (state, detail) in states.items():
            if given.scale or state != State.MISSING:
                print(f"{store.scale}  {id_:34s} {state.value}{f': {detail}' if detail else ''}")
        print(f"{store.scale}: {sum(state.is_done for state, _ in states.values())} of {len(states)} finished")
    return 0


def _run(given) -> int:
    deadline = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    if given.jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {given.jobs}")
    device_name(given.device)  # an unknown device is said before anything is done
    [store] = _stores(given)
    limit = given.test_images or (1 if given.scale == "smoke" else None)
    schedule = Schedule(
        store,
        Data(tuple(given.images), tests=given.tests, rain=given.rain, limit=limit),
        device=given.device,
        overrides={"steps": given.steps, "bank_size": given.bank_size, "phases": tuple(given.phases) or None},
        initial=given.initial,
        deadline=deadline,
        jobs=torch.get_num_threads(),
    )
    chosen = find(given.ids)
    todo = schedule.to_do(chosen, again=given.again)
    print(f"{len(todo)} to run ({len(chosen)} chosen), scale {given.scale}, on {given.device}", flush=True)
    if any(entry.trains and not has_network(store.folder(entry.id)) for entry in todo) and not given.images:
        raise ValueError("training needs images: name their folders with --images")
    networks = [entry.id for entry in todo if entry.trains]
    codes = _run_at_once(given, networks, deadline) if given.jobs > 1 and len(networks) > 1 else set()
    outcomes = schedule.run_all([entry for entry in todo if not (codes and entry.trains)])
    for state in (State.STOPPED, State.BUSY, State.FAILED):
        ids = [id_ for id_, outcome in outcomes.items() if outcome.state == state]
        if ids:
            print(f"{state.value}: {', '.join(ids)}", flush=True)
    states = {outcome.state for outcome in outcomes.values()}
    if State.FAILED in states or codes - {0, 3}:
        return 1
    return 3 if states & {State.STOPPED, State.BUSY} or 3 in codes else 0


def _collect(given) -> int:
    written = [path for store in _stores(given) for path in collect(store)]
    lines = [f"wrote {path}" for path in written] or ["nothing is finished yet: python -m dpo_lib experiments run"]
    print("\n".join(lines))
    return 0


def _run_at_once(given, ids: Sequence[str], deadline: float | None) -> set[int]:
    """Deal experiments out to processes, which share the processor's cores; gives their exit codes."""
    words = ["--again"]  # what is to be run has been decided
    for action in given.to_pass_on:
        value = getattr(given, action.dest)
        if value != action.default:
            words += [action.option_strings[0], *map(str, value if isinstance(value, list) else [value])]
    if deadline is not None:
        words += ["--minutes", f"{max(0.0, deadline - time.monotonic()) / 60:.4f}"]
    threads = str(max(1, (os.cpu_count() or 1) // given.jobs))
    environment = {"OMP_NUM_THREADS": threads, **os.environ, "TQDM_DISABLE": "1"}
    command, count = [sys.executable, "-m", "dpo_lib", "experiments", "run"], min(given.jobs, len(ids))
    processes = [subprocess.Popen([*command, *ids[k::count], *words], env=environment) for k in range(count)]
    try:
        return {process.wait() for process in processes}
    finally:
        for process in processes:
            process.terminate()  # those that have ended do not mind


def _stores(given) -> list[Store]:
    """Of the chosen scale, or of all."""
    out = Path(given.out) if given.out else project_folder()
    return [Store(out, scale, given.seed) for scale in ([given.scale] if given.scale else SCALES)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m dpo_lib experiments", description="The paper's tables, as runs.")
    commands = parser.add_subparsers(required=True, metavar="list | run | status | collect")

    place = argparse.ArgumentParser(add_help=False)
    to_pass_on = [
        place.add_argument("--out", help="folder that holds runs/ and results/ (default: the checkout)"),
        place.add_argument("--seed", type=int, default=0),
    ]

    def command(function, about: str, ids: str | None, parents=(place,)):
        added = commands.add_parser(function.__name__[1:], help=about, parents=parents)
        added.set_defaults(command=function)
        if ids:
            about = "an id, the beginning of ids (table1/l0), or a pattern ('*/wls/*')"
            added.add_argument("ids", nargs=ids, metavar="ID", help=about)
        return added.add_argument

    add = command(_list, "the experiments", "*", parents=())
    add("--networks", action="store_true", help="only the ids of what is trained, one a line")
    add = command(_status, "what is finished", "*")
    add("--scale", choices=SCALES, help="only this one, missing experiments as well")
    add = command(_collect, "one CSV per table", None)
    add("--scale", choices=SCALES, help="only this one")
    add = command(_run, "train and measure what is missing", "+")
    to_pass_on += [
        add("--images", nargs="+", default=[], metavar="DIR", help="folders of training photographs"),
        add("--tests", metavar="DIR", help="test images, or a folder of sets by name (default: scikit-image's)"),
        add("--rain", metavar="DIR", help="folder of rain pairs with pairs.csv (default: synthetic rain)"),
        add("--scale", choices=SCALES, default="laptop", help="budget (default: laptop)"),
        add("--device", default="cuda" if torch.cuda.is_available() else "cpu"),
        add("--steps", type=int, help="optimiser steps, in place of the scale's"),
        add("--test-images", type=int, metavar="N", help="only the first N of each test set"),
        add("--bank-size", type=int, metavar="N", help="at most so many training targets at a time"),
        add(
            "--phases", type=Phase.from_text, nargs="+", default=[], metavar="SHARE,SHRINK,CROP,BATCH",
            help="image sizes and batches in order, in place of the scale's",
        ),
        add("--initial", metavar="NETWORK", help="begin with its base network: a pretrained name or a file"),
    ]  # fmt: skip
    add("--minutes", type=float, help="stop cleanly after so long; the same command continues")
    add("--jobs", type=int, default=1, help="so many at once, for small networks on one GPU (default: 1)")
    add("--again", action="store_true", help="measure again what is finished, say on other test images")
    parser.set_defaults(to_pass_on=to_pass_on)
    return parser
