"""The baselines: behind the same call, trained by the same function, and each of the form it claims."""

from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, TINY, pictures

from dpo_lib import DecoupledNetwork, Parameter, load_network, save_network, train
from dpo_lib.images import to_tensor
from dpo_lib.models import MODELS, InputChannelNetwork, build_model, interpolated
from dpo_lib.models.weight_learning import Generated
from dpo_lib.training import Phase, build_network

SMALL = {"width": 8, "dilations": (2,)}
JOINT = {"a": [Parameter("x", 0, 1)], "b": [], "c": [Parameter("y", 1, 2), Parameter("z", 0.1, 10, sampling="log")]}


def shaken(net, seed=0):
    """Away from the initial state, in which a residual network ignores everything."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("model", MODELS)
def test_same_call_and_round_trip(tmp_path, model):
    net = shaken(build_model(JOINT, model=model, **SMALL))
    image = torch.rand(2, 3, 21, 34)
    names, values = ["a", "c"], torch.tensor([[0.3, 0.0], [1.5, 1.0]])
    together = net(image, values, operator=names)
    for index, value in enumerate((0.3, (1.5, 1.0))):
        alone = net(image[index : index + 1], value, operator=names[index])
        assert torch.allclose(together[index], alone[0], atol=1e-4)
    again = load_network(save_network(tmp_path / "net.safetensors", net, card={"a": 1}))
    assert type(again) is type(net) and again.card == {"a": 1} and again.config == net.config
    assert torch.equal(again(image, operator="b"), net(image, operator="b"))
    hears = not torch.equal(net(image, 0.0, operator="a"), net(image, 1.0, operator="a"))
    assert hears == (model in ("decoupled", "input_channels", "film"))
    with pytest.raises(ValueError, match="operator must be one of a, b, c, got 'd'"):
        net(image, operator="d")
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        net(image, 2.0, operator="a")


def test_input_channels_are_heard_everywhere():
    """Far from the borders too, where normalisation alone would cancel a constant picture."""
    net = shaken(build_model([Parameter("x", 0, 1)], model="input_channels", operator="a", width=8, dilations=(1,)))
    image = torch.rand(1, 3, 64, 80)
    assert net.base_network.convolutions[0].in_channels == 5
    assert (net(image, 0.0) - net(image, 1.0))[..., 28:36, 36:44].abs().max() > 1e-3
    fresh = build_model([Parameter("x", 0, 1)], model="input_channels", output="direct", **SMALL).train()
    fresh(image, 0.3).square().sum().backward()
    assert all(bool(p.grad.any()) for p in fresh.parameters())
    first = fresh.weight_learning_network.fixed["conv1"].grad
    assert bool(first[:, 4].any())  # the code's own channel


def test_film_generates_every_scale_and_shift_and_no_convolution():
    net = build_model(JOINT, model="film", **SMALL)
    count = len(net.base_network.convolutions)
    assert net.weight_learning_network.generated == tuple(Generated("norm", k) for k in range(1, count))


def test_interpolation_by_hand():
    parameter = Parameter("x", 0.01, 1, sampling="log")
    ends = [shaken(build_model({"a": [parameter]}, model="base_only", **SMALL), seed) for seed in (1, 2)]
    net, image = interpolated(*ends).eval(), torch.rand(1, 3, 20, 27)
    assert torch.allclose(net(image, 0.01), ends[0](image, 0.01), atol=1e-5)
    assert torch.allclose(net(image, 1.0), ends[1](image, 1.0), atol=1e-5)
    middle = net.weights(0.1)  # half way in the logarithm
    first, second = (end.weight_learning_network.fixed["conv3"] for end in ends)
    assert torch.allclose(middle["conv3"], (first + second) / 2, atol=1e-6)
    quarter = net.weights(10**-1.5)["norm2"][0]
    scales = [end.base_network.scale[8:16] for end in ends]
    assert torch.allclose(quarter, 0.75 * scales[0] + 0.25 * scales[1], atol=1e-6)
    linear = [build_model({"a": [parameter]}, model="base_only", rescaling="linear", **SMALL) for _ in range(2)]
    first, second = (end.weight_learning_network.fixed["conv3"] for end in linear)
    assert torch.allclose(interpolated(*linear).weights(0.505)["conv3"], (first + second) / 2, atol=1e-6)


def test_what_cannot_be_interpolated():
    ends = [build_model({"a": [Parameter("x", 0, 1)]}, model="base_only", **SMALL) for _ in range(2)]
    with pytest.raises(ValueError, match="the same form"):
        interpolated(ends[0], build_model({"a": [Parameter("x", 0, 1)]}, model="base_only", width=4, dilations=(2,)))
    with pytest.raises(ValueError, match="generated='none'"):
        interpolated(*[DecoupledNetwork({"a": [Parameter("x", 0, 1)]}, **SMALL)] * 2)
    with pytest.raises(ValueError, match="one operator with one parameter, got"):
        interpolated(*[build_model(JOINT, model="base_only", **SMALL)] * 2)
    with pytest.raises(ValueError, match="model must be one of decoupled, input_channels"):
        build_model(JOINT, model="best")
    with pytest.raises(ValueError, match="model must be one of"):
        TINY.with_network(model="best")


@pytest.mark.parametrize("model", [m for m in MODELS if m != "decoupled"])
def test_every_baseline_trains(model):
    config = replace(TINY, steps=60, learning_rate=1e-2, ema=0.9, phases=(Phase(1, 0.5, 32, 3),))
    config = config.with_network(model=model)
    net = train(GAIN, pictures(), config, progress=False).network
    assert isinstance(net, InputChannelNetwork if model == "input_channels" else DecoupledNetwork)
    image = to_tensor(pictures(4)[3])
    value = 0.55 if model == "base_only" else 0.2  # base_only hears no value: it is compared in the middle
    target = GAIN(image, value)
    start = (image - target).square().mean()  # an untrained network gives the image back
    assert (net(image, value) - target).square().mean() < 0.7 * start


def test_only_scale_and_shift_learn():
    config = replace(TINY, steps=2, trained="norm", ema=0.0).with_network(model="base_only")
    start = build_network(GAIN, config)
    torch.nn.init.normal_(start.weight_learning_network.fixed["conv10"])  # else nothing before it has a gradient
    net = train(GAIN, pictures(), config, progress=False, initial=start).network
    assert not torch.equal(net.base_network.scale, start.base_network.scale)
    before, after = (n.weight_learning_network.state_dict() for n in (start, net))
    assert all(torch.equal(before[name], after[name]) for name in before)
