"""What lies where, and how far an experiment is."""

import json
from dataclasses import replace

import pytest

from dpo_lib.experiments.catalogue import EXPERIMENTS
from dpo_lib.experiments.store import State, Store, comparable


def test_places(tmp_path):
    store = Store(tmp_path, "cpu", seed=2)
    assert store.record("table1/l0/0.02") == tmp_path / "results" / "cpu-seed2" / "runs" / "table1" / "l0" / "0.02.json"
    assert store.rows("table1/l0/0.02") == store.record("table1/l0/0.02").with_name("0.02.csv")
    assert store.folder("table4/rtv/1") == tmp_path / "runs" / "cpu-seed2" / "table4" / "rtv" / "1"
    assert EXPERIMENTS["table4/rtv/1"].networks == ("table1/rtv/numerous",)
    assert Store(tmp_path).name == "laptop"


def test_states_without_a_record(tmp_path):
    store, experiment = Store(tmp_path), EXPERIMENTS["inject/l0/adafm"]
    config = experiment.config()
    assert store.state(experiment, config) == (State.MISSING, "")
    folder = store.folder(experiment.id)
    (folder / "low").mkdir(parents=True)  # of a network that is interpolated between two
    (folder / "low" / "checkpoint.pt").write_bytes(b"")
    assert store.state(experiment, config) == (State.BEGUN, "")
    (folder / "network.safetensors").write_bytes(b"")
    assert store.state(experiment, config) == (State.TRAINED, "not measured")


def test_damaged_records_count_as_none(tmp_path):
    store, experiment = Store(tmp_path), EXPERIMENTS["table1/l0/0.02"]
    path = store.record(experiment.id)
    assert store.read_record(experiment) is None
    path.parent.mkdir(parents=True)
    row = {"operator": "l0", "value": 0.02, "told": "", "psnr_db": 30.0}
    path.write_text(json.dumps({"rows": [row]}))
    assert store.read_record(experiment) == {"rows": [row]}
    damages = {
        '{"rows": [': "Expecting value",
        "[1, 2]": "list indices",
        "{}": "'rows'",
        json.dumps({"rows": [{**row, "value": 0.2}]}): "1 of 1 measurements are missing",
    }
    for text, message in damages.items():
        path.write_text(text)
        with pytest.warns(UserWarning, match=f"is damaged .*{message}.* table1/l0/0.02 counts as not measured"):
            assert store.read_record(experiment) is None


def test_records_of_more_samples_are_enough(tmp_path):
    store, experiment = Store(tmp_path, "smoke"), EXPERIMENTS["table1/l0/0.02"]
    path = store.record(experiment.id)
    path.parent.mkdir(parents=True)
    row = {"operator": "l0", "value": 0.02, "told": ""}
    few, many = (experiment.config("smoke", steps=steps) for steps in (5, 10))
    path.write_text(json.dumps({"rows": [row], "config": comparable(few), "samples": few.samples}))
    assert store.state(experiment, few)[0] == store.state(experiment, replace(few, steps=4))[0] == State.FINISHED
    assert store.state(experiment, many) == (State.SMALLER, "10 samples where these settings have 20")
