"""The one command, on tiny made-up checkouts."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from dpo_lib import notebooks as module
from dpo_lib.commands.reproduce import main
from dpo_lib.notebooks import declared_parameters, execute_notebook, find_notebooks, headline, reproduce, tidy_notebook
from dpo_lib.records import output_folder

ROOT = Path(__file__).resolve().parents[1]
MAKES = """
import json, os
from pathlib import Path
import numpy as np
from PIL import Image
out = Path(os.environ["DPO_LIB_OUTPUT"])
(out / "figures").mkdir(parents=True, exist_ok=True)
(out / "results" / "notebook_tables").mkdir(parents=True, exist_ok=True)
pixels = np.random.default_rng(n_images).integers(0, 256, (30, 40), dtype=np.uint8)
Image.fromarray(pixels).save(out / "figures" / "02_picture.png")
(out / "results" / "notebook_tables" / "02_second.csv").write_text(f"value,psnr_db\\n0.02,{30 + n_images}\\n")
row = {"name": "average", "ours": 30.0 + n_images, "paper": None, "unit": "dB", "scale": "cpu", "source": "02_second"}
_ = (out / "results" / "headline.json").write_text(json.dumps([row]))
"""


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
    """Two notebooks with parameters, one of which makes a figure and a table, and a draft."""
    root = tmp_path / "checkout"
    write_notebook(
        root / "notebooks" / "01_first.ipynb",
        "print('first', scale, train)",
        parameters="scale = 'cpu'\ntrain = False",
    )
    write_notebook(
        root / "notebooks" / "02_second.ipynb",
        MAKES,
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


def committed(root):
    """What git would keep: bytes and times of all files but those in output/."""
    files = (path for path in root.rglob("*") if path.is_file() and root / "output" not in path.parents)
    return {path.relative_to(root).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_all_notebooks_at_their_defaults(checkout):
    before = committed(checkout)
    wrong, said = run(checkout)
    assert "[1/2] 01_first: " in said and "[2/2] 02_second: " in said and "2 of 2 notebooks in" in said
    copies = checkout / "output" / "notebooks"
    assert sorted(path.name for path in copies.iterdir()) == ["01_first.ipynb", "02_second.ipynb"]
    assert outputs(copies / "01_first.ipynb") == "first cpu False\n"
    assert outputs(copies / "02_second.ipynb") == "second 3\n"
    assert committed(checkout) == before
    assert wrong == ["02_second.csv", "headline.json (02_second)"]
    assert "0 figures alike, 1 DIFFERENT:\n  02_picture.png: not committed\n0 tables alike, 2 DIFFERENT" in said


def test_what_is_refreshed_is_alike_and_what_changes_is_named(checkout):
    source = (checkout / "notebooks" / "01_first.ipynb").read_bytes()
    wrong, said = run(checkout, only=["02"], refresh=True)
    assert wrong == [] and "refreshed: 02_second" in said and "alike" not in said
    assert sorted(set(committed(checkout))) == [
        "figures/02_picture.png", "notebooks/01_first.ipynb", "notebooks/02_second.ipynb", "notebooks/draft.ipynb",
        "results/headline.json", "results/notebook_tables/02_second.csv",
    ]  # fmt: skip
    assert outputs(checkout / "notebooks" / "02_second.ipynb") == "second 3\n"
    assert (checkout / "notebooks" / "01_first.ipynb").read_bytes() == source
    before = committed(checkout)
    wrong, said = run(checkout)
    assert wrong == [] and "1 figures alike\n2 tables alike" in said and "DIFFERENT" not in said
    assert committed(checkout) == before
    write_notebook(checkout / "notebooks" / "02_second.ipynb", MAKES, parameters="n_images = 4")
    before = committed(checkout)
    wrong, said = run(checkout)
    assert wrong == ["02_second.csv", "headline.json (02_second)"] and committed(checkout) == before
    assert "0 figures alike, 1 DIFFERENT:\n  02_picture.png: structural similarity" in said
    assert "  02_second.csv: psnr_db in row 1 is 34.0, committed 33.0\n" in said
    assert "  headline.json (02_second): ours in row 1 is 34.0, committed 33.0\n" in said
    assert said.endswith("make refresh replaces the committed ones")


def test_other_parameters_are_not_compared_and_refresh_nothing(checkout):
    run(checkout, refresh=True)
    before = committed(checkout)
    wrong, said = run(checkout, parameters={"n_images": 5})
    assert wrong == [] and "alike" not in said and "DIFFERENT" not in said
    with pytest.raises(ValueError, match="made without parameters, got n_images: leave them out"):
        run(checkout, parameters={"n_images": 5}, refresh=True)
    with pytest.raises(ValueError, match="holds what is committed: choose another folder"):
        run(checkout, out=checkout)
    assert committed(checkout) == before


def test_a_failed_notebook_refreshes_nothing(checkout):
    write_notebook(checkout / "notebooks" / "02_second.ipynb", MAKES, "1 / 0", parameters="n_images = 3")
    before = committed(checkout)
    wrong, said = run(checkout, only=["02"], refresh=True)
    assert wrong == ["02_second"] and "refreshed: nothing" in said
    assert committed(checkout) == before


def test_tidy_notebooks_repeat_byte_by_byte(checkout):
    source = checkout / "notebooks" / "01_first.ipynb"
    cell = "import sys\nfor i in range(3):\n    print(i)\n    sys.stdout.flush()"
    write_notebook(source, cell, parameters="scale = 1")
    tidy = []
    for number in range(2):
        execute_notebook(source, checkout / "executed.ipynb")
        tidy_notebook(checkout / "executed.ipynb", checkout / f"tidy{number}.ipynb")
        tidy.append((checkout / f"tidy{number}.ipynb").read_bytes())
    assert tidy[0] == tidy[1]
    first, second = nbformat.read(checkout / "tidy0.ipynb", as_version=4).cells
    assert first.metadata == {"tags": ["parameters"]} and second.metadata == {} and second.id == "cell-01"
    assert [part.text for part in second.outputs] == ["0\n1\n2\n"]


def test_notebooks_write_where_git_does_not_look(monkeypatch, tmp_path):
    monkeypatch.delenv("DPO_LIB_OUTPUT", raising=False)
    assert output_folder() == ROOT / "output"
    monkeypatch.setenv("DPO_LIB_OUTPUT", str(tmp_path))
    assert output_folder() == tmp_path
    if shutil.which("git") and (ROOT / ".git").exists():
        made = ["output/figures/a.png", "output/notebooks/a.ipynb", "output/results/headline.json", "figures/a.pdf"]
        done = subprocess.run(["git", "check-ignore", *made], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout.split() == made


def test_each_notebook_gets_the_parameters_it_declares(checkout):
    assert declared_parameters(checkout / "notebooks" / "01_first.ipynb") == {"scale", "train"}
    failures, said = run(checkout, parameters={"scale": "smoke", "n_images": 7}, out=checkout / "elsewhere")
    assert failures == [] and "s, scale=smoke" in said and "s, n_images=7" in said
    assert outputs(checkout / "elsewhere" / "notebooks" / "01_first.ipynb") == "first smoke False\n"
    assert outputs(checkout / "elsewhere" / "notebooks" / "02_second.ipynb") == "second 7\n"


def test_unknown_parameters_are_refused_before_anything_runs(checkout):
    with pytest.raises(ValueError, match="no chosen notebook has a parameter skale: they declare n_images, scale, tr"):
        run(checkout, parameters={"skale": "smoke"})
    with pytest.raises(ValueError, match="no chosen notebook has a parameter scale: they declare n_images"):
        run(checkout, parameters={"scale": "smoke"}, only=["02"])
    with pytest.raises(ValueError, match=r"01_first\.ipynb has no parameter skale: it declares scale, train"):
        execute_notebook(
            checkout / "notebooks" / "01_first.ipynb", checkout / "copy.ipynb", parameters={"skale": "smoke"}
        )
    assert not (checkout / "output").exists()


def test_it_continues_after_a_failing_notebook_and_keeps_the_last_good_copy(checkout):
    run(checkout, refresh=True)
    good = checkout / "output" / "notebooks" / "01_first.ipynb"
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
    _, said = run(checkout, only=["02"])
    assert re.search(r"\naverage +33 +- +dB +cpu +02_second\n", said)
    path = checkout / "headline.json"
    rows = [{"name": "L0", "ours": 33.456789, "paper": 35.25, "unit": "dB", "scale": "cpu", "source": "Table 1"}]
    path.write_text(json.dumps(rows))
    assert headline(path)[0]["ours"] == "33.46" and headline(path)[0]["paper"] == "35.25"
    for wrong in ("{", "[1, 2]", "3"):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"headline\.json does not hold a list of headline numbers .*: delete it"):
            headline(path)


def test_an_unwritable_output_folder_is_said_first(checkout, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"output folder .* cannot be written"):
        run(checkout, out=tmp_path / "file")


@pytest.mark.parametrize("saved_under", [{"name": "conda-env-mine-py", "language": "python"}, None])
def test_a_notebook_saved_under_another_kernel_runs_in_this_one(tmp_path, saved_under):
    write_notebook(tmp_path / "01_first.ipynb", "import sys; print(sys.executable)", parameters="scale = 'cpu'")
    notebook = nbformat.read(tmp_path / "01_first.ipynb", as_version=4)
    notebook.metadata.pop("kernelspec")
    if saved_under:
        notebook.metadata["kernelspec"] = {**saved_under, "display_name": "mine"}
    nbformat.write(notebook, tmp_path / "01_first.ipynb")
    execute_notebook(tmp_path / "01_first.ipynb", tmp_path / "out.ipynb", parameters={"scale": "smoke"})
    assert outputs(tmp_path / "out.ipynb").strip() == sys.executable


def test_missing_papermill(monkeypatch, checkout):
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs papermill: run make setup, or pip install 'dpo_lib\[noteb"):
        run(checkout)


def test_command_line(checkout, monkeypatch, capsys):
    monkeypatch.setattr(module, "checkout_folder", lambda: checkout)
    assert main(["--scale", "smoke", "--train", "-p", "n_images", "5"]) == 0
    said = capsys.readouterr().out
    assert "01_first" in said and "scale=smoke, train=True" in said and "n_images=5" in said
    assert outputs(checkout / "output" / "notebooks" / "01_first.ipynb") == "first smoke True\n"
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


def test_what_is_compared_is_made_by_one_thread(checkout, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    write_notebook(checkout / "notebooks" / "01_first.ipynb", "import os; print(os.environ['OMP_NUM_THREADS'])",
                   parameters="scale = 'cpu'")  # fmt: skip
    seen = []
    for name, settings in (("compared", {}), ("own", {"parameters": {"scale": "smoke"}})):
        run(checkout, out=tmp_path / name, only=["01"], **settings)
        seen.append(outputs(tmp_path / name / "notebooks" / "01_first.ipynb").strip())
    assert seen == ["1", "2"]
