"""The code that networks are fed, and what a call refuses."""

import pytest
import torch
from small_networks import CASES, LAMBDA, joint, network

from dpo_lib.models import DecoupledNetwork, NetworkConfig
from dpo_lib.models.parameterized import rescale


def test_codes_span_minus_one_to_one():
    values = torch.tensor([[0.002], [0.02], [0.2]])
    assert torch.allclose(rescale(values, [LAMBDA])[:, 0], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6)
    linear = rescale(values, [LAMBDA], rescaling="linear")[:, 0]
    assert torch.allclose(linear, torch.tensor([-1.0, 2 * 0.018 / 0.198 - 1, 1.0]), atol=1e-6)


def test_joint_networks_say_what_is_wrong():
    net, image = joint(), torch.rand(2, 3, 20, 24)
    with pytest.raises(ValueError, match="operator must be one of l0, shock, rtv, got None"):
        net(image, 0.02)
    with pytest.raises(ValueError, match="operator must be one of l0, shock, rtv, got 'l7'"):
        net(image, 0.02, operator="l7")
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.05\] for rtv, got 0.1"):
        net(image, 0.1, operator="rtv")
    with pytest.raises(ValueError, match="shock has no parameter"):
        net(image, 0.1, operator="shock")
    with pytest.raises(ValueError, match=r"one operator per image \(2\), got 1"):
        net(image, 0.02, operator=["l0"])
    with pytest.raises(ValueError, match="operator_code must be one of"):
        joint(operator_code="word")
    with pytest.raises(ValueError, match="at least one operator"):
        DecoupledNetwork({})
    with pytest.raises(ValueError, match="l0 needs parameters of different names, got lambda, lambda"):
        DecoupledNetwork([LAMBDA, LAMBDA], operator="l0")


def test_the_code_of_the_paper():
    """i/n for the i-th of n operators, then the parameters, zero where there is none."""
    net = joint(operator_code="number", rescaling="linear")
    rows = [net.gamma_code(value, operator=name)[0] for name, value in CASES]
    expected = [[1 / 3, -1, 0], [2 / 3, 0, 0], [1, 2 * 0.008 / 0.048 - 1, -0.6], [1 / 3, 1, 0]]
    assert torch.allclose(torch.stack(rows), torch.tensor(expected), atol=1e-6)


def test_bad_input():
    net, image = network(), torch.rand(2, 3, 20, 24)
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.2\] for l0, got 0.5"):
        net(image, 0.5)
    assert net(image, 0.3, check_range=False).shape == image.shape
    with pytest.raises(ValueError, match="one row of 1 per image"):
        net(image, [0.01, 0.02, 0.03])
    with pytest.raises(ValueError, match="at least 16 pixels"):
        net(torch.rand(1, 3, 12, 40), 0.02)
    with pytest.raises(TypeError, match="floating-point"):
        net(torch.zeros(1, 3, 20, 20, dtype=torch.uint8), 0.02)
    with pytest.raises(ValueError, match="shape"):
        net(torch.rand(3, 20, 20), 0.02)
    with pytest.raises(ValueError, match="finite"):
        net(image.clone().fill_(float("nan")), 0.02)
    with pytest.raises(ValueError, match="values must lie in"):
        net(image * 255, 0.02)
    with pytest.raises(ValueError, match="rescaling must be one of"):
        DecoupledNetwork([LAMBDA], rescaling="cubic")
    with pytest.raises(ValueError, match="width must be positive"):
        NetworkConfig(width=0)


def test_printing_a_network_says_what_it_is():
    text = repr(joint())
    assert text.count("\n") == 5 and text.startswith("DecoupledNetwork(")
    assert "l0 (lambda from 0.002 to 0.2); shock; rtv (lambda from 0.002 to 0.05, sigma from 1 to 6)" in text
    assert "dilated base network, 8 channels" in text and "10 convolutions" in text and "generated: conv(all)" in text
    assert f"{sum(tensor.numel() for tensor in joint().state_dict().values()):,} stored numbers" in text


