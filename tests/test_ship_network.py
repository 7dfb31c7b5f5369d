"""The tool that puts a network into the package: all or nothing, and nothing before everything is measured."""

import json
import shutil
from dataclasses import replace

import pytest
from benchmark_scripts import TOOLS, load_script
from tiny_runs import TINY, pictures

from dpo_lib import OPERATORS, load_network, train
from dpo_lib.images import save_image
from dpo_lib.records import read_rows, write_json, write_rows
from dpo_lib.training.card import save_run

NEW = {"results/shipped/l0.csv", "results/shipped/l0.json", "results/shipped/l0_embedded.csv",
       "results/shipped/l0_embedded.json", "results/shipped/runs/l0.json", "results/shipped/runs/l0.csv"}  # fmt: skip
SHIPPED = {"dpo_lib/weights/l0.safetensors", "dpo_lib/weights/l0.md"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained network's folder, and a folder of test images beside it."""
    folder = tmp_path_factory.mktemp("run")
    config = replace(TINY, steps=1)
    result = train(OPERATORS["l0"], pictures(), config, out=folder, progress=False)
    save_run(folder, result, config, files=[{"file": "one.png"}], images=3)
    for name, picture in zip(("a/1.png", "b/1.png"), pictures(2, 40, 50), strict=True):
        save_image(folder / "tests" / name, picture)
    return folder


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """With a package of its own, which has an older l0; and quick pictures in place of scikit-image's."""
    tool = load_script("ship_network", TOOLS)
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "embedded_images", lambda: {"coffee": pictures(1, 40, 50)[0]})
    for name in SHIPPED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("old")
    return tool


def ship(tool, run, *words):
    return tool.main([str(run), "--training-set", "three", "--terms", "free", *words])


def files_of(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and path.suffix != ".png"}


def test_a_network_is_shipped_with_what_was_measured(tool, run, tmp_path, capsys):
    words = ("--test-images", str(run / "tests"), "--targets", str(tmp_path / "targets"), "--seen", "edges are soft.")
    assert ship(tool, run, *words) == 0
    assert files_of(tmp_path) == NEW | SHIPPED
    assert [row["image"] for row in read_rows(tmp_path / "results/shipped/l0.csv")][::5] == ["a/1.png", "b/1.png"]
    facts = json.loads((tmp_path / "results/shipped/l0.json").read_text())
    assert [file["file"] for file in facts["files"]] == ["a/1.png", "b/1.png"] and facts["model"]["name"] == "l0"
    card = (tmp_path / "dpo_lib/weights/l0.md").read_text()
    assert "| borders | the last pixels are repeated; a flat gray picture comes back off by up to" in card
    assert "On its contact sheet (`python tools/contact_sheet.py l0`): edges are soft." in card
    assert "Measured on 2 images of tests" in card and "| terms of the training images | free |" in card
    assert load_network(tmp_path / "dpo_lib/weights/l0.safetensors").card["training_set"] == "three"
    capsys.readouterr()


def test_rows_that_experiments_measured_are_kept(tool, run, tmp_path):
    folder, record = tmp_path / "experiment", tmp_path / "results/smoke/runs/table1/l0/numerous.json"
    shutil.copytree(run, folder)
    facts = json.loads((run / "run.json").read_text()) | {"id": "table1/l0/numerous", "scale": "smoke"}
    (folder / "run.json").write_text(json.dumps(facts))
    rows = [{"operator": "l0", "image": "a", "value": value, "told": "", "test_set": "tests", "psnr_db": 30.0 + value,
             "ssim": 0.9, "input_psnr_db": 20.0, "input_ssim": 0.5} for value in (0.02, 0.2)]  # fmt: skip
    write_json(record, {"seed": 0, "measured_on": {"tests": {"name": "tests", "images": 1, "files": [{"file": "a"}]}}})
    write_rows(record.with_suffix(".csv"), rows)
    assert ship(tool, folder, "--measured") == 0
    assert read_rows(tmp_path / "results/shipped/l0.csv") == read_rows(record.with_suffix(".csv"))
    card = (tmp_path / "dpo_lib/weights/l0.md").read_text()
    assert "Measured on 1 images of 1 of tests" in card and "experiments run table1/l0/numerous" in card


def test_nothing_is_changed_where_something_is_wrong(tool, run, tmp_path, capsys, monkeypatch):
    def refused(by, *words, folder=run):
        assert ship(tool, folder, *words) == 2 and by in capsys.readouterr().err
        assert files_of(tmp_path) == SHIPPED and all((tmp_path / name).read_text() == "old" for name in SHIPPED)

    refused("test does not exist", "--test-images", str(run / "test"))
    refused("does not exist", "--tests", str(run / "test"))
    refused("the test set photographs is not in", "--tests", str(run))
    refused("no weight file", "--test-images", str(run / "tests"), folder=run / "tests")
    refused("'id'", "--measured")  # a run of dpo_lib train, not of experiments
    monkeypatch.setattr(tool, "CARD", "{unknown}")
    refused("unknown", "--test-images", str(run / "tests"))
    with pytest.raises(SystemExit):
        ship(tool, run)
    with pytest.raises(SystemExit):
        ship(tool, run, "--measured", "--tests", str(run))


def test_killed_while_it_writes_it_leaves_the_old_weights_and_card(tool, run, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(tool.shutil, "copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        ship(tool, run, "--test-images", str(run / "tests"), "--targets", str(tmp_path / "targets"))
    assert all((tmp_path / name).read_text() == "old" for name in SHIPPED)
