"""Results on disk: rows as CSV, and beside them a JSON that says what made them."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from .files import printable, write_atomically

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "pillow")


def versions() -> dict[str, str]:
    """Versions of Python, this library and the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in ("dpo_lib", *PACKAGES):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str:
    """The checkout's commit ("-dirty" when files differ from it), or "unknown" outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        name = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=folder, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return name.stdout.strip() if name.returncode == 0 and name.stdout.strip() else "unknown"


def device_name(device: str) -> str:
    """What a computation runs on, for the record.

    Raises
    ------
    ValueError
        No such device here: call this first, and it is said before any work.
    """
    try:
        kind, index = torch.device(device).type, torch.device(device).index
        if kind != "cuda":
            torch.zeros(1, device=device).item()  # fails where there is none, or no numbers (meta)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(f"there is no device {device!r}: choose cpu, cuda, cuda:1 ...") from error
    if kind != "cuda":
        return f"cpu, {torch.get_num_threads()} threads" if kind == "cpu" else str(device)
    if (index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device} was asked for, but PyTorch {torch.__version__} finds {torch.cuda.device_count()} CUDA "
            "device(s) here: install a CUDA build (make help says how), or choose --device cpu"
        )
    return torch.cuda.get_device_name(device)


def provenance(**facts) -> dict:
    """What made a result: the given facts, date, versions, commit."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {**facts, "date": now, "commit": commit(), "versions": versions(), "platform": sys.platform}


def write_json(path: str | os.PathLike, content: object) -> Path:
    """Write JSON, whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    return Path(path)


def read_json(path: str | os.PathLike) -> Any:
    """Read JSON; a ValueError names a damaged file."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{printable(path)} is damaged ({error}): move it away") from error


def write_rows(path: str | os.PathLike, rows: Sequence[dict], *, facts: dict | None = None) -> Path:
    """Write rows (dicts with the same keys) as CSV; `facts` go to a JSON of the same name beside it.

    Floats are rounded to four decimals.
    """
    if not rows:
        raise ValueError(f"no rows to write to {path}: nothing was measured")
    path = Path(path)
    with (
        write_atomically(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.4f}" if isinstance(v, float) and k.endswith(("_db", "ssim")) else v for k, v in row.items()}
            )
    if facts is not None:
        write_json(path.with_suffix(".json"), facts)
    return path


def read_table(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a CSV as text, whichever program wrote it.

    Commas, semicolons or tabs; any line ends; UTF-8, with a byte-order mark or not, UTF-16 or Latin-1.

    Warns
    -----
    UserWarning
        Rows of another length than the header are left out.

    Raises
    ------
    ValueError
        It cannot be read as a table; names the file.
    """
    content = Path(path).read_bytes()
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if line]
    except csv.Error as error:
        raise ValueError(f"{printable(path)} is damaged, or no table ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    rows = [dict(zip(header, line, strict=True)) for line in lines[1:] if len(line) == len(header)]
    if wrong := len(lines[1:]) - len(rows):
        warnings.warn(f"{printable(path)}: left out {wrong} row(s) that are not whole", stacklevel=2)
    return rows


def read_rows(path: str | os.PathLike) -> list[dict]:
    """Read a CSV that `write_rows` wrote, see `read_table`; numbers come back as floats."""

    def parsed(text: str):
        try:
            return float(text)
        except ValueError:
            return text

    return [{key: parsed(value) for key, value in row.items()} for row in read_table(path)]


def add_headline(path: str | os.PathLike, source: str, rows: Sequence[dict]) -> Path:
    """Put a notebook's few most important numbers into the JSON that ``make reproduce`` prints and compares.

    Parameters
    ----------
    path : path
        The JSON file; made if missing. Other notebooks' rows stay.
    source : str
        Which notebook; its former rows are replaced.
    rows : sequence of dict
        ``name``, ``ours``, ``paper``, ``unit``, ``scale`` each; numbers are rounded to four digits after the point.
    """
    path = Path(path)
    kept = read_json(path) if path.exists() else []
    rounded = [{key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()} for row in rows]
    others = [row for row in kept if row["source"] != source]
    return write_json(path, sorted(others + [row | {"source": source} for row in rounded], key=lambda r: r["source"]))


def project_folder() -> Path:
    """The checkout that this library is run from (it holds the committed results), or else the current folder."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "notebooks").is_dir() else Path.cwd()


def output_folder() -> Path:
    """Where notebooks put figures/ and results/: the environment's DPO_LIB_OUTPUT, or else output/ in the checkout.

    Git ignores output/: no run of a notebook changes the committed results.
    """
    return Path(os.environ.get("DPO_LIB_OUTPUT") or project_folder() / "output")
