"""Weights from one network to another."""

from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, THREE, TINY, pictures

from dpo_lib import train
from dpo_lib.images import to_tensor
from dpo_lib.models.transfer import all_weights, base_at_mid_range, copy_weights
from dpo_lib.training import build_network


@pytest.mark.parametrize("changes", [
    {"model": "film"}, {"generated": "norm(last)"}, {"generated": "conv(9).in"}, {"generated": "conv(9).out"},
    {"hidden": 5}, {"trunk": (6, 2)}, {"model": "base_only"}, {"output": "gate", "trunk": (6, 2)},
])  # fmt: skip
def test_beginning_in_the_middle_of_another_networks_range(changes):
    """Every form begins with the same function for every value and operator: the given network's at code zero."""
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network
    with torch.no_grad():  # far from the untrained state, in which the last layers are zero
        for weight in first.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    image = to_tensor(pictures()[0]).float()
    wanted = first(image, 0.55)  # the middle of 0.2 to 0.9
    base = base_at_mid_range(first).eval()
    assert torch.allclose(base(image, 0.2), wanted, atol=1e-5)
    for initial in (first, base):
        net = build_network(THREE, TINY.with_network(**changes)).eval()
        copy_weights(net, initial)
        for name, value in (("gain", 0.9), ("half", None), ("noise", [0.05, 0.05])):
            assert torch.allclose(net(image, value, operator=name), wanted, atol=1e-5)


@pytest.mark.parametrize("generated", ["conv(all)", "norm(last)"])
def test_a_network_that_sees_ranks_begins_with_the_others_kernels(generated):
    """The first kernels are those of the colours and the edge map; the ranks' own come last."""
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network.eval()
    net = build_network(GAIN, TINY.with_network(equalised=True, generated=generated)).eval()
    copy_weights(net, first)
    with torch.no_grad():
        for weight in net.weight_learning_network.fixed.values():
            weight[:, 4:] = 0 if weight.shape[1] == 5 else weight[:, 4:]
    image = to_tensor(pictures()[0]).float()
    assert torch.allclose(net(image, 0.2), first(image, 0.55), atol=1e-5)


@pytest.mark.parametrize("hidden", [(0, 0), (6, 6), (8, 6)])
@pytest.mark.parametrize("output", ["gain", "gate"])
def test_gains_begin_at_zero(output, hidden):
    config = replace(TINY, steps=3).with_network(hidden=hidden[0])
    first = train(GAIN, pictures(), config, progress=False).network.eval()
    net = build_network(GAIN, TINY.with_network(output=output, hidden=hidden[1])).eval()
    copy_weights(net, first)
    image = to_tensor(pictures()[0]).float()
    for value in (0.2, 0.9):  # with other heads it begins in the middle of the range
        wanted = first(image, value if hidden[0] == hidden[1] else 0.55)
        assert torch.allclose(net(image, value), wanted, atol=1e-5)


@pytest.mark.parametrize("hidden", [(0, 0), (6, 6), (8, 6)])
@pytest.mark.parametrize("output", ["gain", "gate", "residual"])
def test_one_gain_begins_as_the_mean_of_three(output, hidden):
    """Where the colours are alike, three gains do what their mean does, and one does what three of it do."""
    changes = {"base": "pyramid", "widths": (4, 6)}
    given = {"gain": "gate", "gate": "gain", "residual": "gate"}[output]
    config = replace(TINY, steps=3).with_network(**changes, hidden=hidden[0], output=given)
    first = train(GAIN, pictures(), config, progress=False).network.eval()
    with torch.no_grad():
        for weight in first.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    net = build_network(GAIN, TINY.with_network(**changes, hidden=hidden[1], output=output)).eval()
    copy_weights(net, first)
    gray = to_tensor(pictures()[0]).float().mean(1, keepdim=True).repeat(1, 3, 1, 1)
    image = gray * (output != "residual")  # a black picture is answered by the residual alone
    for value in (0.2, 0.9):
        wanted, found = first(image, value if hidden[0] == hidden[1] else 0.55), net(image, value)
        assert wanted.abs().max() > 1e-4
        assert torch.allclose(found.mean(1), wanted.mean(1), atol=3e-6)
        assert output == "gain" or torch.allclose(found, wanted, atol=3e-6)


def test_a_network_with_input_channels_begins_with_the_others_kernels():
    first = train(GAIN, pictures(), replace(TINY, steps=3), progress=False).network
    net = build_network(THREE, TINY.with_network(model="input_channels"))
    own = net.weight_learning_network.fixed["conv1"].clone()
    copy_weights(net, first)
    given = all_weights(first)
    assert torch.equal(net.weight_learning_network.fixed["conv1"][:, :4], given["conv1"])
    assert torch.equal(net.weight_learning_network.fixed["conv1"][:, 4:], own[:, 4:])
    assert torch.equal(net.weight_learning_network.fixed["conv7"], given["conv7"])
    with pytest.raises(ValueError, match="another form"):
        copy_weights(build_network(THREE, TINY), net)
    with pytest.raises(ValueError, match="expected a decoupled network"):
        base_at_mid_range(net)
