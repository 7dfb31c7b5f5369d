"""``python -m dpo_lib experiments``: list, run, show how far they are, and collect the tables.

    python -m dpo_lib experiments list                            # what there is
    python -m dpo_lib experiments run table1/l0 --images DIR      # train and measure what is missing
    python -m dpo_lib experiments status                          # what is finished
    python -m dpo_lib experiments collect                         # a CSV per table, the paper's numbers beside ours

``docs/cluster.md`` is about many machines.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..experiments.catalogue import EXPERIMENTS, find
from ..experiments.collect import collect
from ..experiments.run import BUSY, STOPPED
from ..experiments.schedule import FAILED, run_at_once, run_here, to_do
from ..experiments.store import FINISHED, LARGER, Settings, has_network, state_of
from ..records import device_name, output_folder
from ..training.config import SCALES, Phase


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib experiments``: 0 if all is finished, 1 after a failure, 2 if nothing could be run, 3 if the
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
        print("nothing is finished yet: python -m dpo_lib experiments run")
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
    parser = argparse.ArgumentParser(prog="python -m dpo_lib experiments", description="The paper's tables, as runs.")
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
