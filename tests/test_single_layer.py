"""Cheap tuning: the same answers as the whole network, and only the work that depends on the parameters."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dpo_lib.models import DecoupledNetwork, SingleLayerTuner
from dpo_lib.models.layers import Convolution
from dpo_lib.parameters import Parameter

OPERATORS = {
    "l0": [Parameter("lambda", 0.002, 0.2, sampling="log")],
    "shock": [],
    "rtv": [Parameter("lambda", 0.002, 0.05, sampling="log"), Parameter("sigma", 1, 6)],
}


def network(operators=OPERATORS, **changes):
    torch.manual_seed(0)
    net = DecoupledNetwork(operators, **{"width": 8, "dilations": (2, 4), "operator": "l0", **changes}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)


LATE = (
    "norm(last)",
    "norm(9)+conv(10)",
    "conv(9)",
    "conv(10)",
    "conv(10).in",
    "norm(9)+conv(10).out",
    "norm(8)+norm(9)",
)
MIDDLE = ("norm(1)", "norm(4)", "conv(4)", "norm(5)", "conv(5)", "norm(7)+conv(10)", "conv(6)", "conv(2)+norm(all)")


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("generated", LATE + MIDDLE)
def test_same_as_the_whole_network(generated, depthwise):
    net, image = network(generated=generated, depthwise=depthwise), torch.rand(2, 3, 37, 50)
    tuner = net.tuner(image)
    cases = (("l0", 0.002), ("l0", 0.2), ("shock", None), ("rtv", (0.01, 2.0)), ("l0", [0.002, 0.1]), ("l0", 0.002))
    answers = [tuner(operator=name, value=value) for name, value in cases]
    for (name, value), answer in zip(cases, answers, strict=True):
        assert torch.allclose(answer, net(image, value, operator=name), atol=1e-5)
    assert (answers[0] - answers[1]).abs().max() > 1e-3
    assert torch.equal(answers[0], answers[-1])  # no answer was overwritten by a later one


@pytest.mark.parametrize("settings", [{}, {"depthwise": True, "width": 16}, {"hidden": 5}, {"output": "direct"}])
def test_arrays_and_one_operator(settings):
    net = network(OPERATORS["l0"], generated="norm(last)", **settings)
    array = np.random.default_rng(0).random((33, 46, 3))
    for image in (array, np.uint8(array * 255)):
        answer, whole = net.tuner(image)(0.03), net(image, 0.03)
        assert answer.dtype == image.dtype
        assert np.allclose(answer, whole, atol=1 if answer.dtype == np.uint8 else 1e-5)


def test_batches_of_arrays_and_other_precisions():
    net = network(OPERATORS["l0"], generated="norm(last)")
    arrays = np.random.default_rng(0).random((2, 33, 46, 3))
    assert np.allclose(net.tuner(arrays)(0.03), net(arrays, 0.03), atol=1e-5)
    for precision in (torch.float16, torch.bfloat16, torch.float64):
        image = torch.from_numpy(arrays).permute(0, 3, 1, 2).to(precision)
        answer = net.tuner(image)(0.03)
        assert answer.dtype == precision and torch.allclose(answer, net(image, 0.03), atol=1e-2)


def test_only_the_last_convolution_runs():
    """Counted in multiplications: the paper's network spends 0.74 % of them there."""
    net = DecoupledNetwork(OPERATORS, generated="norm(last)").eval()
    image = torch.rand(1, 3, 48, 64)
    with FlopCounterMode(display=False) as whole:
        net(image, 0.02, operator="l0")
    with FlopCounterMode(display=False) as shared:
        tuner = net.tuner(image)
    with FlopCounterMode(display=False) as rest:
        tuner(0.02, operator="l0")
    last = 2 * 48 * 64 * 64 * 27
    assert rest.get_total_flops() == pytest.approx(last * 32 / 27, rel=0.01)  # 9 x 3 columns, filled up to 32
    assert shared.get_total_flops() == pytest.approx(whole.get_total_flops() - last, rel=1e-3)
    assert last / whole.get_total_flops() == pytest.approx(0.0074, abs=2e-4)


