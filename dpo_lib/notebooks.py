"""The numbered notebooks of the checkout: find, execute with papermill, compare or refresh what is committed."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .comparison import HEADLINE, compare_figures, compare_tables, headlines_of
from .files import writable_folder, write_atomically
from .operators import OPERATORS
from .records import add_headline
from .text import format_table
from .training import SCALES

NUMBERED = re.compile(r"\d+_.+\.ipynb")
KERNEL = {"name": "python3", "language": "python"}  # this Python's, whatever kernel a notebook was saved under
PARAMETERS = ("scale", "train", "device", "operator", "images", "seed", "n_images")  # of every notebook
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
    _papermill()
    from papermill.inspection import _infer_parameters
    from papermill.iorw import load_notebook_node

    # not inspect_notebook, which asks for the kernel that it was saved under
    return {found.name for found in _infer_parameters(load_notebook_node(str(notebook)), **KERNEL)}


def check_parameters(given: Mapping[str, Any], *, operators: Collection[str] = tuple(OPERATORS)) -> None:
    """Refuse parameters that a notebook cannot use, before it computes anything: ``check_parameters(globals())``.

    Parameters
    ----------
    given : mapping
        The notebook's variables.
    operators : collection of str
        The names that ``operator`` may have.

    Raises
    ------
    ValueError
        A value that is not allowed, no such folder of images, no such device, or a name that papermill was given and
        that no notebook has; says what there is.
    """
    for cell in given.get("In", ()):
        if cell.startswith("# Parameters\n"):  # papermill's own cell
            assigned = [ast.unparse(node.targets[0]) for node in ast.parse(cell).body if isinstance(node, ast.Assign)]
            if unknown := [name for name in assigned if name not in PARAMETERS]:
                raise ValueError(f"there is no parameter {', '.join(unknown)}: there are {', '.join(PARAMETERS)}")
    for name, known in {"scale": SCALES, "train": (True, False), "operator": operators}.items():
        if not any(given[name] is value or (isinstance(value, str) and given[name] == value) for value in known):
            choices = ", ".join(str(value) or "''" for value in known)
            raise ValueError(f"{name} must be one of {choices}, got {given[name]!r}")
    for name, least in {"seed": 0, "n_images": 1}.items():
        if type(given[name]) is not int or given[name] < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {given[name]!r}")
    if given["images"] != "" and not Path(str(given["images"])).is_dir():
        raise ValueError(f"images must name a folder, got {given['images']!r}, where there is none")
    try:
        torch.empty(0, device=given["device"])
    except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(f"device must be one that PyTorch finds here, got {given['device']!r}: {reason}") from error


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
                kernel_name=KERNEL["name"],
                language=KERNEL["language"],
                cwd=str(notebook.parent),
            )
        except Exception as error:
            shutil.copyfile(temporary, failed)
            # papermill's own message is the whole traceback in colour; its last line says enough here
            what = f"{getattr(error, 'ename', type(error).__name__)}: {getattr(error, 'evalue', error)}"
            raise RuntimeError(f"{what.strip()} (see {failed})") from error
    failed.unlink(missing_ok=True)
    return time.monotonic() - start


def reproduce(
    *,
    root: str | os.PathLike | None = None,
    only: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
    out: str | os.PathLike | None = None,
    pdf: bool = False,
    refresh: bool = False,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Execute the notebooks one after the other, continuing after a failure, and compare or refresh what they make.

    Parameters
    ----------
    root : path, optional
        The checkout. Default: the one that this package is used from.
    only : sequence of str
        Beginnings of notebook names; none for all.
    parameters : mapping
        Each notebook gets those of them that it declares. One that no notebook declares is refused. With other
        parameters than a device, nothing is compared.
    out : path, optional
        Folder for figures/, results/ and the executed copies in notebooks/. Default: ``output`` in the checkout, which
        git ignores.
    pdf : bool
        Write each figure as PDF, too.
    refresh : bool
        Replace the committed figures, tables, headline numbers and notebook outputs by those just made, of every
        notebook that did not fail. Without it, nothing outside `out` is written.
    say : callable
        Takes the lines of the report.

    Returns
    -------
    list of str
        Names of the notebooks that failed and of the tables that differ. A figure that differs is only reported.

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
    if refresh and parameters:
        raise ValueError(f"what is committed is made without parameters, got {', '.join(parameters)}: leave them out")
    out = Path(out if out is not None else root / "output").resolve()
    if out == root.resolve():
        raise ValueError(f"{out} holds what is committed: choose another folder")
    writable_folder(out / "notebooks")
    start = time.monotonic()
    given = {path: {key: v for key, v in parameters.items() if key in names} for path, names in declared.items()}
    # what is compared is made by one thread: its sums have one order, and thresholds and t-SNE depend on last digits
    threads = {} if parameters else {"OMP_NUM_THREADS": "1"}
    with _environment(DPO_LIB_OUTPUT=str(out), DPO_LIB_PDF=str(int(pdf)), **threads):
        failures = _execute(given, out, say)
    good = [notebook.stem for notebook in notebooks if notebook.stem not in failures]
    say(f"{len(good)} of {len(notebooks)} notebooks in {time.monotonic() - start:.0f} s; what they made is in {out}")
    if (out / "results" / HEADLINE).exists():
        say("\n" + format_table(headline(out / "results" / HEADLINE)))
    differing = []
    if refresh:
        for name in good:
            _replace_committed(name, out, root)
        say(f"\nrefreshed: {', '.join(good) or 'nothing'}")
    elif not set(parameters) - {"device"}:
        differing = _compare(good, out, root, say)
    if failures:
        say(f"\nfailed: {', '.join(failures)}")
    return failures + differing


def _execute(given: Mapping[Path, Mapping[str, object]], out: Path, say: Callable[[str], None]) -> list[str]:
    """Execute notebooks with their parameters, after removing what earlier runs made; returns those that failed."""
    failures = []
    for number, (notebook, parameters) in enumerate(given.items(), 1):
        name, label = notebook.stem, f"[{number}/{len(given)}] {notebook.stem}"
        for old in (*out.glob(f"figures/{name[:2]}_*"), *out.glob(f"results/notebook_tables/{name}.csv")):
            old.unlink()
        try:
            seconds = execute_notebook(notebook, out / "notebooks" / notebook.name, parameters=parameters)
        except RuntimeError as error:
            failures.append(name)
            say(f"{label}: FAILED, {error}")
        else:
            say(f"{label}: {seconds:.1f} s" + "".join(f", {key}={value}" for key, value in parameters.items()))
    return failures


def _compare(names: Sequence[str], out: Path, root: Path, say: Callable[[str], None]) -> list[str]:
    """Report what of the notebooks' figures and tables differs from what is committed; returns the tables' names."""
    say("\nbeside what is committed:")
    found = {
        "figures": compare_figures(out / "figures", root / "figures", names),
        "tables": compare_tables(out / "results", root / "results", names),
    }
    for kind, total in found.items():
        say(f"{total.alike} {kind} alike" + (f", {len(total.different)} DIFFERENT:" if total.different else ""))
        for name, difference in total.different.items():
            say(f"  {name}: {difference}")
    if any(total.different for total in found.values()):
        say("make refresh replaces the committed ones")
    return list(found["tables"].different)


def _replace_committed(name: str, out: Path, root: Path) -> None:
    """Put what a notebook made, and its executed copy, in the place of what is committed."""
    pictures = [path for path in out.glob(f"figures/{name[:2]}_*") if path.suffix in (".png", ".webp")]
    for made in (*pictures, *out.glob(f"results/notebook_tables/{name}.csv")):
        with write_atomically(root / made.relative_to(out)) as temporary:
            shutil.copyfile(made, temporary)
    if (out / "results" / HEADLINE).exists():
        add_headline(root / "results" / HEADLINE, name, headlines_of(out / "results" / HEADLINE, name))
    with write_atomically(root / "notebooks" / f"{name}.ipynb") as temporary:
        tidy_notebook(out / "notebooks" / f"{name}.ipynb", temporary)


def tidy_notebook(executed: str | os.PathLike, output: str | os.PathLike) -> None:
    """Write an executed notebook without what changes from run to run, so that the same outputs give the same bytes."""
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"
        cell.metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        joined: list = []
        for part in cell.get("outputs", []):
            part.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
            if joined and part.output_type == "stream" and part.get("name") == joined[-1].get("name"):
                joined[-1].text += part.text  # what was printed comes in pieces, as time allows
            else:
                joined.append(part)
        if "outputs" in cell:
            cell["outputs"] = joined
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(notebook, output)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables for the kernels that start inside the block."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


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


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
