"""From the records of finished runs to one CSV per table, with the paper's numbers beside ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from . import paper
from .evaluation import summarise
from .experiments import EXPERIMENTS, Cell, Experiment
from .paper import AVERAGE
from .records import provenance, read_rows, write_rows
from .run_files import Settings, read_record

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


# For the notebooks


def shipped_table(folder: str | os.PathLike, names: Sequence[str], *, network: str = "numerous") -> list[dict]:
    """What shipped networks reach on the test images, beside the paper's numbers.

    Parameters
    ----------
    folder : path
        ``results/SCALE``, with the rows of each network, ``NAME.csv``. Networks without rows are left out.
    names : sequence of str
        Networks for one operator each, named after it.
    network : str
        Which of the paper's networks: "numerous" or "single".

    Returns
    -------
    list of dict
        ``operator``, ``value`` (or "average"), ``images``, ``input_psnr_db`` (the unprocessed picture), ``psnr_db``,
        ``paper_psnr_db`` (empty where the paper has none).
    """
    rows = []
    for name in names:
        path = Path(folder) / f"{name}.csv"
        for row in summarise(read_rows(path)) if path.exists() else []:
            keys = [(table, network, name, row["value"]) for table in ("table1", "table2")]
            keys += [("table3", "1 operator", name, AVERAGE)] if row["value"] == AVERAGE else []
            rows.append({
                "operator": name,
                **{key: row[key] for key in ("value", "images", "input_psnr_db", "psnr_db")},
                "paper_psnr_db": next((paper.NUMBERS[key][0] for key in keys if key in paper.NUMBERS), None) or "",
            })  # fmt: skip
    return rows


def collected_table(folder: str | os.PathLike, table: str) -> list[dict]:
    """The measured rows of a table that `collect` wrote to ``results/SCALE``; none if it did not."""
    path = Path(folder) / f"{table}.csv"
    return [row for row in read_rows(path) if row.get("psnr_db") != ""] if path.exists() else []


def over_seeds(folder: str | os.PathLike, table: str) -> list[dict]:
    """`collected_table`, with the mean over all seeds in place of ``psnr_db`` where a network was trained with several.

    Parameters
    ----------
    folder : path
        ``results/SCALE``; those of other seeds are its neighbours ``results/SCALE-seedN``.
    table : str

    Returns
    -------
    list of dict
        The rows of `folder`, with ``seeds``, their number, and ``spread_db``, the standard deviation over them
        (divided by one less than their number; none for a single seed).
    """
    folder = Path(folder)
    rows = collected_table(folder, table)

    def key(row):
        return row["network"], row["operator"], row["value"]

    measured = {key(row): [row["psnr_db"]] for row in rows}
    for other in sorted(folder.parent.glob(f"{folder.name}-seed*")):
        for row in collected_table(other, table):
            measured.get(key(row), []).append(row["psnr_db"])
    return [
        {**row, "psnr_db": float(np.mean(numbers)), "seeds": len(numbers),
         "spread_db": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None}
        for row in rows
        for numbers in [measured[key(row)]]
    ]  # fmt: skip


def pivot(rows: Sequence[dict], *, lines: Sequence[str], columns: str, paper: bool = False) -> list[dict]:
    """Rows of a table as a smaller one: PSNR in dB as text, one column per network, operator or value.

    Parameters
    ----------
    rows : sequence of dict
        Of `collected_table`, or of `over_seeds`, whose spread is shown behind a plus-minus sign.
    lines : sequence of str
        Keys that the new lines are told apart by.
    columns : str
        Key whose entries become columns. Where that is "network", the untouched picture's PSNR is a column as well.
    paper : bool
        The paper's number behind ours, in brackets.

    Examples
    --------
    >>> rows = [{"network": n, "value": 1, "psnr_db": x, "paper_psnr_db": 40.0, "input_psnr_db": 20.0}
    ...         for n, x in (("single", 31.0), ("numerous", 30.0))]
    >>> pivot(rows, lines=["value"], columns="network", paper=True)
    [{'value': 1, 'untouched': '20.00', 'single': '31.00 (40.00)', 'numerous': '30.00 (40.00)'}]
    """
    found: dict[tuple, dict] = {}
    for row in rows:
        line = found.setdefault(tuple(row[key] for key in lines), {key: row[key] for key in lines})
        if columns == "network":
            line["untouched"] = f"{row['input_psnr_db']:.2f}"
        theirs = row["paper_psnr_db"]
        spread = f" ± {row['spread_db']:.2f}" if row.get("spread_db") is not None else ""
        line[row[columns]] = f"{row['psnr_db']:.2f}{spread}" + (f" ({theirs:.2f})" if paper and theirs != "" else "")
    names = list(dict.fromkeys(name for line in found.values() for name in line))
    return [{name: line.get(name, "-") for name in names} for line in found.values()]
