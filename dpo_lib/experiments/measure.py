"""How close a finished network comes to its operators, as the tables ask."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from ..data.test_sets import ImageSet
from ..evaluation import evaluate, summarise
from ..files import sha256_of
from ..models.parameterized import ParameterizedNetwork
from ..parameters import Value
from ..records import provenance, write_json, write_rows
from .catalogue import Experiment


class OutOfTimeError(Exception):
    """The time limit is reached."""


class ToldOtherwise:
    """A joint network that is told another operator's name than the right one."""

    def __init__(self, network: ParameterizedNetwork, told: str):
        self.network, self.told, self.operators = network, told, network.operators

    def __call__(self, image: torch.Tensor, value: Value, *, operator: str, check_range: bool = True) -> torch.Tensor:
        gamma_code = self.network.gamma_code
        code = gamma_code(value, operator=operator, batch=len(image), check_range=check_range)
        wrong = gamma_code.table[gamma_code.index(self.told)].expand(len(image), -1)
        return self.network.answer(image, torch.cat([wrong, code[:, wrong.shape[1] :]], dim=1))


def measure(
    experiment: Experiment,
    network: ParameterizedNetwork,
    facts: dict,
    folder: Path,
    sets: Mapping[str, ImageSet],
    *,
    device: str = "cpu",
    seed: int = 0,
    targets: Path | None = None,
    deadline: float | None = None,
    progress: bool = True,
) -> dict:
    """Measure a finished network that lies in `folder`; gives the record.

    Rows are kept there: what was measured before `deadline`, after which no value is begun, or for another experiment
    with this network, is not measured again.

    `facts`, what made the network, go to the record as well; `sets` are the test images of each operator. For the
    others see `evaluate`.

    Raises
    ------
    OutOfTimeError
    """
    digest, kept = sha256_of(folder / "network.safetensors"), folder / "measured.json"
    made_by = {"network": digest, "seed": seed, "sets": {name: [*s.images, *s.files] for name, s in sets.items()}}
    measured: dict[str, list[dict]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(kept.read_text(encoding="utf-8"))
        measured = dict(found["rows"]) if found["facts"] == made_by else {}
    tables = []
    for test in experiment.tests:
        images = sets[test.operator]
        for value in test.values:
            key = f"{test.operator} {value} {test.told}"
            if key not in measured:
                if deadline is not None and time.monotonic() > deadline:
                    raise OutOfTimeError("trained, not measured to the end")
                rows = evaluate(
                    ToldOtherwise(network, test.told) if test.told else network, experiment.operator(test.operator),
                    images.images, values=(value,), device=device, seed=seed, targets=targets, progress=progress,
                    check_range=experiment.trained_range is None,
                )  # fmt: skip
                more = {"value": value, "told": test.told, "test_set": images.name}
                measured[key] = [{**row, **more} for row in rows]
                write_json(kept, {"facts": made_by, "rows": measured})
            tables.append(measured[key])
    if experiment.trains:
        write_rows(folder / "rows.csv", [row for rows in tables for row in rows])
    trained = {key: facts[key] for key in ("date", "commit")}
    return {
        **facts,
        **provenance(id=experiment.id, seed=seed, trained=trained, same_as=experiment.same_as),
        "network_parameters": sum(p.numel() for p in network.parameters()),
        "measured_on": {
            images.name: {"name": images.name, "images": len(images.images), "files": images.files}
            for images in sets.values()
        },
        "rows": [_summary(rows) for rows in tables],
    }


def _summary(rows: list[dict]) -> dict:
    """A record's row: the mean over the images."""
    mean = summarise(rows)[-1]
    return {key: rows[0][key] for key in ("operator", "value", "told", "test_set")} | {
        key: round(number, 4) for key, number in mean.items() if key != "value"
    }
