"""Tables for the notebooks, from the rows that `collect` and the shipped networks' measurements left on disk."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..evaluation import summarise
from ..records import read_json, read_rows
from . import paper

PLACES = (("table1", "numerous"), ("table2", "numerous"), ("table3", "1 operator"))  # of a network for one operator


def shipped_table(folder: str | os.PathLike, names: Sequence[str]) -> list[dict]:
    """What shipped networks reach on the test images, beside the paper's numbers.

    Parameters
    ----------
    folder : path
        ``results/shipped``, with the rows of each network, ``NAME.csv``, and what made it, ``NAME.json``. Networks
        without rows are left out.
    names : sequence of str
        Networks for one operator each, named after it.
    """
    rows = []
    for name in names:
        path = Path(folder) / f"{name}.csv"
        if not path.exists():
            continue
        scale = read_json(path.with_suffix(".json"))["model"]["scale"]
        for row in summarise(read_rows(path)):
            keys = [(*place, name, row["value"]) for place in PLACES]
            rows.append({
                "operator": name,
                "scale": scale,
                **{key: row[key] for key in ("value", "images", "input_psnr_db", "psnr_db")},
                "paper_psnr_db": next((paper.NUMBERS[key][0] for key in keys if key in paper.NUMBERS), None) or "",
            })  # fmt: skip
    return rows


def collected_table(folder: str | os.PathLike, table: str) -> list[dict]:
    """The measured rows of a table that `collect` wrote to ``results/SCALE``; none if it did not."""
    path = Path(folder) / f"{table}.csv"
    return [row for row in read_rows(path) if row.get("psnr_db") != ""] if path.exists() else []


def over_seeds(folder: str | os.PathLike, table: str) -> list[dict]:
    """`collected_table`, with means over all seeds, those of the folders ``SCALE-seedN`` beside it, as ``psnr_db``.

    Rows have besides ``seeds``, their number, and ``spread_db``, the standard deviation over them (divided by one less
    than their number; None for a single seed).
    """
    folder, cell, found = Path(folder), operator.itemgetter("network", "operator", "value"), []
    seeds = sorted(folder.parent.glob(f"{folder.name}-seed*"))
    others = [row for seed in seeds for row in collected_table(seed, table)]
    for row in collected_table(folder, table):
        numbers = [each["psnr_db"] for each in (row, *others) if cell(each) == cell(row)]
        spread_db = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        found.append({**row, "psnr_db": float(np.mean(numbers)), "seeds": len(numbers), "spread_db": spread_db})
    return found


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
