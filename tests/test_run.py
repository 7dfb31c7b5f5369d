"""The wrong operator's name, notebooks' networks, a second try for what failed; `test_experiments` has whole runs."""

import contextlib
import types

import pytest
import torch
from tiny_runs import pictures

from dpo_lib import OPERATORS, SCALES, save_network, train
from dpo_lib.experiments import run
from dpo_lib.experiments.catalogue import EXPERIMENTS, find
from dpo_lib.experiments.run import Runner, told_otherwise, trained_network
from dpo_lib.experiments.store import State, Store
from dpo_lib.images import to_tensor

pytestmark = pytest.mark.usefixtures("tiny_smoke_scale")


def test_told_the_wrong_operator():
    experiment = EXPERIMENTS["wrong_code/l0+wls"]
    images, config = pictures(2, 18, 23), experiment.config("smoke")
    network = train(experiment.training_operators(), images, config, progress=False).network
    image = to_tensor(images[0])
    right = network(image, 0.02, operator="l0")
    same, wrong = (told_otherwise(network, "l0", told)(image, 0.02) for told in ("l0", "wls"))
    assert torch.equal(right, same) and not torch.equal(right, wrong)
    as_wls = network(image, 1.0, operator="wls")  # both values are the middle of their range: the same code
    assert torch.allclose(wrong, as_wls, atol=1e-6)


def test_a_notebook_shows_the_experiments_network_or_trains_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "project_folder", lambda: tmp_path)
    monkeypatch.setenv("DPO_LIB_OUTPUT", str(tmp_path / "output"))
    images, filters = pictures(2, 18, 23), [OPERATORS[name] for name in ("l0", "llf", "rgf")]
    joint = trained_network("table3/filters6", filters, images, SCALES["smoke"])
    assert list(joint.operators) == ["l0", "llf", "rgf"] and "experiment" not in capsys.readouterr().out
    assert (tmp_path / "output" / "runs" / "smoke" / "table3" / "filters6" / "checkpoint.pt").exists()
    alone = train(OPERATORS["l0"], images, SCALES["smoke"], progress=False).network
    save_network(Store(tmp_path, "smoke").network("table1/l0/numerous"), alone)
    shown = trained_network("l0", OPERATORS["l0"], images, SCALES["smoke"])  # the name of an operator will do
    assert "the network of the experiment table1/l0/numerous, scale smoke" in capsys.readouterr().out
    image = to_tensor(images[0])
    assert torch.allclose(shown(image, 0.02), alone(image, 0.02), atol=0.01)  # kept in 16 bits


def test_what_failed_beside_others_is_tried_again_alone(tmp_path, monkeypatch, caplog):
    entries, calls = find(["table1/l0/0.02", "table1/l0/0.2", "table5/times"]), []

    def attempt(self, entry):
        calls.append((entry.id, self.progress))
        return State.FAILED if entry.id == "table1/l0/0.2" and not self.progress else State.FINISHED

    pool = types.SimpleNamespace(map=map)
    monkeypatch.setattr(run, "child_processes", lambda *_, **__: contextlib.nullcontext(pool))
    monkeypatch.setattr(Runner, "run", attempt)
    with caplog.at_level("INFO", "dpo_lib"):
        outcomes = Runner(Store(tmp_path, "smoke"), images=("x",)).run_all(entries, jobs=2)
    assert set(outcomes.values()) == {State.FINISHED} and len(outcomes) == 3
    beside, alone = (
        [("table1/l0/0.02", False), ("table1/l0/0.2", False)],
        [("table1/l0/0.2", True), ("table5/times", True)],
    )
    assert calls == beside + alone
    assert "3 of 3 done, at this pace 0 s to go" in caplog.text
