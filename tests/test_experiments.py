"""The list of experiments against the paper and the operators; running, stopping, going on, and collecting them."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dpo_lib import SCALES, load_network, save_network, train
from dpo_lib.commands.experiments import main
from dpo_lib.data.rain import rain_of_pairs
from dpo_lib.evaluation import evaluate
from dpo_lib.experiments import paper
from dpo_lib.experiments.catalogue import EXPERIMENTS, VALUES
from dpo_lib.experiments.run import Runner, locked
from dpo_lib.experiments.store import State, Store
from dpo_lib.experiments.tables import collected_table, gains
from dpo_lib.images import save_image
from dpo_lib.metrics import psnr
from dpo_lib.operators import OPERATORS
from dpo_lib.records import read_rows
from dpo_lib.training.learner import build_network

pytestmark = pytest.mark.usefixtures("tiny_smoke_scale")

ONE_OF_EACH_TABLE = (
    "table1/l0/0.02", "table1/wls/numerous", "table2/denoise/25", "table3/restoration4", "table4/rtv/3",
    "table5/times", "table6", "table7", "table11/kernels", "table12/conv19.in", "table13/wls/hidden_relu",
    "table14/l0/numerous", "wrong_code", "beyond/llf/half_range", "inject/l0/adafm",
)  # fmt: skip


def pictures(n=2, height=18, width=23):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / width
    base = [0.5 + 0.3 * np.sin(9 * x[..., None] + k) * (y[..., None] > 0.4) for k in range(n)]
    return [np.uint8(255 * np.clip(b + 0.05 * rng.standard_normal((height, width, 3)), 0, 1)) for b in base]


@pytest.fixture
def folder(tmp_path):
    for number, picture in enumerate(pictures()):
        save_image(tmp_path / "images" / f"{number}.png", picture)
    return tmp_path


def command(folder, *words, out="out"):
    images = str(folder / "images")
    return main(["run", *words, "--images", images, "--tests", images, "--scale", "smoke", "--device", "cpu",
                 "--out", str(folder / out)])  # fmt: skip


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    """Computes the targets: others would have to be started first."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)


def runner_of(folder, **changes):
    images = str(folder / "images")
    store = Store(folder / "out", "smoke")
    return Runner(store, images=(images,), tests=images, limit=1, progress=False, **changes)


def record_of(folder, id_, out="out"):
    return json.loads((folder / out / "results" / "smoke" / "runs" / f"{id_}.json").read_text())


def test_one_of_each_table(folder, capsys):
    assert command(folder, *ONE_OF_EACH_TABLE, "--steps", "1") == 1  # end-point networks need two steps
    assert "inject/l0/adafm: failed, adafm trains at the two ends" in capsys.readouterr().out
    assert command(folder, "inject/l0/adafm") == 0
    rest = [id_ for id_ in ONE_OF_EACH_TABLE if not id_.startswith("inject")]
    assert command(folder, *rest, "--steps", "1") == 0  # all there
    assert "0 to run (14 chosen)" in capsys.readouterr().out
    assert main(["collect", "--out", str(folder / "out")]) == 0
    tables = folder / "out" / "results" / "smoke"
    assert sorted(path.stem for path in tables.glob("*.csv")) == sorted(
        ["table1", "table2", "table3", "table4", "table5", "table6", "table7_10", "table11", "table12", "table13",
         "table14", "wrong_code", "beyond", "inject"]
    )  # fmt: skip

    def cell(table, network, operator, value):
        [row] = [r for r in read_rows(tables / f"{table}.csv")
                 if (r["network"], r["operator"], r["value"]) == (network, operator, value)]  # fmt: skip
        return row

    ours = cell("table1", "single", "l0", 0.02)
    [of_record] = record_of(folder, "table1/l0/0.02")["rows"]
    assert ours["paper_psnr_db"] == 36.07 and ours["psnr_db"] == pytest.approx(of_record["psnr_db"])
    assert ours["images"] == 1 and ours["run"] == "table1/l0/0.02" and ours["test_set"] == "images"
    missing = cell("table1", "single", "l0", "average")  # four of the five are not there
    assert missing["psnr_db"] == "" and missing["paper_psnr_db"] == 36.11
    assert cell("table1", "single", "l0", 0.2)["psnr_db"] == "" and cell("table6", "BGU (paper)", "average", "average")
    numerous = [cell("table1", "numerous", "wls", value)["psnr_db"] for value in VALUES["wls"]]
    average = cell("table1", "numerous", "wls", "average")
    assert average["psnr_db"] == pytest.approx(np.mean(numerous), abs=1e-3) and average["paper_ssim"] == 0.99
    assert cell("table6", "single layer", "l0", "default")["paper_psnr_db"] == 31.81
    ten = [cell("table12", "conv(19).in", name, "default")["psnr_db"] for name in paper.TABLE6_OPERATORS]
    whole = cell("table12", "conv(19).in", "average", "average")
    assert whole["psnr_db"] == pytest.approx(np.mean(ten), abs=1e-3) and whole["paper_psnr_db"] == 30.03
    right, wrong = (cell("wrong_code", f"told {name}", "l0", "average") for name in ("l0", "wls"))
    assert (right["paper_psnr_db"], wrong["paper_psnr_db"]) == (34, 26) and right["psnr_db"] != wrong["psnr_db"]
    kernels = read_rows(tables / "table11.csv")
    assert len(kernels) == 20 and kernels[3]["correlation_same_start"] > 0.5 > abs(kernels[3]["correlation"])
    assert {row["network"] for row in read_rows(tables / "table5.csv")} == {"input channels", "whole network", "tuning"}