def test_networks_learned_on_gray_pictures_answer_channel_by_channel():
    torch.manual_seed(3)
    net, image = joint(), torch.rand(3, 3, 20, 24)
    whole = net(image, 0.02, operator="l0")
    net.gray = ("l0", "rtv")
    channels = [image[:, [k]].expand_as(image) for k in range(3)]
    apart = torch.cat([net(one, 0.02, operator="l0")[:, [k]] for k, one in enumerate(channels)], dim=1)
    assert torch.allclose(net(image, 0.02, operator="l0"), apart, atol=1e-5) and (apart - whole).abs().max() > 1e-3
    assert torch.allclose(net.at(0.02, operator="l0")(image), apart, atol=1e-5)
    mixed = net(image, [[0.02, 0], [0, 0], [0.01, 2]], operator=["l0", "shock", "rtv"])
    assert torch.allclose(mixed[0], apart[0], atol=1e-5)
    assert torch.allclose(mixed[1], net(image[1:2], operator="shock")[0], atol=1e-5)
    assert torch.allclose(mixed[2], net(image[2:], (0.01, 2), operator="rtv")[0], atol=1e-5)
    gray = net(channels[0], 0.02, operator="l0")
    net.gray = ()
    assert torch.equal(net(channels[0], 0.02, operator="l0"), gray)  # what the benchmarks measure stays


def test_the_lambda_that_made_a_picture_is_found_by_gradient():
    """Within one percent, from a fifth of it."""
    torch.manual_seed(0)
    net, image = network(), torch.rand(1, 3, 20, 24)
    picture = net(image, 0.02)
    lam = torch.tensor(0.004, requires_grad=True)
    for _ in range(12):  # Newton steps in log lambda, for an error that falls to zero as a square
        difference = net(image, lam, check_range=False) - picture
        (slope,) = torch.autograd.grad(difference.square().sum(), lam)
        step = 2 * difference.square().sum().detach() / slope
        lam = (lam * torch.exp((-step / lam).clamp(-1, 1))).detach().requires_grad_()
    assert abs(lam.item() / 0.02 - 1) < 1e-2


def test_gradients_reach_every_form_of_value():
    net, image = network(), torch.rand(2, 3, 20, 24)
    lam = torch.tensor([0.01, 0.05], requires_grad=True)
    several = joint()
    for answer in (
        net(image, lam),
        net(image, list(lam)),
        net(image, lam[:, None]),
        several(image, lam, operator="l0"),
    ):
        (slope,) = torch.autograd.grad(answer.square().sum(), lam)
        assert bool((slope != 0).all())
    rows = torch.tensor([[0.02, 0.0], [0.01, 2.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(several(image, rows, operator=["l0", "rtv"]).square().sum(), rows)
    assert (slope != 0).tolist() == [[True, False], [True, True]]  # the first operator has one parameter
    epsilon, one = 1e-6, torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    exact, image = network().double(), image.double()
    (slope,) = torch.autograd.grad(exact(image, one).square().sum(), one)
    up, down = (exact(image, 0.02 * (1 + s * epsilon)).square().sum() for s in (1, -1))
    assert float(slope) == pytest.approx(float(up - down) / (2 * 0.02 * epsilon), rel=1e-4)
    assert not net(image.numpy()[0].transpose(1, 2, 0), one).flags.owndata  # arrays have no gradient, and no complaint


def test_values_that_a_network_cannot_take():
    net, several, image = network(), joint(), torch.rand(2, 3, 20, 24)
    with pytest.raises(ValueError, match="lambda counts in log scale and must be > 0, got 0"):
        net(image, 0, check_range=False)
    with pytest.raises(ValueError, match=r"l0 takes 1 value\(s\), then zeros, got the row"):
        several(image, [[0.02, 2], [0.01, 2]], operator=["l0", "rtv"])
    with pytest.raises(ValueError, match=r"one row of 2 value\(s\) each, 2 row\(s\), got shape \(2, 3\)"):
        several(image, [[0.02, 0, 1], [0.01, 2, 1]], operator=["l0", "rtv"])
    with pytest.raises(TypeError, match=r"the values of l0, shock, rtv must be a number.*got '0.02'"):
        several(image, "0.02", operator=["l0", "rtv"])
