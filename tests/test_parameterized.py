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
