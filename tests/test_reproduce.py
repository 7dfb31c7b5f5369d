"""The one command, on tiny made-up checkouts."""

import json
import subprocess
import sys

import nbformat
import pytest

from dpo_lib import notebooks as module
from dpo_lib.commands.reproduce import main
from dpo_lib.notebooks import declared_parameters, execute_notebook, find_notebooks, headline, reproduce


def write_notebook(path, *cells, parameters=None):
    """A notebook of code cells; `parameters` is the source of the tagged one."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    if parameters is not None:
        notebook.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    notebook.cells.extend(nbformat.v4.new_code_cell(cell) for cell in cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    return "".join(o.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs)


@pytest.fixture
def checkout(tmp_path):
    """Two notebooks with parameters, one of which writes a figure, and files that are no notebooks of ours."""
    root = tmp_path / "checkout"
    write_notebook(
        root / "notebooks" / "01_first.ipynb",
        "print('first', scale, train)",
        parameters="scale = 'cpu'\ntrain = False",
    )
    write_notebook(
        root / "notebooks" / "02_second.ipynb",
        "from pathlib import Path\nPath('../figures').mkdir(exist_ok=True)\n"
        "_ = Path('../figures/picture.png').write_bytes(b'0' * 2048)",
        "print('second', n_images)",
        parameters="n_images = 3",
    )
    write_notebook(root / "notebooks" / "draft.ipynb", "raise RuntimeError('never run')")
    return root


def run(root, **settings):
    lines = []
    failures = reproduce(root=root, say=lines.append, **settings)
    return failures, "\n".join(lines)


def test_finding_notebooks(checkout, tmp_path):
    assert [path.stem for path in find_notebooks(checkout)] == ["01_first", "02_second"]
    assert [path.stem for path in find_notebooks(checkout, only=["02"])] == ["02_second"]
    with pytest.raises(ValueError, match="no notebook begins with '03', 'x': there are 01_first, 02_second"):
        find_notebooks(checkout, only=["01", "03", "x"])
    with pytest.raises(FileNotFoundError, match="no numbered notebook"):
        find_notebooks(tmp_path)


def test_outside_a_checkout(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "__file__", str(tmp_path / "site-packages" / "dpo_lib" / "notebooks.py"))
    assert main([]) == 2
    assert "not part of the installed package. Clone the repository" in capsys.readouterr().err


def test_all_notebooks_at_their_defaults(checkout):
    failures, said = run(checkout)
    assert failures == []
    assert "[1/2] 01_first: " in said and "[2/2] 02_second: " in said and "2 of 2 notebooks in" in said
    copies = checkout / "results" / "notebooks"
    assert sorted(path.name for path in copies.iterdir()) == ["01_first.ipynb", "02_second.ipynb"]
    assert outputs(copies / "01_first.ipynb") == "first cpu False\n"
    assert outputs(copies / "02_second.ipynb") == "second 3\n"
    for written in ("figures/picture.png", "results/notebooks/01_first.ipynb"):
        assert f"\n{written} " in said
    assert "  2.0" in said  # KiB of the figure
    assert not any(o for o in outputs(checkout / "notebooks" / "01_first.ipynb"))  # the source stays as it is


def test_each_notebook_gets_the_parameters_it_declares(checkout):
    assert declared_parameters(checkout / "notebooks" / "01_first.ipynb") == {"scale", "train"}
    failures, said = run(checkout, parameters={"scale": "smoke", "n_images": 7}, out=checkout / "elsewhere")
    assert failures == [] and "s, scale=smoke" in said and "s, n_images=7" in said
    assert outputs(checkout / "elsewhere" / "01_first.ipynb") == "first smoke False\n"
    assert outputs(checkout / "elsewhere" / "02_second.ipynb") == "second 7\n"


def test_unknown_parameters_are_refused_before_anything_runs(checkout):
    with pytest.raises(ValueError, match="no chosen notebook has a parameter skale: they declare n_images, scale, tr"):
        run(checkout, parameters={"skale": "smoke"})
    with pytest.raises(ValueError, match="no chosen notebook has a parameter scale: they declare n_images"):
        run(checkout, parameters={"scale": "smoke"}, only=["02"])
    with pytest.raises(ValueError, match=r"01_first\.ipynb has no parameter skale: it declares scale, train"):
        execute_notebook(
            checkout / "notebooks" / "01_first.ipynb", checkout / "copy.ipynb", parameters={"skale": "smoke"}
        )
    assert not (checkout / "results").exists()


def test_it_goes_on_after_a_failing_notebook_and_keeps_the_last_good_copy(checkout):
    run(checkout)
    good = checkout / "results" / "notebooks" / "01_first.ipynb"
    before = good.read_bytes()
    write_notebook(checkout / "notebooks" / "01_first.ipynb", "print('so far')", "raise ValueError('no such weights')")
    failures, said = run(checkout)
    assert failures == ["01_first"]
    assert "[1/2] 01_first: FAILED, ValueError: no such weights (see " in said
    assert "[2/2] 02_second: " in said and "1 of 2 notebooks" in said and said.endswith("failed: 01_first")
    failed = good.with_name("01_first.failed.ipynb")
    assert "so far" in outputs(failed) and good.read_bytes() == before
    write_notebook(checkout / "notebooks" / "01_first.ipynb", "print('mended')")
    assert run(checkout, only=["01"])[0] == []
    assert outputs(good) == "mended\n" and not failed.exists()
    assert not [path for path in good.parent.iterdir() if path.name.startswith(".")]


def test_headline_numbers_are_printed(checkout):
    rows = [
        {"name": "L0, average", "ours": 33.456789, "paper": 35.25, "unit": "dB", "scale": "cpu", "source": "Table 1"},
        {"name": "tuning", "ours": 12, "paper": None, "unit": "ms", "scale": "cpu", "source": "Table 5"},
    ]
    (checkout / "results").mkdir()
    path = checkout / "results" / "headline.json"
    path.write_text(json.dumps(rows))
    _, said = run(checkout, only=["02"])
    assert "L0, average" in said and "33.46" in said and "35.25" in said and "Table 5" in said
    assert headline(path)[1]["paper"] == "-"
    for wrong in ("{", "[1, 2]", "3"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"headline\.json does not hold a list of headline numbers .*: delete it"):
            headline(path)


def test_an_unwritable_output_folder_is_said_first(checkout, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"output folder .* cannot be written"):
        run(checkout, out=tmp_path / "file")


def test_missing_papermill(monkeypatch, checkout):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs papermill: run make setup, or pip install 'dpo_lib\[noteb"):
        run(checkout)


def test_command_line(checkout, monkeypatch, capsys):
    monkeypatch.setattr(module, "checkout_folder", lambda: checkout)
    assert main(["--scale", "smoke", "--train", "-p", "n_images", "5"]) == 0
    said = capsys.readouterr().out
    assert "01_first" in said and "scale=smoke, train=True" in said and "n_images=5" in said
    assert outputs(checkout / "results" / "notebooks" / "01_first.ipynb") == "first smoke True\n"
    assert main(["--only", "09"]) == 2
    assert "error: no notebook begins with '09'" in capsys.readouterr().err
    write_notebook(checkout / "notebooks" / "03_third.ipynb", "1 / 0")
    assert main(["--only", "03"]) == 1
    assert "FAILED, ZeroDivisionError" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--scale", "huge"])


def test_asking_for_cuda_where_there_is_none(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--device", "cuda"]) == 2
    assert "finds no CUDA device here: install a CUDA build (make help says how)" in capsys.readouterr().err


def test_help_runs_from_the_shell():
    done = subprocess.run([sys.executable, "-m", "dpo_lib", "reproduce", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--scale" in done.stdout
