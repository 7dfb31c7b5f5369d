"""The optimisers: which weights Muon takes, and what its update is."""

from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, THREE, TINY, pictures, same

from dpo_lib import train
from dpo_lib.training import build_network
from dpo_lib.training.optimizers import Optimizer

PYRAMID = replace(TINY, optimizer="muon").with_network(
    base="pyramid", widths=(4, 6), blocks=1, generated="conv(all)+norm(all)"
)


def test_muon_takes_kernels_and_moves_them_by_orthogonal_matrices():
    net = build_network(GAIN, PYRAMID)
    optimizer = Optimizer(net, kind="muon", learning_rate=1e-3, muon_learning_rate=1e-2)
    count = len(net.base_network.convolutions)
    assert len(optimizer.matrices) == 2 * count  # A and B of each
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for p in net.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step(0.5)
    for name in ("bias", "weight"):
        moved = dict(net.named_parameters())[f"weight_learning_network.heads.conv2.{name}"]
        step = (moved - before[f"weight_learning_network.heads.conv2.{name}"]).detach().view(4, 36)
        values = torch.linalg.svdvals(step) / (0.5 * 1e-2)
        assert values.min() > 0.5 and values.max() < 1.3  # Newton-Schulz leaves them near 1
    assert not torch.equal(before["base_network.scale"], net.base_network.scale)
    assert all(p.grad is None for p in net.parameters())


def test_a_coordinate_without_gradient_stays():
    net = build_network(THREE, PYRAMID)
    optimizer = Optimizer(net, kind="muon", learning_rate=1e-3)
    head = net.weight_learning_network.heads["conv2"]
    for turn in range(2):
        before = head.weight.detach().clone()
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        if turn:
            head.weight.grad[:, 1] = 0
        optimizer.step(1.0)
        moved = (head.weight - before).abs().amax(0) > 0
        assert moved.tolist() == [True, not turn, True, True, True]


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_learning_and_going_on(tmp_path, kind):
    config = replace(PYRAMID, optimizer=kind, steps=8)
    whole = train(GAIN, pictures(), config, progress=False)
    part = train(GAIN, pictures(), config, out=tmp_path, minutes=1e-9, progress=False)
    assert not part.finished
    again = train(GAIN, pictures(), config, out=tmp_path, progress=False)
    assert same(whole.network, again.network)
    image = torch.rand(1, 3, 32, 40)
    assert (whole.network(image, 0.3) - image).abs().max() > 1e-4
