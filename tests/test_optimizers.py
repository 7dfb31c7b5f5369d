"""The optimisers: which weights Muon takes, and what its update is."""

from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, THREE, TINY, pictures, same

from dpo_lib import train
from dpo_lib.training import build_network
from dpo_lib.training.optimizers import Muon, Optimizer, orthogonalised

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


def test_orthogonalised_is_the_polynomial_of_the_singular_values():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 20), (2, 20, 8)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        u, s, v = torch.linalg.svd(x / x.norm(dim=(1, 2), keepdim=True), full_matrices=False)
        for _ in range(5):
            s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
        torch.testing.assert_close(orthogonalised(x), u @ torch.diag_embed(s) @ v)
    assert torch.equal(orthogonalised(torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))


def test_muon_moves_as_torch_does():
    """Up to torch's bfloat16."""
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) for shape in ((6, 20), (6, 20), (12, 4))]
    ours, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    settings = {"lr": 0.1, "weight_decay": 0.1}
    pair = Muon(ours, **settings), torch.optim.Muon(theirs, **settings)
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in pair:
            optimizer.step()
    for start, one, other in zip(starts, ours, theirs, strict=True):
        assert (one - other).norm() < 0.02 * (other - start).norm()


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
