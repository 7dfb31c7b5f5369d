"""The numbered notebooks of the checkout: find, execute, report.

They are executed with papermill, in order; at the end it is said what was written and what came out.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .files import writable_folder, write_atomically

NUMBERED = re.compile(r"\d+_.+\.ipynb")
HEADLINE_KEYS = ("name", "ours", "paper", "unit", "scale", "source")


def checkout_folder() -> Path:
    """The checkout that this package is used from.

    Raises
    ------
    FileNotFoundError
        The package was installed without its notebooks.
    """
    root = Path(__file__).resolve().parents[1]
    if not ((root / "pyproject.toml").is_file() and (root / "notebooks").is_dir()):
        raise FileNotFoundError(
            f"there are no notebooks beside {root / 'dpo_lib'}: they are not part of the installed package. "
            "Clone the repository, and run `make reproduce` there"
        )
    return root


def find_notebooks(root: str | os.PathLike, *, only: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks of a checkout, in reading order.

    Parameters
    ----------
    root : path
        The checkout.
    only : sequence of str
        Beginnings of names, such as ``"01"``; none for all notebooks.

    Raises
    ------
    FileNotFoundError
        No numbered notebook.
    ValueError
        One of `only` fits none.
    """
    folder = Path(root) / "notebooks"
    found = sorted(path for path in folder.glob("*.ipynb") if NUMBERED.fullmatch(path.name))
    if not found:
        raise FileNotFoundError(f"no numbered notebook (NN_name.ipynb) in {folder}")
    unknown = [wanted for wanted in only if not any(path.name.startswith(wanted) for path in found)]
    if unknown:
        names = ", ".join(path.stem for path in found)
        raise ValueError(f"no notebook begins with {', '.join(map(repr, unknown))}: there are {names}")
    return [path for path in found if not only or any(path.name.startswith(wanted) for wanted in only)]


def declared_parameters(notebook: str | os.PathLike) -> set[str]:
    """Names in the notebook's cell with the tag ``parameters``."""
    return set(_papermill().inspect_notebook(str(notebook)))


def execute_notebook(
    notebook: str | os.PathLike, output: str | os.PathLike, *, parameters: Mapping[str, object] | None = None
) -> float:
    """Execute one notebook in its own folder and keep the executed copy.

    Parameters
    ----------
    notebook, output : path
        What to run and where the copy goes, whole or not at all. The copy of a failed run goes to
        ``NAME.failed.ipynb`` beside it, so that an earlier good one stays.
    parameters : mapping
        Values for its ``parameters`` cell.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        A parameter that the notebook does not declare.
    RuntimeError
        A cell failed; says which error, and where the copy is.
    ModuleNotFoundError
        papermill is missing.
    """
    papermill = _papermill()
    notebook, output, parameters = Path(notebook), Path(output), dict(parameters or {})
    declared = declared_parameters(notebook)
    unknown = sorted(set(parameters) - declared)
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        raise ValueError(f"{notebook.name} has no parameter {', '.join(unknown)}: it declares {known}")
    failed = output.with_name(f"{output.stem}.failed.ipynb")
    start = time.monotonic()
    with write_atomically(output) as temporary:
        try:
            papermill.execute_notebook(
                str(notebook),
                str(temporary),
                parameters=parameters,
                progress_bar=False,
                start_timeout=120,
                cwd=str(notebook.parent),
            )
        except Exception as error:
            shutil.copyfile(temporary, failed)
            # papermill's own message is the whole traceback in colour; its last line says enough here
            what = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else f"{type(error).__name__}: {error}"
            raise RuntimeError(f"{what.strip()} (see {failed})") from error
    failed.unlink(missing_ok=True)
    return time.monotonic() - start


