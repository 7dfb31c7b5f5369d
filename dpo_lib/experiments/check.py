"""Do the tables say what was measured? Cells computed again from the rows of all images, and these from networks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..data.test_sets import usual_sets
from ..evaluation import evaluate
from ..models.pretrained import load_network
from ..records import read_rows
from .catalogue import EXPERIMENTS, Experiment
from .run import Runner, told_otherwise

ROUNDED_DB = 2e-4  # numbers in tables have four decimals
REPEATED_DB = 0.02  # another processor, another order of sums


class Checked(NamedTuple):
    """A cell, what it was compared with, and by how much it differs (None: nothing to compare with)."""

    cell: str
    against: str
    difference_db: float | None
    allowed_db: float = ROUNDED_DB

    @property
    def is_wrong(self) -> bool:
        return self.difference_db is not None and not abs(self.difference_db) <= self.allowed_db


def check(runner: Runner, *, cells: int = 3, seed: int | None = None) -> Iterator[Checked]:
    """Compare cells of each collected table with what they sum up.

    Parameters
    ----------
    runner : Runner
        Its store holds the tables; where it has `tests`, an image of each cell is measured again with the network, if
        that is there, too.
    cells : int
        How many of each table, chosen at random.
    seed : int, optional
        Of the choice; default: another one each time.
    """
    choice = random.Random(seed)
    for table in dict.fromkeys(table for entry in EXPERIMENTS.values() for table, _ in entry.fills):
        path = runner.store.results / f"{table}.csv"
        rows = [row for row in read_rows(path) if row.get("psnr_db", "") != "" and row["run"]] if path.exists() else []
        for row in choice.sample(rows, min(cells, len(rows))):
            experiment, name = EXPERIMENTS[row["run"]], f"{table}: {row['network']}, {row['operator']}, {row['value']}"
            kept = runner.store.images_of(experiment, table, row)
            if not kept:
                yield Checked(name, "no rows of its images are kept", None)
                continue
            mean = float(np.mean([each["psnr_db"] for each in kept]))
            yield Checked(name, f"{len(kept)} images", mean - row["psnr_db"])
            if runner.tests and runner.store.has_networks(experiment):
                image = choice.choice(kept)
                difference = _measured_again(runner, experiment, image) - image["psnr_db"]
                yield Checked(name, f"its network on {image['image']}", difference, REPEATED_DB)


def _measured_again(runner: Runner, experiment: Experiment, row: dict) -> float:
    """PSNR in dB of one image, from the network."""
    network = load_network(runner.store.network(*experiment.networks), device=runner.device)
    name, value = row["operator"], None if row["value"] == "" else row["value"]
    images = usual_sets([name], runner.tests, rain=runner.rain)[name].images
    shown = dict(list(images.items())[: list(images).index(row["image"]) + 1])  # noise follows from an image's place
    [*_, found] = evaluate(
        told_otherwise(network, name, row["told"]) if row["told"] else network, experiment.operator(name), shown,
        values=(value,), check_range=experiment.trained_range is None, device=runner.device, seed=runner.store.seed,
        targets=runner.targets,
    )  # fmt: skip
    return found["psnr_db"]
