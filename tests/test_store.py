"""What lies where, and how far an experiment is."""

import json

import pytest

from dpo_lib.experiments.catalogue import EXPERIMENTS
from dpo_lib.experiments.store import State, Store


def test_places(tmp_path):
    store = Store(tmp_path, "cpu", seed=2)
    assert store.record("table1/l0/0.02") == tmp_path / "results" / "cpu-seed2" / "runs" / "table1" / "l0" / "0.02.json"
    assert store.folder("table4/rtv/1") == tmp_path / "runs" / "cpu-seed2" / "table4" / "rtv" / "1"
    assert store.network_folder("table4/rtv/1") == store.folder("table1/rtv/numerous")
    assert Store(tmp_path).name == "laptop"


def test_states_without_a_record(tmp_path):
    store, experiment = Store(tmp_path), EXPERIMENTS["inject/l0/adafm"]
    config = experiment.config()
    assert store.state(experiment, config).state == State.MISSING
    folder = store.folder(experiment.id)
    for end in ("low", "high"):
        (folder / end).mkdir(parents=True)
        (folder / end / "checkpoint.pt").write_bytes(b"")
        (folder / end / "log.csv").write_text("step,samples\n20,80\n40,160\n")
    assert store.state(experiment, config) == (State.BEGUN, f"about step 80 of {config.steps}")
    (folder / "network.safetensors").write_bytes(b"")
    assert store.state(experiment, config).state == State.TRAINED


def test_records_lack_nothing(tmp_path):
    store, experiment = Store(tmp_path), EXPERIMENTS["table1/l0/0.02"]
    path = store.record(experiment.id)
    path.parent.mkdir(parents=True)
    row = {"operator": "l0", "value": 0.02, "told": "", "psnr_db": 30.0}
    empty = dict.fromkeys(("scale", "config", "samples", "networks", "versions", "commit", "files"))
    record = {**empty, "id": experiment.id, "finished": True, "rows": [row]}
    path.write_text(json.dumps(record))
    assert store.read_record(experiment) == record
    changes = {
        "it lacks id": {key: value for key, value in record.items() if key != "id"},
        "another run's": {**record, "id": "table1/l0/0.2"},
        "1 of 1 measurements are missing": {**record, "rows": [{**row, "value": 0.2}]},
    }
    for message, damaged in changes.items():
        path.write_text(json.dumps(damaged))
        with pytest.raises(ValueError, match=f"is damaged .*{message}"):
            store.read_record(experiment)
