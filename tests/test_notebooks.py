"""Every numbered notebook: its form, a run that really trains, and strict comparison that notices a wrong number."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from dpo_lib.data import embedded_images
from dpo_lib.experiments.catalogue import EXPERIMENTS
from dpo_lib.images import save_image
from dpo_lib.notebooks import PARAMETERS, check_parameters, declared_parameters, execute_notebook, find_notebooks
from dpo_lib.operators import OPERATORS
from dpo_lib.plotting import MAX_BYTES
from dpo_lib.records import read_rows

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = find_notebooks(ROOT)
# trained at smoke scale by the tests, one operator a notebook (all of 00's); MATRIX=1 tries every other one, shipped
TRAINED = {
    "00": "",
    "01": "denoise",
    "02": "l0",
    "03": "llf",
    "04": "deblock",
    "05": "pencil",
    "06": "super_resolution",
    "07": "sharpen",
}
TRAINED_NOW = ("03", "05")  # the others show the networks of `make paper`
GIVEN = {"scale": "laptop", "train": False, "device": "cpu", "operator": "l0", "images": "", "seed": 0, "n_images": 1}
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem[:2])


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook):
    return "".join(o.get("text", "") for cell in code_cells(notebook) for o in cell.outputs)


@every_notebook
def test_form(path):
    """Prose first, one cell of plain parameters, outputs of one clean run from top to bottom."""
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert notebook.cells[0].source.startswith(f"# {path.stem[:2]} ")
    assert len(cells) < 1.7 * (len(notebook.cells) - len(cells)), "hardly any prose"
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    assert declared_parameters(path) >= set(PARAMETERS) == GIVEN.keys()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not one clean run"
    assert printed(notebook), "no outputs: there is nothing to compare"
    assert not any(o.output_type == "error" for cell in cells for o in cell.outputs)
    assert all("nbval-skip" not in cell.metadata.get("tags", []) for cell in cells)


def test_the_repository_stays_light():
    """Pictures at the size at which they are seen; PDFs are made on demand."""
    figures = {path.name: path.stat().st_size for path in (ROOT / "figures").iterdir() if path.suffix != ".pdf"}
    limits = {".png": MAX_BYTES, "webp": 2_000_000}
    assert figures and not {name: size for name, size in figures.items() if size > limits[name[-4:]]}
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 6_000_000


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """A copy of the checkout in which `make paper` ran at smoke scale, on eight tiny photographs; and what it said."""
    copy = tmp_path_factory.mktemp("checkout") / "copy"
    for name in ("dpo_lib", "notebooks", "results", "figures"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    photographs = list(embedded_images().values())
    for number in range(8):
        photograph = photographs[number % len(photographs)][20 * number :, 20 * number :]
        save_image(copy / "photographs" / f"{number}.png", photograph[:144:4, :192:4].copy())
    settings = {
        "PY": sys.executable,
        "SCALE": "smoke",
        "DEVICE": "cpu",
        "IMAGES": "photographs",
        "TESTS": "photographs",
        "ONLY": "02",
        "RUN": "--steps 2 --phases 1,1,32,2",
    }
    words = ["make", "-o", "setup", "paper", *(f"{name}={value}" for name, value in settings.items())]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy, done.stdout


def test_rehearsal_of_the_paper(rehearsed):
    """`make paper` trains and measures everything, leaves no cell of its tables empty, and its notebooks show it."""
    copy, said = rehearsed
    ids = list(EXPERIMENTS)
    assert f"{len(ids)} to run" in said and f"{len(ids)} of {len(ids)} done, at this pace 0 s to go" in said
    assert "failed" not in said and said.count(": finished,") == len(ids)
    tables = {path.stem: read_rows(path) for path in (copy / "results" / "smoke").glob("*.csv")}
    assert {id_.partition("/")[0] for id_ in ids} - {"table7"} | {"table7_10"} == tables.keys()
    empty = [
        (name, row["network"], row["operator"], row["value"])
        for name, rows in tables.items()
        for row in rows
        if "psnr_db" in row and row["psnr_db"] == "" and "(paper)" not in row["network"]
    ]
    assert not empty
    assert "1 of 1 notebooks" in said and (copy / "output" / "figures" / "02_joint_training.png").exists()


@every_notebook
def test_shows_what_was_trained(path, rehearsed, tmp_path, monkeypatch, small_photographs):
    """`papermill NOTEBOOK OUT -p train True -p scale smoke -p images DIR`: the networks and tables of `make paper`, or,
    of another seed, networks that are trained now.
    """
    copy, _ = rehearsed
    monkeypatch.setenv("DPO_LIB_OUTPUT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(copy))
    before = {file: file.stat().st_mtime_ns for file in (copy / "figures").glob("*")}
    parameters = {"train": True, "scale": "smoke", "n_images": 1, "images": str(small_photographs)}
    parameters |= {"operator": TRAINED[path.stem[:2]], "seed": int(path.stem[:2] in TRAINED_NOW)}
    execute_notebook(copy / "notebooks" / path.name, tmp_path / "out.ipynb", parameters=parameters)
    assert list((tmp_path / "figures").glob(f"{path.stem[:2]}_*.png")) and list((tmp_path / "results").rglob("*.csv"))
    assert before == {file: file.stat().st_mtime_ns for file in (copy / "figures").glob("*")}
    shown = printed(nbformat.read(tmp_path / "out.ipynb", as_version=4))
    assert "not measured at this scale" not in shown
    if path.stem[:2] in TRAINED_NOW:
        assert "30/30" in (tmp_path / "out.ipynb").read_text(encoding="utf-8"), (
            "no training of 30 steps in the executed copy"
        )
    elif "trained_network" in path.read_text(encoding="utf-8"):
        assert "the network of the experiment table" in shown and "scale smoke" in shown


def until_checked(path, **given):
    """Execute a notebook's cells here, with other parameters, up to the cell that checks them."""
    names = {}
    for cell in code_cells(nbformat.read(path, as_version=4)):
        exec(cell.source, names)
        if "parameters" in cell.metadata.get("tags", []):
            names.update(given)
        if "check_parameters(globals()" in cell.source:
            return
    raise AssertionError("no cell checks the parameters")


