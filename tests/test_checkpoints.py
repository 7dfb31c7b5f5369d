"""Checkpoints: a finished or begun folder answers for no other run."""

import csv
from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, TINY, pictures

from dpo_lib import Operator, Parameter, train
from dpo_lib.training.checkpoints import LOG_COLUMNS, RunLog, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train(GAIN, pictures(), TINY, out=out, minutes=1e-9, progress=False)
    return out


def _other(image, gain):
    return image * gain.view(-1, 1, 1, 1) ** 2


OTHERS = {
    "config.seed: 0 there, 9 here": (GAIN, pictures(), replace(TINY, seed=9)),
    "config.network.width: 4 there, 8 here": (GAIN, pictures(), TINY.with_network(width=8)),
    r"gain.parameters.gain: \[0.2, 0.9, 'uniform'\] there, \[0.2, 0.8, 'uniform'\] here": (
        replace(GAIN, parameters=(Parameter("gain", 0.2, 0.8),)), pictures(), TINY,
    ),
    "'log'": (replace(GAIN, parameters=(Parameter("gain", 0.2, 0.9, sampling="log"),)), pictures(), TINY),
    "operators.gain.settings.strength": (replace(GAIN, settings={"strength": 2}), pictures(), TINY),
    "operators.gain.source": (replace(GAIN, function=_other), pictures(), TINY),
    "images: ": (GAIN, pictures(4), TINY),
}  # fmt: skip


@pytest.mark.parametrize("difference", OTHERS)
def test_another_run_is_refused_and_told_what_differs(folder, difference):
    operator, images, config = OTHERS[difference]
    with pytest.raises(ValueError, match=f"belongs to another run.*{difference}"):
        train(operator, images, config, out=folder, progress=False)


def test_the_same_run_is_resumed(folder):
    assert train(GAIN, pictures(), TINY, out=folder, progress=False).finished


def test_a_users_own_function_is_part_of_the_run(tmp_path):
    def own(factor):
        return Operator.from_function(lambda image: image * 0.5 if factor == 1 else image * 0.7, name="own")

    train(own(1), pictures(), replace(TINY, steps=1), out=tmp_path, progress=False)
    another = Operator.from_function(lambda image: image * 0.6, name="own")
    with pytest.raises(ValueError, match="operators.own.source"):
        train(another, pictures(), replace(TINY, steps=1), out=tmp_path, progress=False)


def test_flipped_bits_are_noticed_or_change_nothing(tmp_path):
    path, state = tmp_path / "checkpoint.pt", {"step": 7, "recent": [(0.25, 30.0)]}
    torch.manual_seed(0)
    network = torch.nn.Linear(20, 20)
    save_checkpoint(path, run={"seed": 1}, modules={"network": network}, state=state)
    whole, refused = path.read_bytes(), 0
    for position in range(5, len(whole), len(whole) // 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        again, found = torch.nn.Linear(20, 20), {}
        try:
            load_checkpoint(path, run={"seed": 1}, modules={"network": again}, state=found)
        except ValueError as error:
            assert "checkpoint.pt is not a readable checkpoint" in str(error)
            refused += 1
        else:
            assert found == state and torch.equal(again.weight, network.weight)
    assert refused > 30


def test_a_checkpoint_without_all_its_parts_is_named(tmp_path):
    path, network = tmp_path / "checkpoint.pt", torch.nn.Linear(2, 2)
    save_checkpoint(path, run={}, modules={}, state={"step": 7})
    with pytest.raises(ValueError, match="checkpoint.pt is not a readable checkpoint"):
        load_checkpoint(path, run={}, modules={"network": network}, state={})


def test_the_whole_rows_of_a_damaged_log_are_kept(tmp_path):
    path, header = tmp_path / "log.csv", ",".join(LOG_COLUMNS)
    path.write_text(f"{header}\n20,40,1,2,3,4\n40,80,1,2,3,4\n6")  # killed while it wrote the third row
    with pytest.warns(UserWarning, match="log.csv: left out 1 row"):
        RunLog(path, keep_until=65)
    with open(path, newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["step", "20", "40"]
    path.write_bytes(bytes(range(256)))
    with pytest.warns(UserWarning, match="log.csv"):
        RunLog(path, keep_until=65).add(80, 160, 1, 2, 3, 4)
    with open(path, newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["step", "80"]
