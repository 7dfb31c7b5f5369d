"""Two processes and one: the same batches, the same weights."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from dpo_lib import OPERATORS, SCALES, load_network, save_image
from dpo_lib.randomness import seeded
from dpo_lib.training import build_network, loss_of
from dpo_lib.training.bank import Batch, TargetBank
from dpo_lib.training.learner import Learner
from dpo_lib.training.workers import Workers

RNG = np.random.default_rng(0)


def photographs(count=5, height=150, width=170):
    return [RNG.random((height // 10, width // 10, 3)).repeat(10, 0).repeat(10, 1) for _ in range(count)]


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(tmp_path):
    for number, image in enumerate(photographs()):
        save_image(tmp_path / "images" / f"{number}.png", image)
    training = ["-m", "dpo_lib", "train", "--operator", "l0", "--images", str(tmp_path / "images")]
    training += ["--scale", "smoke", "--steps", "5", "--device", "cpu", "--out"]
    together = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port=0"]
    together += ["--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # which torchrun sets by itself
    networks = []
    for name, launcher in (("one", []), ("two", together)):
        command = [sys.executable, *launcher, *training, str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("5 of 5 steps") == 1, "one process reports"
        networks.append(load_network(tmp_path / name / "network.safetensors"))
    start = build_network(OPERATORS["l0"], replace(SCALES["smoke"], steps=5))
    start, one, two = (torch.nn.utils.parameters_to_vector(n.parameters()) for n in (start, *networks))
    # Adam divides by the size of the gradient, so that rounding decides the few weights whose gradient is almost zero
    assert (two - one).norm() < 0.05 * (one - start).norm()
    image = torch.rand(1, 3, 40, 52, generator=seeded(9))
    answers = [network(image, 0.02) for network in networks]
    assert (answers[0] - answers[1]).abs().max() < 0.05 * (answers[0] - image).abs().max()
    assert networks[0].card["samples"] == networks[1].card["samples"] == 10
    logs = [(tmp_path / name / "log.csv").read_text().splitlines()[-1].split(",") for name in ("one", "two")]
    assert logs[0][:2] == logs[1][:2] and abs(float(logs[0][2]) - float(logs[1][2])) < 1e-3


def test_mean_gradient_of_the_parts_is_that_of_the_whole():
    config = SCALES["smoke"].with_network(output="direct")  # no zeros at the start: every gradient counts
    learner = Learner({"l0": OPERATORS["l0"]}, config, torch.device("cpu"), None)
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.rand(2, 4, 3, 32, 40, generator=generator)
    values = OPERATORS["l0"].sample(4, 1)

    def gradients(part):
        batch = Batch(images[part], targets[part], values[part], ["l0"] * len(values[part]))
        loss_of(learner.predict(batch), batch.target, config.loss)[0].backward()
        found = torch.cat([weight.grad.flatten() for weight in learner.weights])
        learner.network.zero_grad()
        return found

    whole, even, odd = (gradients(part) for part in (slice(None), slice(0, None, 2), slice(1, None, 2)))
    assert ((even + odd) / 2 - whole).norm() < 1e-4 * whole.norm()
    assert (even - odd).norm() > 0.01 * whole.norm()


def test_parts_of_a_bank_are_the_whole():
    images = photographs(6, 40, 50)
    settings = {"entries_per_image": 2, "crop": 16, "strata": 4, "progress": False}
    banks = [TargetBank(OPERATORS["l0"], images, part=part, **settings) for part in ((0, 1), (0, 2), (1, 2))]
    for bank in banks:
        bank.fill()
    whole, even, odd = (bank.batch(4, seeded(5)) for bank in banks)
    for field in ("input", "target", "value"):
        dealt = torch.stack([getattr(part, field) for part in (even, odd)], dim=1).flatten(0, 1)
        assert torch.equal(getattr(whole, field), dealt)
    held = [sum(entry.target is not None for entry in bank.entries) for bank in banks]
    assert held == [12, 6, 6]


def test_every_entry_can_be_drawn():
    bank = TargetBank(OPERATORS["l0"], photographs(5, 20, 24), entries_per_image=1, crop=16, strata=3, progress=False)
    choices = np.linspace(0, 1, 200, endpoint=False)
    drawn = [{bank._drawn(position, choice) for choice in choices} for position in range(3)]
    assert drawn == [{0, 3}, {1, 4}, {2}]
    few = TargetBank(OPERATORS["l0"], photographs(2, 20, 24), entries_per_image=1, crop=16, strata=3, progress=False)
    assert {few._drawn(0, choice) for choice in choices} == {0, 1}


def test_batches_that_cannot_be_dealt_out():
    workers = Workers(0, 4, torch.device("cpu"))
    workers.check_batches([4, 12])
    with pytest.raises(ValueError, match="batch_size must be a multiple of the number of processes, 4, got 6"):
        workers.check_batches([8, 6])


def test_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    workers = Workers.join(torch.device("cpu"))
    tensor = torch.ones(2)
    workers.average([tensor])
    assert workers.leads and workers.count == 1 and tensor.tolist() == [1, 1]
    assert workers.any(True) and not workers.any(False)