@every_notebook
def test_parameters_are_checked_first(path, monkeypatch):
    with pytest.raises(ValueError, match=r"operator must be one of .*, got 'rtvv'"):
        until_checked(path, operator="rtvv")
    with pytest.raises(ValueError, match="scale must be one of smoke, .*, got 'huge'"):
        until_checked(path, scale="huge")
    shock = {"00": None, "02": None, "01": "l0, wls", "03": "l0, wls", "04": "l0, wls", "05": "l0, wls", "06": "l0"}
    shock["07"] = "tv, sharpen"
    if refused := shock[path.stem[:2]]:
        with pytest.raises(ValueError, match=rf"operator must be one of {refused}.*, got 'shock'"):
            until_checked(path, operator="shock")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train": "yes"}, "train must be one of True, False, got 'yes'"),
        ({"train": 1}, "train must be one of True, False, got 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"n_images": 0}, "n_images must be a whole number of at least 1, got 0"),
        ({"n_images": True}, "n_images must be a whole number of at least 1, got True"),
        ({"images": "no/such"}, "images must name a folder, got 'no/such', where there is none"),
        ({"device": "gpu"}, "device must be one that PyTorch finds here, got 'gpu'"),
        ({"device": "cuda:99"}, "device must be one that PyTorch finds here, got 'cuda:99'"),
        ({"In": ["", "# Parameters\nseed = 1\nsead = 2\n"]}, "there is no parameter sead: there are scale, train"),
    ],
)
def test_wrong_parameters(wrong, message):
    check_parameters(GIVEN | {"In": ["x = 1", "# Parameters\nseed = 1\n"], "sead": 1})
    with pytest.raises(ValueError, match=message):
        check_parameters(GIVEN | wrong)


def matrix():
    """Every notebook with every operator that it takes and is not trained with."""
    for path in NOTEBOOKS:
        for operator in OPERATORS:
            try:
                until_checked(path, operator=operator)
            except ValueError:
                continue
            yield pytest.param(path, operator, id=f"{path.stem[:2]}-{operator}")


@pytest.mark.skipif("MATRIX" not in os.environ, reason="an hour: MATRIX=1 runs it")
@pytest.mark.parametrize(("path", "operator"), list(matrix()) if "MATRIX" in os.environ else [(None, None)])
def test_every_operator_in_every_notebook(path, operator, tmp_path, monkeypatch, small_photographs):
    monkeypatch.setenv("DPO_LIB_OUTPUT", str(tmp_path))
    execute_notebook(path, tmp_path / "out.ipynb", parameters={"operator": operator, "images": str(small_photographs)})
    assert list((tmp_path / "figures").glob(f"{path.stem[:2]}_*.png"))


def test_a_wrong_number_is_noticed(tmp_path):
    """The comparison itself: the first cells of a notebook pass, and fail after one digit has changed."""
    notebook = nbformat.read(ROOT / "notebooks" / "03_continuous_parameters.ipynb", as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.get("outputs"))
    notebook.cells = notebook.cells[: last + 1]
    output = notebook.cells[last].outputs[0]
    assert "0.002" in output.text
    for number, text in enumerate((output.text, output.text.replace("0.002", "0.003"))):
        output.text = text
        nbformat.write(notebook, tmp_path / f"copy{number}.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-v", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    outcomes = [re.findall(rf"copy{number}::ipynb::Cell \d+ (PASSED|FAILED)", run.stdout) for number in (0, 1)]
    assert set(outcomes[0]) == {"PASSED"} and outcomes[1] == [*outcomes[0][:-1], "FAILED"], run.stdout
    assert "0.003" in run.stdout