@pytest.mark.parametrize(("generated", "before", "after"), [("norm(4)", 4, 6), ("conv(4)", 3, 7), ("norm(9)", 9, 0)])
def test_layers_that_run(monkeypatch, generated, before, after):
    ran, call = [], Convolution.__call__
    monkeypatch.setattr(Convolution, "__call__", lambda self, *a: (ran.append(self.name), call(self, *a))[1])
    net = network(OPERATORS["l0"], generated=generated)
    tuner = net.tuner(torch.rand(1, 3, 20, 24))
    assert ran == [f"conv{k}" for k in range(1, before + 1)]
    ran.clear()
    tuner(0.02)
    assert ran == [f"conv{k}" for k in range(11 - after, 11)]  # norm(9): the last convolution is a matrix product


def test_memory_of_the_kept_features():
    image = torch.rand(1, 3, 40, 48)
    assert network(generated="norm(last)").tuner(image).memory_bytes == 4 * 8 * 40 * 48
    assert network(generated="norm(last)", width=16).tuner(image).memory_bytes == 4 * 16 * 40 * 48
    inside_a_block = network(generated="norm(4)").tuner(image).memory_bytes  # the skip connection is kept as well
    assert inside_a_block == 2 * 4 * 8 * 20 * 24


def test_what_cannot_be_shared():
    image = torch.rand(1, 3, 20, 24)
    for generated in ("conv(all)", "conv(1)", "conv(1).in+norm(9)", "conv(all)+norm(all)"):
        with pytest.raises(ValueError, match="generates the first convolution"):
            network(generated=generated).tuner(image)
    with pytest.raises(ValueError, match="generated='none'"):
        SingleLayerTuner(network(generated="none"), image)
    with pytest.raises(ValueError, match="at least 16 pixels"):
        network(generated="norm(9)").tuner(image[..., :10])
    tuner = network(generated="norm(9)").tuner(image)
    with pytest.raises(ValueError, match="operator must be one of l0, shock, rtv, got 'l7'"):
        tuner(0.02, operator="l7")
    with pytest.raises(ValueError, match="lambda must lie in"):
        tuner(0.5, operator="l0")


def test_tuners_of_networks_learned_on_gray_pictures():
    net = network(OPERATORS["l0"], generated="norm(last)")
    net.gray, image = ("l0",), torch.rand(2, 3, 20, 24)
    tuner = net.tuner(image)
    for value in (0.02, [0.002, 0.2]):
        assert torch.allclose(tuner(value), net(image, value), atol=1e-5)
    net.gray = ()
    assert (tuner(0.02) - net(image, 0.02)).abs().max() > 1e-3
    several = network(generated="norm(last)")
    several.gray = ("l0",)
    with pytest.raises(ValueError, match="a colour picture's channels are shared by l0 only: call the network"):
        several.tuner(image)
    gray = image[:, :1].expand_as(image)
    assert torch.allclose(several.tuner(gray)(0.02, operator="l0"), several(gray, 0.02, operator="l0"), atol=1e-5)


def test_several_threads_may_call_one_tuner():
    """Answers at many values, each thread in working memory of its own."""
    net = network(OPERATORS["l0"], generated="norm(last)", width=32)
    tuner, values = net.tuner(torch.rand(1, 3, 120, 160)), torch.logspace(-2.6, -0.7, 40).tolist()
    expected = [tuner(value) for value in values]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(tuner, values))
    for answer, wanted in zip(answers, expected, strict=True):
        assert torch.equal(answer, wanted)
    with torch.inference_mode():
        fresh = net.tuner(torch.rand(1, 3, 20, 24))
        inside = fresh(0.02)
    assert torch.equal(fresh(0.02), inside)