def reproduce(
    *,
    root: str | os.PathLike | None = None,
    only: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    out: str | os.PathLike | None = None,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Execute the notebooks one after the other, going on after a failure, and report.

    Parameters
    ----------
    root : path, optional
        The checkout. Default: the one that this package is used from.
    only : sequence of str
        Beginnings of notebook names; none for all.
    parameters : mapping
        Each notebook gets those of them that it declares. One that no notebook declares is refused.
    out : path, optional
        Folder for the executed copies. Default: ``results/notebooks``.
    say : callable
        Takes the lines of the report.

    Returns
    -------
    list of str
        Names of the notebooks that failed.

    Raises
    ------
    ValueError, FileNotFoundError, OSError, ModuleNotFoundError
        Before anything runs: unknown parameters or notebooks, not a checkout, a folder that cannot be written,
        no papermill.
    """
    root = checkout_folder() if root is None else Path(root)
    notebooks, parameters = find_notebooks(root, only=only), dict(parameters or {})
    declared = {notebook: declared_parameters(notebook) for notebook in notebooks}
    unknown = sorted(set(parameters) - set().union(*declared.values()))
    if unknown:
        everything = ", ".join(sorted(set().union(*declared.values()))) or "none"
        raise ValueError(f"no chosen notebook has a parameter {', '.join(unknown)}: they declare {everything}")
    out = writable_folder(out if out is not None else root / "results" / "notebooks")
    before = _snapshot(root, out)
    failures, start = [], time.monotonic()
    for number, notebook in enumerate(notebooks, 1):
        given = {name: value for name, value in parameters.items() if name in declared[notebook]}
        label = f"[{number}/{len(notebooks)}] {notebook.stem}"
        try:
            seconds = execute_notebook(notebook, out / notebook.name, parameters=given)
        except RuntimeError as error:
            failures.append(notebook.stem)
            say(f"{label}: FAILED, {error}")
        else:
            settings = "".join(f", {name}={value}" for name, value in given.items())
            say(f"{label}: {seconds:.1f} s{settings}")
    say(f"{len(notebooks) - len(failures)} of {len(notebooks)} notebooks in {time.monotonic() - start:.0f} s")
    after = _snapshot(root, out)
    written = [path for path in sorted(after) if after[path] != before.get(path)]
    if written:
        rows = [{"written": _shown(path, root), "KiB": f"{path.stat().st_size / 1024:.1f}"} for path in written]
        say("\n" + _table(rows))
    if (root / "results" / "headline.json").exists():
        say("\n" + _table(headline(root / "results" / "headline.json")))
    if failures:
        say(f"\nfailed: {', '.join(failures)}")
    return failures


def headline(path: str | os.PathLike) -> list[dict]:
    """Read the headline numbers that the notebooks gather, for printing.

    Parameters
    ----------
    path : path
        JSON: a list of objects with ``name``, ``ours``, ``paper``, ``unit``, ``scale``, ``source``.

    Raises
    ------
    ValueError
        The file holds something else.
    """
    try:
        rows = json.loads(Path(path).read_text(encoding="utf-8"))
        return [{key: _number(row.get(key, "")) for key in HEADLINE_KEYS} for row in rows]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path} does not hold a list of headline numbers ({error}): delete it and run the notebooks again"
        ) from error


def _papermill():
    """papermill, imported when needed: it takes seconds."""
    try:
        import papermill
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "executing notebooks needs papermill: run make setup, or pip install 'dpo_lib[notebooks]'"
        ) from error
    return papermill


def _snapshot(root: Path, out: Path) -> dict[Path, int]:
    """Modification times of everything in figures/, results/ and the folder of executed copies."""
    files = {}
    for folder in {root / "figures", root / "results", out}:
        for path in folder.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                files[path.resolve()] = path.stat().st_mtime_ns
    return files


def _shown(path: Path, root: Path) -> str:
    root = root.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    """Aligned text, numbers to the right.

    >>> print(_table([{"name": "a", "KiB": "1.0"}, {"name": "long", "KiB": "10.5"}]))
    name   KiB
    a      1.0
    long  10.5
    """
    if not rows:
        return "(nothing)"
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(re.fullmatch(r"[-+.\d]*(e[-+]?\d+)?", cell) for cell in column[1:]) for column in columns]

    def aligned(line):
        cells = zip(line, widths, numeric, strict=True)
        return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in cells).rstrip()

    return "\n".join(aligned(line) for line in lines)
