"""From the records of finished runs to one CSV per table, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

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


def collect(store: Store) -> list[Path]:
    """Write ``TABLE.csv`` for every table with a finished run, and beside it a JSON with the runs.

    Damaged records are named and left out. Averages are over complete rows only.
    """
    records: dict[str, dict] = {}
    for entry in EXPERIMENTS.values():
        try:
            records[entry.id] = store.read_record(entry)
        except FileNotFoundError:
            continue
        except ValueError as error:
            print(f"{entry.id}: {error}: left out", flush=True)
    written = []
    for table in dict.fromkeys(table for entry in EXPERIMENTS.values() for table, _ in entry.fills):
        filling = [entry for entry in EXPERIMENTS.values() if table in dict(entry.fills)]
        keys = ("date", "commit", "steps", "samples", "device")
        runs = {e.id: {key: records[e.id].get(key) for key in keys} for e in filling if e.id in records}
        if runs:
            rows = table_rows(table, filling, records)
            facts = provenance(table=table, scale=store.scale, seed=store.seed, note=NOTE, runs=runs)
            written.append(write_rows(store.results / f"{table}.csv", rows, facts=facts))
    return written


def table_rows(table: str, filling: Sequence[Entry], records: dict[str, dict]) -> list[dict]:
    """The rows of a table: its cells, measured or not, averages over values, then over operators; other methods."""
    groups: dict[str, dict[str, list[dict]]] = {}
    rows = []
    for entry in filling:
        record = records.get(entry.id, {"rows": []})
        if not isinstance(entry, Experiment):  # its rows as they were measured
            rows += [_filled({**row, "run": entry.id}) for row in record["rows"]]
            continue
        found = {(row["operator"], row["value"], row["told"]): row for row in record["rows"]}
        begun_with = (record.get("initial") or {}).get("name", "random weights")
        for cell in entry.cells():
            if cell.table == table:
                measured = found.get((cell.operator, cell.value, cell.told), {})
                more = {"samples": record["samples"], "begun_with": begun_with} if measured else {}
                row = _row(table, cell.network, cell.operator, cell.value, {**measured, **more}, entry.id)
                groups.setdefault(cell.network, {}).setdefault(cell.operator, []).append(row)
    for network, operators in groups.items():
        averages = []
        for operator, cells in operators.items():
            cells.sort(key=lambda row: row["value"] if isinstance(row["value"], (int, float)) else 0)
            averages.append(_average(table, network, operator, cells))
            if len(cells) == 1:  # a single value is its own average, and so has the paper's
                theirs = {key: averages[-1][key] for key in ("paper_psnr_db", "paper_ssim") if cells[0][key] == ""}
                rows.append({**cells[0], **theirs})
            else:
                rows += [*cells, averages[-1]]
        if len(operators) > 1:
            rows.append(_average(table, network, AVERAGE, averages))
    others = [key for key in paper.NUMBERS if groups and key[0] == table and key[1] not in groups]
    return rows + [{**_row(*key), "network": f"{key[1]} (paper)"} for key in others]


def _row(table: str, network: str, operator: str, value, found: dict | None = None, run: str = "") -> dict:
    """One line of a table."""
    found, (psnr_db, ssim) = found or {}, paper.number(table, network, operator, value)
    return _filled({
        "network": network,
        "operator": operator,
        "value": "default" if value is None else value,
        "psnr_db": found.get("psnr_db"),
        "paper_psnr_db": psnr_db,
        "ssim": found.get("ssim"),
        "paper_ssim": ssim,
        **{key: found.get(key) for key in ("input_psnr_db", "images", "test_set", "samples", "begun_with")},
        "run": run,
    })  # fmt: skip


def _filled(row: dict) -> dict:
    """What is not known is left empty."""
    return {key: "" if value is None else value for key, value in row.items()}


def _average(table: str, network: str, operator: str, rows: list[dict]) -> dict:
    """The mean of rows, if all of them are measured."""
    complete = all(row["psnr_db"] != "" for row in rows)
    found = {key: float(np.mean([row[key] for row in rows])) for key in MEASURED} if complete else {}
    return _row(table, network, operator, AVERAGE, found)
