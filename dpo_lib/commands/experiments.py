"""``python -m dpo_lib experiments``: list, run, show how far they are, and collect the tables.

    python -m dpo_lib experiments list                            # what there is
    python -m dpo_lib experiments run table1/l0 --images DIR      # train and measure what is missing
    python -m dpo_lib experiments status                          # what is finished
    python -m dpo_lib experiments collect                         # a CSV per table, the paper's numbers beside ours
    python -m dpo_lib experiments check --tests DIR               # some of their cells computed again

``docs/cluster.md`` is about many machines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..experiments.catalogue import Experiment, find, with_owners
from ..experiments.check import check
from ..experiments.collect import collect
from ..experiments.run import Runner
from ..experiments.store import State, Store
from ..progress import log
from ..records import device_name, project_folder
from ..training.config import SCALES, Phase
from .parser import Parser, add_quiet, command


@command()
def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib experiments``: 0 if all is finished, 1 after a failure, 2 if nothing could be run, 3 if the
    time limit was reached (the same command continues).
    """
    given = _parser().parse_args(arguments)
    return given.command(given)


def _list(given) -> int:
    chosen = find(given.ids or ["*"])
    if given.networks:
        print("\n".join(entry.id for entry in chosen if entry.trains))
        return 0
    for entry in chosen:
        if isinstance(entry, Experiment):
            what = f"the network of {entry.same_as}" if entry.same_as else "+".join(entry.operators)
            changes = entry.network | ({} if entry.values is None else {"values": entry.values})
            what += f" ({', '.join(f'{key}={value}' for key, value in changes.items())})" if changes else ""
        else:
            what = f"{entry.measure.__name__}, of {', '.join(entry.networks) or 'untrained networks'}"
        fills = ", ".join(f"{table}: {network}" if network else table for table, network in entry.fills)
        print(f"{entry.id:34s} {what} -> {fills}")
    return 0


def _status(given) -> int:
    for store in _stores(given):
        states = {entry.id: Runner(store).state(entry) for entry in find(given.ids or ["*"])}
        for id_, (state, detail) in states.items():
            if given.scale or state != State.MISSING:
                print(f"{store.scale}  {id_:34s} {state.value}{f': {detail}' if detail else ''}")
        finished = sum(state == State.FINISHED for state, _ in states.values())
        print(f"{store.scale}: {finished} of {len(states)} finished")
    return 0


def _run(given) -> int:
    if given.jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {given.jobs}")
    device_name(given.device)  # an unknown device is said before anything is done
    [store] = _stores(given)
    runner = Runner(
        store,
        images=tuple(given.images),
        tests=given.tests,
        rain=given.rain,
        limit=given.test_images or (1 if given.scale == "smoke" else None),
        device=given.device,
        overrides={"steps": given.steps, "bank_size": given.bank_size, "phases": given.phases and tuple(given.phases)},
        initial=given.initial,
        deadline=None if given.minutes is None else time.monotonic() + 60 * given.minutes,
    )
    chosen = find(given.ids)
    again = {entry.id for entry in chosen if given.again and store.has_networks(entry)}
    todo = [entry for entry in with_owners(chosen) if entry.id in again or runner.state(entry)[0] != State.FINISHED]
    log.info("%d to run (%d chosen), scale %s, on %s", len(todo), len(chosen), given.scale, given.device)
    outcomes = runner.run_all(todo, jobs=given.jobs)
    for state in (State.STOPPED, State.FAILED):
        if ids := [id_ for id_, outcome in outcomes.items() if outcome == state]:
            log.warning("%s: %s", state.value, ", ".join(ids))
    return 1 if State.FAILED in outcomes.values() else 3 if State.STOPPED in outcomes.values() else 0


def _collect(given) -> int:
    written = [path for store in _stores(given) for path in collect(store)]
    said = "\n".join(f"wrote {path}" for path in written)
    print(said or "nothing is finished yet: python -m dpo_lib experiments run")
    return 0


def _check(given) -> int:
    found = []
    for store in _stores(given):
        for each in check(Runner(store, tests=given.tests, rain=given.rain, device=given.device), cells=given.cells):
            by = "" if each.difference_db is None else f", differs by {each.difference_db:.4f} dB"
            print(f"{store.name}  {each.cell}: {each.against}{by}{'  WRONG' if each.is_wrong else ''}")
            found.append(each)
    known, wrong = (sum(part) for part in ([e.difference_db is not None for e in found], [e.is_wrong for e in found]))
    print(f"{known} comparisons, {wrong} wrong; {len(found) - known} cells cannot be compared")
    return 1 if wrong else 0


def _stores(given) -> list[Store]:
    """Of the chosen scale, or of all."""
    out = Path(given.out) if given.out else project_folder()
    return [Store(out, scale, given.seed) for scale in ([given.scale] if given.scale else SCALES)]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m dpo_lib experiments", description="The paper's tables, as runs.")
    commands = parser.add_subparsers(required=True, metavar="list | run | status | collect | check")

    def add_command(function, about: str, ids: str | None = None):
        added = commands.add_parser(function.__name__[1:], help=about)
        added.set_defaults(command=function)
        if function is _run:
            add_quiet(added)
        if ids:
            about = "an id, the beginning of ids (table1/l0), or a pattern ('*/wls/*')"
            added.add_argument("ids", nargs=ids, metavar="ID", help=about)
        if function is not _list:
            added.add_argument("--out", help="folder that holds runs/ and results/ (default: the checkout)")
            added.add_argument("--seed", type=int, default=0)
            added.add_argument("--scale", choices=SCALES, help="budget (run: laptop; others: default all)")
        return added

    add = add_command(_list, "the experiments", "*").add_argument
    add("--networks", action="store_true", help="only the ids of what is trained, one a line")
    add_command(_status, "what is finished", "*")
    add_command(_collect, "one CSV per table")
    compared = add_command(
        _check, "compute some cells of each table again, from the rows of all images and the networks"
    )
    compared.add_argument("--cells", type=int, default=3, metavar="N", help="of each table, at random (default: 3)")
    run = add_command(_run, "train and measure what is missing", "+")
    run.set_defaults(scale="laptop")
    for each in (compared, run):
        about = "test images, or a folder of sets by name"
        about += " (default: scikit-image's)" if each is run else ": an image of each cell is measured again"
        each.add_argument("--tests", metavar="DIR", help=about)
        each.add_argument("--rain", metavar="DIR", help="folder of rain pairs with pairs.csv (default: synthetic rain)")
        each.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add = run.add_argument
    add("--images", nargs="+", default=[], metavar="DIR", help="folders of training photographs")
    add("--steps", type=int, help="optimiser steps, in place of the scale's")
    add("--test-images", type=int, metavar="N", help="only the first N of each test set")
    add("--bank-size", type=int, metavar="N", help="at most so many training targets at a time")
    about = "image sizes and batches in order, in place of the scale's"
    add("--phases", type=Phase.from_text, nargs="+", metavar="SHARE,SHRINK,CROP,BATCH", help=about)
    add("--initial", metavar="NETWORK", help="begin with its base network: a pretrained name or a file")
    add("--minutes", type=float, help="stop cleanly after so long; the same command continues")
    add("--jobs", type=int, default=1, help="so many at once, for small networks on one GPU (default: 1)")
    add("--again", action="store_true", help="measure again what is finished, say on other test images")
    return parser
