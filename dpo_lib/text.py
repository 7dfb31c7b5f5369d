"""Rows as text, and the word that was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


def format_table(
    rows: Sequence[Mapping], *, db_digits: int = 2, ssim_digits: int = 4, significant: int | None = None
) -> str:
    """Rows as aligned text: dB with two decimals, SSIM with four, unless told otherwise; None as a dash.

    Parameters
    ----------
    rows : sequence of mapping
        With the same keys.
    db_digits, ssim_digits : int
        Decimals of floats under keys that end in ``_db`` or hold ``ssim``.
    significant : int, optional
        So many significant digits of all floats instead.

    Examples
    --------
    >>> print(format_table([{"name": "a", "psnr_db": 30.0}, {"name": "long", "psnr_db": 31.257}]))
    name  psnr_db
       a    30.00
    long    31.26
    """

    def text(key: str, value: object) -> str:
        if not isinstance(value, float):
            return "-" if value is None else str(value)
        if significant is not None:
            return f"{float(f'{value:.{significant}g}'):g}"
        digits = db_digits if key.endswith("_db") else ssim_digits if "ssim" in key else None
        return f"{value:g}" if digits is None else f"{value:.{digits}f}"

    if not rows:
        return "(nothing)"
    cells = [list(rows[0]), *([text(key, row[key]) for key in rows[0]] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(48), duration(700), duration(9000)
    ('48 s', '12 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def nearest(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a question, for a message about an unknown one; empty if none is near.

    >>> nearest("trian", ["train", "apply"]), nearest("xyz", ["train", "apply"])
    (' (did you mean train?)', '')
    """
    found = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {found[0]}?)" if found else ""
