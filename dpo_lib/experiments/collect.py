"""From the records of finished runs to one CSV per table, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..evaluation import interval
from ..records import provenance, write_rows
from . import paper
from .catalogue import EXPERIMENTS, Entry, Experiment
from .paper import AVERAGE
from .store import Store

NOTE = (
    "the paper tested filters on 100 PASCAL VOC images that it does not name, and trained longer: "
    "absolute numbers compare roughly"
)
MEASURED = ("psnr_db", "ssim", "input_psnr_db")
ENDS = ("psnr_low_db", "psnr_high_db")  # of the 95 % interval over images, see `interval`


def collect(store: Store) -> list[Path]:
    """Write ``TABLE.csv`` for every table with a finished run, and beside it a JSON with the runs.

    Damaged records are named and left out. Averages are over complete rows only.
    """
    records = {entry.id: record for entry in EXPERIMENTS.values() if (record := store.read_record(entry)) is not None}
    written = []
    for table in dict.fromkeys(table for entry in EXPERIMENTS.values() for table, _ in entry.fills):
        filling = [entry for entry in EXPERIMENTS.values() if table in dict(entry.fills)]
        keys = ("date", "commit", "steps", "samples", "device")
        runs = {e.id: {key: records[e.id].get(key) for key in keys} for e in filling if e.id in records}
        if runs:
            rows = table_rows(table, filling, records, store)
            facts = provenance(table=table, scale=store.scale, seed=store.seed, note=NOTE, runs=runs)
            written.append(write_rows(store.results / f"{table}.csv", rows, facts=facts))
    return written


def table_rows(table: str, filling: Sequence[Entry], records: dict[str, dict], store: Store) -> list[dict]:
    """The rows of a table: its cells, measured or not, averages over values, then over operators; other methods.

    None stands for what is not known: intervals, where the rows of the images were not kept.
    """
    groups: dict[str, dict[str, list[dict]]] = {}
    images: dict[tuple, list[dict]] = {}  # by network, operator and value
    rows = []
    for entry in filling:
        record = records.get(entry.id, {"rows": []})
        if not isinstance(entry, Experiment):  # its rows as they were measured
            rows += [{**row, "run": entry.id} for row in record["rows"]]
            continue
        begun_with = record.get("initial", {}).get("name", "random weights")
        training = {"samples": record.get("samples"), "begun_with": begun_with}
        found = {(row["operator"], row["value"], row["told"]): {**row, **training} for row in record["rows"]}
        for filled, network, operator, value, told in entry.cells():
            if filled == table:
                row = _row(table, network, operator, value, found.get((operator, value, told)), entry.id)
                groups.setdefault(network, {}).setdefault(operator, []).append(row)
                images[network, operator, row["value"]] = store.images_of(entry, table, row)
    for network, operators in groups.items():
        averages, everything = [], []
        for operator, cells in operators.items():
            cells.sort(key=lambda row: row["value"])
            measured = [images[network, operator, cell["value"]] for cell in cells]
            everything += measured
            averages.append(_average(table, network, operator, cells, measured))
            for cell, of_cell in zip(cells, measured, strict=True):
                cell.update(_ends([of_cell]))
            if len(cells) == 1:  # a single value is its own average, and so has the paper's
                theirs = [key for key in ("paper_psnr_db", "paper_ssim") if cells[0][key] is None]
                rows.append(cells[0] | {key: averages[-1][key] for key in theirs})
            else:
                rows += [*cells, averages[-1]]
        if len(operators) > 1:
            rows.append(_average(table, network, AVERAGE, averages, everything))
    others = [key for key in paper.NUMBERS if groups and key[0] == table and key[1] not in groups]
    return rows + [{**_row(*key), "network": f"{key[1]} (paper)"} for key in others]


def _row(table: str, network: str, operator: str, value, found: dict | None = None, run: str | None = None) -> dict:
    """One line of a table."""
    found, (psnr_db, ssim) = found or {}, paper.number(table, network, operator, value)
    return {
        "network": network,
        "operator": operator,
        "value": "default" if value is None else value,
        "psnr_db": found.get("psnr_db"),
        **dict.fromkeys(ENDS),
        "paper_psnr_db": psnr_db,
        "ssim": found.get("ssim"),
        "paper_ssim": ssim,
        **{key: found.get(key) for key in ("input_psnr_db", "images", "test_set", "samples", "begun_with")},
        "run": run,
    }


def _average(table: str, network: str, operator: str, rows: list[dict], measured: list[list[dict]]) -> dict:
    """The mean of rows, if all of them are measured, and its interval from the images' rows of each of them."""
    complete = all(row["psnr_db"] is not None for row in rows)
    found = {key: float(np.mean([row[key] for row in rows])) for key in MEASURED} if complete else {}
    return _row(table, network, operator, AVERAGE, found) | (_ends(measured) if complete else {})


def _ends(measured: list[list[dict]]) -> dict:
    """The ends of the interval, where all cells have rows of their images."""
    if not all(measured):
        return {}
    _, *ends = interval([row for rows in measured for row in rows])
    return {key: end for key, end in zip(ENDS, ends, strict=True) if np.isfinite(end)}
