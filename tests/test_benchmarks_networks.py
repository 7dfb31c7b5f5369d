"""The benchmarks of the networks run, and what they say fits together."""

import subprocess
import sys

import pytest
from benchmark_scripts import FOLDER, load_script


@pytest.fixture
def benchmark():
    return load_script


def test_inference(benchmark, tmp_path, capsys):
    from dpo_lib.records import read_rows

    script = benchmark("inference")
    names = ["l0_paper", "single_layer", "denoise", "channels10", script.PAPER]
    assert script.main(["--quick", "--networks", *names, "--out", str(tmp_path / "rows.csv")]) == 0
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["network"] for row in rows] == names
    for row in rows:
        assert row["gflop_s"] == pytest.approx(row["gflop"] / row["network_ms"] * 1000)
        assert row["share"] == pytest.approx(row["gflop_s"] / row["machine_gflop_s"])
        assert (row["tuner_ms"] != "") == (row["network"] == "single_layer")
        assert (row["operator_ms"] != "") == (row["network"] == "l0_paper")
        if row["operator_ms"] != "":
            assert row["operator_by_network"] == pytest.approx(row["operator_ms"] / row["network_ms"])
    assert rows[1]["tuner_gflop"] < 0.1 * rows[1]["gflop"]
    assert "threads" in capsys.readouterr().out
    with pytest.raises(ValueError, match="WIDTHxHEIGHT, got '5K'"):
        script.main(["--sizes", "5K"])


def test_training(benchmark, tmp_path):
    from dpo_lib.records import read_rows

    main = benchmark("training").main
    assert main(["--quick", "--layout", "both", "--out", str(tmp_path / "rows.csv")]) == 0
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["layout"] for row in rows] == ["channels_last", "contiguous"]
    for row in rows:
        assert row["loss_difference"] < 1e-4  # batched and one by one are the same step
        parts = sum(row[f"{name}_ms"] for name in ("batch", "forward", "backward", "update"))
        assert row["step_ms"] == pytest.approx(parts) and row["gflop_s"] > 0
        assert row["times_faster"] == pytest.approx(row["loop_step_ms"] / row["step_ms"])


def test_arithmetic_counted_by_hand(benchmark):
    """A step of a network with one block: three times the multiplications of its seven convolutions."""
    training = benchmark("training")
    config = training.replace(training.SCALES["cpu"], precision="float32").with_network(width=4, dilations=(1,))
    row = training.measure(config, crop=32, batch=2, device="cpu", seconds=0.01, layout="channels_last", compiled=False)
    full, half = 32 * 32, 16 * 16
    multiplications = full * 9 * (16 + 16 + 16 + 12) + half * (9 * (16 + 16 + 16) + 16 * 16)
    codes = 2 * sum([9 * 16] * 6 + [16 * 16, 9 * 12])  # the weights that two images' values generate
    assert row["step_gflop"] * 1e9 == pytest.approx(3 * 2 * (2 * multiplications + codes), rel=1e-3)


@pytest.mark.parametrize("name", ["inference", "training", "peers"])
def test_scripts_explain_themselves(name):
    found = subprocess.run([sys.executable, str(FOLDER / f"{name}.py"), "--help"], capture_output=True, text=True)
    assert found.returncode == 0 and "--quick" in found.stdout


@pytest.mark.parametrize("precisions", [["float32"], ["float32", "bfloat16"]])
def test_base_networks(benchmark, tmp_path, capsys, monkeypatch, precisions):
    from dpo_lib.records import read_rows

    script = benchmark("base_networks")
    monkeypatch.setattr(script, "bfloat16_pays", lambda device: "bfloat16" in precisions)
    assert script.main(["--quick", "--out", str(tmp_path / "rows.csv")]) == 0
    rows = read_rows(tmp_path / "rows.csv")
    bases = ["paper, 32 channels", "paper, 64 channels", "pyramid"]
    assert [(row["base"], row["precision"]) for row in rows] == [(base, kind) for base in bases for kind in precisions]
    assert rows[0]["of_paper32"] == 1
    for row in rows:
        assert row["share"] == pytest.approx(row["gflop_s"] / row["machine_gflop_s"])
        assert row["of_paper32"] == pytest.approx(row["ms"] / rows[0]["ms"])
    printed = capsys.readouterr().out
    assert all((f"{kind}_db" in printed) == (kind in precisions) for kind in ("float32", "bfloat16"))


def test_peers(benchmark, tmp_path):
    from dpo_lib.experiments.paper import TABLE6_OPERATORS
    from dpo_lib.records import read_rows

    script = benchmark("peers")
    assert script.main(["--quick", "--out", str(tmp_path / "rows.csv")]) == 0
    rows = read_rows(tmp_path / "rows.csv")
    methods = ["bilinear", "guided filter", "bilateral grid", "network single_layer"]
    assert [(row["operator"], row["method"]) for row in rows] == [(n, m) for n in TABLE6_OPERATORS for m in methods]
    assert all((row["reduced_ms"] > 0) == (row["method"] in script.METHODS) for row in rows)
    lines = script.table(rows)
    assert [line["method"] for line in lines] == methods
    mean = sum(row["psnr_db"] for row in rows if row["method"] == "bilinear") / len(TABLE6_OPERATORS)
    assert lines[0]["psnr_db"] == pytest.approx(mean)


def test_receptive_fields(benchmark, tmp_path, capsys):
    from dpo_lib.records import read_rows

    script = benchmark("receptive_fields")
    assert script.main(["--quick", "--networks", "l0_paper", "--out", str(tmp_path / "rows.csv")]) == 0
    rows = read_rows(tmp_path / "rows.csv")
    assert len(rows) == 2 * len(script.KINDS) * script.VALUES and {row["source"] for row in rows} == {
        "operator",
        "l0_paper",
    }
    one = {"source": "l0", "value": 0.02, "kind": "non-edge"}
    found = [{**one, "area": area} for area in (4, 1, 2, 3, 5)]
    others = [{**one, "kind": kind, "area": 7} for kind in ("moderate edge", "strong edge")]
    assert script.quartiles(found + others)[0]["non-edge"] == "3 (2, 4)"
    assert "operator    0.002" in capsys.readouterr().out


def test_intervals_hold_the_mean(benchmark):
    interval = benchmark("peers").interval
    low, high = interval([30.0, 31.0, 32.0, 33.0, 34.0] * 20)
    assert low < 32 < high and 0.4 < high - low < 0.7  # 4 standard errors of 0.14
    assert interval([30.0, 30.0]) == (30, 30)
