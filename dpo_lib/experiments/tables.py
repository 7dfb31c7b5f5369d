"""Tables for the notebooks, from the rows that `collect` and the shipped networks' measurements left on disk."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..evaluation import interval, summarise
from ..records import read_json, read_rows
from . import paper
from .catalogue import EXPERIMENTS
from .store import Store

JOINT = ("table3", "table6", "table7_10", "table12")  # their rows are networks for several operators

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
    """The measured rows of a table that `collect` wrote to ``results/SCALE``; none if it did not.

    Where "laptop" has not measured all networks of an operator (of a table of joint networks: all networks), the rows
    of "cpu" stand in; ``scale`` says which they are.
    """
    folder = Path(folder)
    found: dict[str, list[dict]] = {}
    for scale in dict.fromkeys((folder.name, *(["cpu"] if folder.name == "laptop" else []))):
        path, groups = folder.with_name(scale) / f"{table}.csv", {}
        for row in read_rows(path) if path.exists() else []:
            if not str(row.get("network")).endswith("(paper)"):  # kernels and times have no operators
                groups.setdefault("all" if table in JOINT else row.get("operator"), []).append(row | {"scale": scale})
        for group, rows in groups.items():
            measured = [row for row in rows if row.get("psnr_db") != ""]
            if group not in found or not found[group] or (scale != folder.name and _lacks(found[group], measured)):
                found[group] = measured
    return [row for rows in found.values() for row in rows]


def _lacks(rows: list[dict], others: list[dict]) -> bool:
    """Whether some cell of others is not among the rows."""
    cells, wanted = ({tuple(map(row.get, ("network", "operator", "value"))) for row in part} for part in (rows, others))
    return not wanted <= cells


def over_seeds(folder: str | os.PathLike, table: str) -> list[dict]:
    """`collected_table`, with means over all seeds, those of the folders ``SCALE-seedN`` beside it, as ``psnr_db``.

    Rows have besides ``seeds``, their number, and ``spread_db``, the standard deviation over them (divided by one less
    than their number; None for a single seed).
    """
    folder, cell, found = Path(folder), operator.itemgetter("network", "operator", "value"), []
    rows = collected_table(folder, table)
    seeds = {row["scale"]: sorted(folder.parent.glob(f"{row['scale']}-seed*")) for row in rows}
    others = {scale: [row for seed in each for row in collected_table(seed, table)] for scale, each in seeds.items()}
    for row in rows:
        numbers = [each["psnr_db"] for each in (row, *others[row["scale"]]) if cell(each) == cell(row)]
        spread_db = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        found.append({**row, "psnr_db": float(np.mean(numbers)), "seeds": len(numbers), "spread_db": spread_db})
    return found


def gains(folder: str | os.PathLike, table: str, network: str, than: str) -> list[dict]:
    """By how much one network of a table is better than another one, operator by operator.

    Parameters
    ----------
    folder, table
        See `collected_table`.
    network, than : str
        The rows' names, such as "single" and "numerous".

    Returns
    -------
    list of dict
        A row for each operator, and one for their average where all are of one scale: ``operator``, ``scale``,
        ``values`` (at how many both were measured), ``gain_db``, ``low_db`` and ``high_db``, the 95 % interval over
        images of the same images' differences, see `evaluation.interval` (None where the rows of the images were not
        kept), and ``paper_gain_db`` (None where the paper lacks a number).
    """
    cells = {
        (row["network"], row["operator"], row["value"]): row
        for row in collected_table(folder, table)
        if row.get("run")  # no average
    }
    pairs = [
        (row, cells[than, name, value])
        for (which, name, value), row in cells.items()
        if which == network and (than, name, value) in cells
    ]
    by_operator: dict[str, list] = {}
    for pair in pairs:
        by_operator.setdefault(pair[0]["operator"], []).append(pair)
    found = [_gain(Path(folder), table, name, of_operator) for name, of_operator in by_operator.items()]
    if len({row["scale"] for row in found}) == 1 < len(found):
        found.append(_gain(Path(folder), table, paper.AVERAGE, pairs) | {
            "gain_db": float(np.mean([row["gain_db"] for row in found])),
        })  # fmt: skip
    return found


def _gain(folder: Path, table: str, label: str, pairs: list[tuple[dict, dict]]) -> dict:
    """A row of `gains`."""
    networks = [row["network"] for row in pairs[0]]
    whole = [paper.number(table, network, label, paper.AVERAGE)[0] for network in networks]
    theirs = [whole] if None not in whole else [[row["paper_psnr_db"] for row in pair] for pair in pairs]
    known = not any(number in (None, "") for pair in theirs for number in pair)
    differences = [_differences(folder, table, *pair) for pair in pairs]
    _, low, high = interval([row for each in differences for row in each]) if all(differences) else (None, None, None)
    return {
        "operator": label,
        "scale": pairs[0][0]["scale"],
        "values": len(pairs),
        "gain_db": float(np.mean([ours["psnr_db"] - other["psnr_db"] for ours, other in pairs])),
        "low_db": low,
        "high_db": high,
        "paper_gain_db": float(np.mean([ours - other for ours, other in theirs])) if known else None,
    }


def _differences(folder: Path, table: str, ours: dict, other: dict) -> list[dict]:
    """The rows of the images that two cells share, with the difference of the cells as ``psnr_db``."""
    store = Store(folder.parents[1], ours["scale"])
    rows, others = (
        {row["image"]: row for row in store.images_of(EXPERIMENTS[cell["run"]], table, cell)} for cell in (ours, other)
    )
    return [
        row | {"psnr_db": row["psnr_db"] - others[image]["psnr_db"]} for image, row in rows.items() if image in others
    ]


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