def test_a_record_says_what_made_it(folder):
    assert command(folder, "beyond/rgf/half_range", "--test-images", "2") == 0
    record = record_of(folder, "beyond/rgf/half_range")
    assert record["config"]["seed"] == 0 and record["samples"] == 4 and record["versions"]["torch"] and record["commit"]
    assert [file["file"] for file in record["files"]] == ["0.png", "1.png"] and len(record["files"][0]["sha256"]) == 64
    assert record["measured_on"]["images"]["files"] == record["files"] and record["wall_time_s"] >= 0
    assert [row["value"] for row in record["rows"]] == [1, 3.25, 7.75, 10]
    run_folder = folder / "out" / "runs" / "smoke" / "beyond" / "rgf" / "half_range"
    network = load_network(run_folder / "network.safetensors")
    assert (network.operators["rgf"][0].low, network.operators["rgf"][0].high) == (3.25, 7.75)
    with open(folder / "out/results/smoke/runs/beyond/rgf/half_range.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["value"] == "10"]
    mean = np.mean([float(row["psnr_db"]) for row in rows])
    assert len(rows) == 2 and record["rows"][-1]["psnr_db"] == pytest.approx(mean, abs=1e-3)
    facts = json.loads((run_folder / "run.json").read_text())
    assert facts["files"] == record["files"] and facts["scale"] == "smoke"  # what tools/ship_network.py reads


def test_tables_have_intervals_and_are_checked(folder, capsys):
    assert command(folder, "table2/denoise", "wrong_code", "--test-images", "2") == 0
    out = ("--out", str(folder / "out"))
    assert main(["collect", *out]) == 0
    table = folder / "out" / "results" / "smoke" / "table2.csv"
    rows = read_rows(table)
    numerous = [row for row in rows if (row["network"], row["operator"]) == ("numerous", "denoise")]
    for row in numerous:  # drawn from two images, the means are either's or half way
        assert row["psnr_low_db"] < row["psnr_db"] < row["psnr_high_db"]
        assert row["psnr_low_db"] + row["psnr_high_db"] == pytest.approx(2 * row["psnr_db"], abs=1e-3)
    gained = gains(table.parent, "table2", "single", "numerous")
    assert [(row["operator"], row["values"]) for row in gained] == [("denoise", 3)]
    single, many = (
        np.mean([row["psnr_db"] for row in rows if row["operator"] == "denoise" and row["network"] == network
                 and row["value"] != "average"])
        for network in ("single", "numerous")
    )  # fmt: skip
    assert gained[0]["gain_db"] == pytest.approx(single - many, abs=1e-3)
    assert gained[0]["low_db"] <= gained[0]["gain_db"] <= gained[0]["high_db"]
    assert gained[0]["paper_gain_db"] == pytest.approx((0.10 - 0.04 + 0.08) / 3)
    [told] = gains(table.parent, "wrong_code", "told l0", "told wls")
    assert told["values"] == 5 and told["low_db"] is not None

    capsys.readouterr()
    words = ["check", *out, "--scale", "smoke", "--tests", str(folder / "images"), "--device", "cpu", "--cells", "5"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "26 comparisons, 0 wrong; 0 cells" in said and "wrong_code: told wls, l0" in said and "2 images" in said
    text = table.read_text()
    first = next(row for row in rows if row["psnr_db"] != "")
    table.write_text(text.replace(f"{first['psnr_db']:.4f}", f"{first['psnr_db'] + 0.01:.4f}", 1))
    assert main([*words, "--cells", "99"]) == 1 and "WRONG" in capsys.readouterr().out
    table.write_text(text)
    path = folder / "out/results/smoke/runs/table2/denoise/25.csv"
    path.write_text(path.read_text().replace(f",{read_rows(path)[0]['psnr_db']:.4f},", ",33.0000,"))
    assert main([*words, "--cells", "99"]) == 1
    path.unlink()
    assert main([*words[:-2], "--cells", "99"]) == 0 and "; 1 cells cannot be compared" in capsys.readouterr().out


def test_same_seed_same_rows(folder):
    for out, *words in (("a",), ("b",), ("c", "--seed", "1")):
        assert command(folder, "table2/denoise/25", *words, out=out) == 0
    rows = [record_of(folder, "table2/denoise/25", out=out)["rows"] for out in "ab"]
    assert rows[0] == rows[1]
    path = folder / "c" / "results" / "smoke-seed1" / "runs" / "table2" / "denoise" / "25.json"
    other = json.loads(path.read_text())
    assert other["rows"] != rows[0] and other["config"]["seed"] == 1


def test_damaged_records_are_named_and_run_again(folder, capsys):
    assert command(folder, "table1/l0/0.02", "table1/l0/numerous") == 0
    path = folder / "out" / "results" / "smoke" / "runs" / "table1" / "l0" / "numerous.json"
    good = path.read_text()
    path.write_text(good[: len(good) // 2])
    with pytest.warns(UserWarning, match="is damaged .*table1/l0/numerous counts as not measured"):
        main(["collect", "--out", str(folder / "out")])
    table = read_rows(folder / "out" / "results" / "smoke" / "table1.csv")
    assert [row["run"] for row in table if row["psnr_db"] != ""] == ["table1/l0/0.02"]
    capsys.readouterr()
    with pytest.warns(UserWarning, match="is damaged"):
        assert command(folder, "table1/l0/0.02", "table1/l0/numerous") == 0
    assert "1 to run (2 chosen)" in capsys.readouterr().out
    assert json.loads(path.read_text())["rows"] == json.loads(good)["rows"]


def test_damaged_networks_are_named(folder, capsys):
    assert command(folder, "table1/l0/0.02") == 0
    path = folder / "out" / "runs" / "smoke" / "table1" / "l0" / "0.02" / "network.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    assert command(folder, "table1/l0/0.02", "--again") == 1
    assert "0.02/network.safetensors is damaged" in capsys.readouterr().out


def test_larger_runs_are_kept(folder, capsys):
    assert command(folder, "table1/l0/0.02", "--steps", "3") == 0
    path = folder / "out" / "results" / "smoke" / "runs" / "table1" / "l0" / "0.02.json"
    kept = path.read_bytes()
    capsys.readouterr()
    assert command(folder, "table1/l0/0.02") == 0  # two steps
    assert "0 to run (1 chosen)" in capsys.readouterr().out
    for words in (["--again"], ["--steps", "5"]):  # more is welcome, but not on top of it
        assert command(folder, "table1/l0/0.02", *words) == 1
        assert "holds a run with other settings: move it away" in capsys.readouterr().out
    (folder / "out" / "runs").rename(folder / "away")  # as in a new checkout, which has the records only
    assert command(folder, "table1/l0/0.02", "--again") == 0 and "0 to run" in capsys.readouterr().out
    assert path.read_bytes() == kept


def test_minutes_stop_and_the_same_command_continues(folder, monkeypatch, capsys):
    monkeypatch.setitem(SCALES, "smoke", replace(SCALES["smoke"], steps=60))
    experiment, runner = EXPERIMENTS["table2/deblock/10"], runner_of(folder)
    id_ = experiment.id
    assert command(folder, id_, "--minutes", "0") == 3 and "stopped: table2/deblock/10" in capsys.readouterr().out
    assert command(folder, id_, "--minutes", "0.002") == 3
    assert runner.state(experiment)[0] == State.BEGUN
    assert command(folder, id_) == 0
    assert command(folder, id_, out="whole") == 0
    assert record_of(folder, id_)["rows"] == record_of(folder, id_, out="whole")["rows"]
    runner.store.record(id_).unlink()
    assert runner.state(experiment) == (State.TRAINED, "not measured")


def test_measuring_continues_where_it_was_stopped(folder, monkeypatch, caplog):
    experiment, seen = EXPERIMENTS["table1/l0/numerous"], []

    def evaluate_and_stop(*args, values, **settings):
        seen.extend(values)
        monkeypatch.setattr("time.monotonic", lambda: 1e9 if len(seen) == 2 else 0)
        return evaluate(*args, values=values, **settings)

    monkeypatch.setattr("dpo_lib.experiments.run.evaluate", evaluate_and_stop)
    assert runner_of(folder, deadline=1e8).run(experiment) == State.STOPPED
    assert "trained, not measured to the end" in caplog.text and len(seen) == 2
    assert runner_of(folder).run(experiment) == State.FINISHED
    assert tuple(seen) == VALUES["l0"]


def test_networks_that_several_measure_are_trained_once(folder, capsys):
    assert command(folder, "table14/l0/numerous", "inject/l0/generated", "--steps", "1") == 0
    assert "3 to run (2 chosen)" in capsys.readouterr().out  # theirs is trained for another table, and is told of, too
    ids = ("table1/l0/numerous", "table14/l0/numerous", "inject/l0/generated")
    trained = [record_of(folder, id_)["trained"] for id_ in ids]
    assert trained[0] == trained[1] == trained[2]
    networks = (folder / "out" / "runs").rglob("network.safetensors")
    assert [str(path.parent.relative_to(folder)) for path in networks] == ["out/runs/smoke/table1/l0/numerous"]
    assert command(folder, "inject/l0/generated") == 1  # two steps, and the network is one of one step
    assert "holds a run with other settings: move it away" in capsys.readouterr().out


def test_only_one_process_at_a_network(folder, capsys):
    with locked(folder / "out" / "runs" / "smoke" / "table1" / "rtv" / "numerous"):
        assert command(folder, "table4/rtv/1", "--steps", "1") == 3
    assert "stopped, another process is at work in" in capsys.readouterr().out
    assert command(folder, "table4/rtv/1", "--steps", "1") == 0


def test_several_at_once(tmp_path, capfd):
    """As processes, which know nothing of this file's tiny scale."""
    for number, picture in enumerate(pictures(2, 130, 140)):
        save_image(tmp_path / "images" / f"{number}.png", picture)
    ids = ("table2/deblock/10", "table2/deblock/20", "table1/l0/0.02")
    (tmp_path / "out" / "runs" / "smoke").mkdir(parents=True)
    (tmp_path / "out" / "runs" / "smoke" / "table1").write_text("in the way")
    assert command(tmp_path, *ids, "--steps", "1", "--phases", "1,1,32,1", "--jobs", "2") == 1
    assert "failed: table1/l0/0.02" in capfd.readouterr().out
    for id_ in ids[:2]:
        config = record_of(tmp_path, id_)["config"]
        assert config["steps"] == 1 and config["phases"][0]["crop"] == 32  # the options reach the processes


def test_what_is_wrong_is_said(folder, capsys):
    assert command(folder, "table1/l0/nmerous") == 2
    assert "did you mean table1/l0/numerous" in capsys.readouterr().err
    words = ["run", "table1/l0/0.02", "--scale", "smoke", "--device", "cpu", "--out", str(folder / "out")]
    assert main(words) == 2 and "name their folders with --images" in capsys.readouterr().err
    assert main([*words, "--images", str(folder / "none")]) == 1 and "does not exist" in capsys.readouterr().out
    assert main([*words, "--images", str(folder / "images"), "--jobs", "0"]) == 2
    assert main([*words, "--images", str(folder / "images"), "--tests", str(folder / "none")]) == 1
    assert "folder of test images" in capsys.readouterr().out
    assert main(["list", "table5"]) == 0 and "table5/times" in capsys.readouterr().out
    assert main(["collect", "--out", str(folder / "empty")]) == 0 and "nothing is finished" in capsys.readouterr().out


def test_the_array_job_is_as_long_as_the_list(capsys):
    assert main(["list", "--networks"]) == 0
    ids = capsys.readouterr().out.split()
    example = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
    assert f"--array=0-{len(ids) - 1}%" in example and all(EXPERIMENTS[id_].trains for id_ in ids)


def test_rain_of_pairs(folder):
    """Trained with the training pairs' streaks, measured on the test pairs."""
    clean, rainy = pictures(2), []
    for number, picture in enumerate(clean):
        streak = np.zeros_like(picture)
        streak[:, 7 + number] = 60
        rainy.append(np.uint8(np.clip(picture.astype(int) + streak, 0, 255)))
        save_image(folder / "rain" / f"clean{number}.png", picture)
        save_image(folder / "rain" / f"rainy{number}.png", rainy[-1])
    table = "split,id,clean,light\ntrain,0,clean0.png,rainy0.png\ntest,1,clean1.png,rainy1.png\n"
    (folder / "rain" / "pairs.csv").write_text(table)
    gray = torch.full((1, 3, 80, 130), 0.5)
    shown, target = rain_of_pairs(folder / "rain").make_pair(gray, None, 3)
    assert torch.equal(target, gray) and shown.min() == 0.5
    assert shown.max() == pytest.approx(0.5 + 60 / 255, abs=1e-3)
    columns = (shown > 0.5).float().mean((0, 1, 2))
    assert set(columns.tolist()) == {0.0, 1.0} and 5 <= columns.sum() <= 7  # repeated in mirror image
    assert command(folder, "table3/derain", "--rain", str(folder / "rain")) == 0
    [row] = record_of(folder, "table3/derain")["rows"]
    assert row["input_psnr_db"] == pytest.approx(psnr(rainy[1], clean[1], on="luminance"), abs=1e-3)
    assert row["images"] == 1 and "test pairs" in row["test_set"]


def test_what_a_network_was_measured_on_is_not_measured_again(folder, monkeypatch):
    assert EXPERIMENTS["table4/rtv/1"].same_as == "table1/rtv/numerous"
    assert command(folder, "table1/rtv/numerous") == 0
    monkeypatch.setattr("dpo_lib.experiments.run.evaluate", None)
    assert command(folder, "table4/rtv/1") == 0
    assert record_of(folder, "table4/rtv/1")["rows"] == record_of(folder, "table1/rtv/numerous")["rows"]


def test_experiments_begin_with_a_networks_base(folder, capsys):
    start = train(OPERATORS["rgf"], pictures(), replace(SCALES["smoke"], steps=3), progress=False).network
    path = save_network(folder / "start.safetensors", start, card={"name": "start", "samples": 6})
    words = ("--bank-size", "2", "--phases", "1,1,16,1", "--initial", str(path))
    assert command(folder, "inject/l0/single_layer", "inject/l0/film", *words) == 0
    record = record_of(folder, "inject/l0/film")
    assert record["initial"] == {"name": "start", "samples": 6} and record["samples"] == 2
    assert record["config"]["bank_size"] == 2 and record["config"]["phases"][0]["batch_size"] == 1
    kept = list((folder / "out" / "runs" / "targets" / "l0").glob("*.png"))
    assert len(kept) == 2 + 9  # in the bank and at the tested values: the same for both networks, and computed once
    assert main(["collect", "--scale", "smoke", "--out", str(folder / "out")]) == 0
    rows = collected_table(folder / "out" / "results" / "smoke", "inject")
    assert {row["begun_with"] for row in rows if row["value"] != "average"} == {"start"}
    assert {row["network"] for row in rows} == {"single_layer", "film"}
    capsys.readouterr()
    assert command(folder, "inject/l0/film", *words[:-2], "--again") == 1  # a network that began otherwise is kept
    assert "holds a run with other settings: move it away" in capsys.readouterr().out
    assert command(folder, "inject/l0/adafm", "--initial", "nobody") == 1
    assert "there is no pretrained network 'nobody'" in capsys.readouterr().out
    wide = save_network(
        folder / "wide.safetensors", build_network(OPERATORS["rgf"], SCALES["smoke"].with_network(width=8))
    )
    assert command(folder, "inject/l0/adafm", "--initial", str(wide)) == 1
    assert "has another form than the one to train" in capsys.readouterr().out
