"""From the records of finished runs to one CSV per table, with the paper's numbers beside ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..records import provenance, write_rows
from . import paper
from .catalogue import EXPERIMENTS, Cell, Experiment
from .paper import AVERAGE
from .store import Settings, read_record

NOTE = (
    "the paper tested filters on 100 PASCAL VOC images that it does not name, and trained longer: "
    "absolute numbers compare roughly"
)
MEASURED = ("psnr_db", "ssim", "input_psnr_db")


def collect(settings: Settings) -> list[Path]:
    """Write ``results/SCALE/TABLE.csv`` for every table with a finished run, and beside it a JSON with the runs.

    Damaged records are named and left out. Averages are over complete rows only.

    Returns
    -------
    list of Path
    """
    records: dict[str, dict] = {}
    for experiment in EXPERIMENTS.values():
        try:
            records[experiment.id] = read_record(settings.record(experiment.id), experiment)
        except FileNotFoundError:
            continue
        except ValueError as error:
            print(f"{experiment.id}: {error}: left out", flush=True)
    written = []
    for table in dict.fromkeys(table for e in EXPERIMENTS.values() for table, _ in e.fills):
        filling = [e for e in EXPERIMENTS.values() if table in dict(e.fills)]
        finished = [experiment.id for experiment in filling if experiment.id in records]
        if finished:
            rows = _measured_rows(filling, records) if filling[0].measures else table_rows(table, filling, records)
            facts = provenance(table=table, scale=settings.scale, seed=settings.seed, note=NOTE, runs={
                id_: {key: records[id_].get(key) for key in ("date", "commit", "steps", "samples", "device")}
                for id_ in finished
            })  # fmt: skip
            written.append(write_rows(settings.out / "results" / settings.folder / f"{table}.csv", rows, facts=facts))
    return written


def table_rows(table: str, filling: list[Experiment], records: dict[str, dict]) -> list[dict]:
    """The rows of a table: its cells, measured or not, and averages over values, then over operators."""
    groups: dict[str, dict[str, list[dict]]] = {}
    for experiment in filling:
        for cell in experiment.cells():
            if cell.table == table:
                row = _cell_row(cell, experiment.id, records.get(experiment.id))
                groups.setdefault(cell.network, {}).setdefault(cell.operator, []).append(row)
    rows = []
    for network, operators in groups.items():
        averages = []
        for operator, cells in operators.items():
            cells.sort(key=lambda row: row["value"] if isinstance(row["value"], (int, float)) else 0)
            rows += cells
            averages.append(_average(table, network, operator, cells))
            if len(cells) > 1:
                rows.append(averages[-1])
            else:  # a single value is its own average, and so has the paper's
                cells[0].update({
                    key: averages[-1][key] for key in ("paper_psnr_db", "paper_ssim") if cells[0][key] == ""
                })  # fmt: skip
        if len(operators) > 1:
            rows.append(_average(table, network, AVERAGE, averages))
    return rows + _others(table, groups)


def _cell_row(cell: Cell, id_: str, record: dict | None) -> dict:
    found = {}
    if record is not None:
        key = (cell.operator, cell.value, cell.told)
        found = next(row for row in record["rows"] if (row["operator"], row["value"], row["told"]) == key)
        begun = (record.get("initial") or {}).get("name", "random weights")
        found = {**found, "samples": record["samples"], "begun_with": begun}
    value = "default" if cell.value is None else cell.value
    return _row(cell.network, cell.operator, value, found, cell.paper_psnr_db, cell.paper_ssim, id_)


def _row(network, operator, value, found: dict, paper_psnr_db, paper_ssim, run: str) -> dict:
    """One line of a table; what is not known is left empty."""

    def known(number):
        return "" if number is None else number

    return {
        "network": network,
        "operator": operator,
        "value": value,
        "psnr_db": known(found.get("psnr_db")),
        "paper_psnr_db": known(paper_psnr_db),
        "ssim": known(found.get("ssim")),
        "paper_ssim": known(paper_ssim),
        "input_psnr_db": known(found.get("input_psnr_db")),
        "images": known(found.get("images")),
        "test_set": known(found.get("test_set")),
        "samples": known(found.get("samples")),
        "begun_with": known(found.get("begun_with")),
        "run": run,
    }


def _average(table: str, network: str, operator: str, rows: list[dict]) -> dict:
    """The mean of rows, if all of them are measured."""
    found = {}
    if all(row["psnr_db"] != "" for row in rows):
        found = {key: float(np.mean([row[key] for row in rows])) for key in MEASURED}
    return _row(network, operator, AVERAGE, found, *paper.number(table, network, operator, AVERAGE), "")


def _others(table: str, known: dict) -> list[dict]:
    """What the paper prints of other methods."""
    return [
        _row(f"{network} (paper)", operator, "default" if value is None else value, {}, *numbers, "")
        for (of, network, operator, value), numbers in paper.NUMBERS.items()
        if of == table and network not in known
    ]


def _measured_rows(filling: list[Experiment], records: dict[str, dict]) -> list[dict]:
    """Times and statistics, as they were measured."""
    return [
        {key: "" if value is None else value for key, value in row.items()} | {"run": experiment.id}
        for experiment in filling
        if experiment.id in records
        for row in records[experiment.id]["rows"]
    ]
