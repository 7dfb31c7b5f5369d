"""Figures and tables that were just made, beside those that are committed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .records import read_json, read_rows

LEAST_SIMILARITY = 0.98
SETTINGS = ("value", "row", "column")  # columns that say what was measured: they must agree exactly
HEADLINE = "headline.json"


@dataclass
class Comparison:
    """How many files agree, and of the others what differs, by name."""

    alike: int = 0
    different: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, difference: str) -> None:
        """Count a file, or keep what differs in it."""
        if difference:
            self.different[name] = difference
        else:
            self.alike += 1


def compare_figures(made: str | os.PathLike, committed: str | os.PathLike, notebooks: Sequence[str]) -> Comparison:
    """Notebooks' figures (PNG files that begin with their numbers), in two folders."""
    patterns = [f"{name[:2]}_*.png" for name in notebooks]
    return _compare_files(Path(made), Path(committed), patterns, figure_difference)


def compare_tables(made: str | os.PathLike, committed: str | os.PathLike, notebooks: Sequence[str]) -> Comparison:
    """Notebooks' tables and their rows in ``headline.json``, in two folders ``results``."""
    folders = [Path(folder) for folder in (made, committed)]
    tables, committed_tables = (folder / "notebook_tables" for folder in folders)
    found = _compare_files(tables, committed_tables, [f"{name}.csv" for name in notebooks], table_difference)
    for name in notebooks:
        new, old = (headlines_of(folder / HEADLINE, name) for folder in folders)
        if new or old:
            found.note(f"{HEADLINE} ({name})", rows_difference(new, old))
    return found


def figure_difference(made: str | os.PathLike, committed: str | os.PathLike) -> str:
    """What differs between two figures, nothing if their structural similarity is above `LEAST_SIMILARITY`.

    Averaged over the places where either is drawn on: empty paper is alike in any two figures. They may differ in
    resolution, not in shape.
    """
    from skimage.metrics import structural_similarity

    new, old = (Image.open(path).convert("L") for path in (made, committed))
    if abs(new.width * old.height / (new.height * old.width) - 1) > 0.02:
        return f"{new.width} x {new.height} pixels, committed {old.width} x {old.height}"
    first, second = (np.asarray(picture, dtype=np.float64) for picture in (new.resize(old.size), old))
    _, similarity = structural_similarity(first, second, data_range=255, full=True)
    drawn = (first < 250) | (second < 250)
    mean = float(similarity[drawn].mean()) if drawn.any() else 1.0
    return "" if mean > LEAST_SIMILARITY else f"structural similarity {mean:.3f}"


def table_difference(made: str | os.PathLike, committed: str | os.PathLike) -> str:
    """What differs between two CSV tables, nothing if all numbers agree within their tolerances."""
    return rows_difference(read_rows(made), read_rows(committed))


def rows_difference(made: Sequence[dict], committed: Sequence[dict]) -> str:
    """What differs between two tables, nothing if all numbers agree within their tolerances.

    0.02 dB; 2 pixels of an area; else a hundredth of the number, or 0.002. Text and `SETTINGS` must be equal.

    >>> rows_difference([{"psnr_db": 31.01}], [{"psnr_db": 31.0}])
    ''
    >>> rows_difference([{"psnr_db": 31.01}, {"psnr_db": 30.5}], [{"psnr_db": 31.0}, {"psnr_db": 31.0}])
    'psnr_db in row 2 is 30.5, committed 31.0'
    """
    if len(made) != len(committed):
        return f"number of rows {len(made)}, committed {len(committed)}"
    if made and list(made[0]) != list(committed[0]):
        return f"columns {', '.join(made[0])}, committed {', '.join(committed[0])}"
    found = [
        f"{key} in row {number} is {new[key]}, committed {old[key]}"
        for number, (new, old) in enumerate(zip(made, committed, strict=True), 1)
        for key in old
        if not _agree(key, new[key], old[key], unit=old.get("unit"))
    ]
    return "" if not found else found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def headlines_of(path: str | os.PathLike, notebook: str) -> list[dict]:
    """A notebook's rows of a ``headline.json``, none if there is no such file."""
    path = Path(path)
    rows = read_json(path) if path.exists() else []
    return [row for row in rows if row["source"] == notebook]


def _agree(key: str, new: Any, old: Any, *, unit: str | None) -> bool:
    if key in SETTINGS or not all(isinstance(number, (int, float)) for number in (new, old)):
        return new == old
    if key.endswith("_db") or unit == "dB":
        return abs(new - old) <= 0.02
    return abs(new - old) <= (2 if key.endswith("area") else max(0.002, 0.01 * abs(old)))


def _compare_files(
    made: Path, committed: Path, patterns: Sequence[str], difference: Callable[[Path, Path], str]
) -> Comparison:
    found = Comparison()
    files = (path for folder in (made, committed) for pattern in patterns for path in folder.glob(pattern))
    for name in sorted({path.name for path in files}):
        if not (made / name).exists():
            found.note(name, "not made")
        elif not (committed / name).exists():
            found.note(name, "not committed")
        else:
            found.note(name, difference(made / name, committed / name))
    return found
