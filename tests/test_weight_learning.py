"""Which tensors are generated."""

import pytest
import torch
from small_networks import joint

SPELLINGS = {
    "conv(all)": [f"conv{k}" for k in range(1, 11)],
    "norm(all)": [f"norm{k}" for k in range(1, 10)],
    "conv(9)": ["conv9"],
    "conv(8)": ["conv8"],
    "norm(5)": ["norm5"],
    "norm(last)": ["norm9"],
    "conv(last)": ["conv10"],
    "conv(4).in": ["conv4"],
    "conv(8).out": ["conv8"],
    "norm(2)+conv(3)": ["norm2", "conv3"],
    "norm(2)+conv(3-5)+conv(10-10)": ["norm2", "conv3", "conv4", "conv5", "conv10"],
    "none": [],
}


@pytest.mark.parametrize("where", SPELLINGS)
def test_exactly_the_named_tensors_follow_gamma(where):
    net, image = joint(generated=where), torch.rand(2, 3, 18, 21)
    first, second = net.weights(0.002, operator="l0"), net.weights(0.2, operator="l0")
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert sorted(changed) == sorted(SPELLINGS[where])
    for name in changed:
        if where.endswith((".in", ".out")):  # a slice of one input (or output) channel, the rest stays
            axis = 1 if where.endswith(".in") else 0
            assert torch.equal(*(w[name].narrow(axis, 1, w[name].shape[axis] - 1) for w in (first, second)))
    answers = net(image, torch.tensor([[0.002, 0], [0.2, 0]]), operator=["l0", "l0"])
    for answer, one, value in zip(answers, image, (0.002, 0.2), strict=True):
        assert torch.allclose(answer, net(one[None], value, operator="l0")[0], atol=1e-4)
    same = torch.equal(net(image, 0.002, operator="l0"), net(image, 0.2, operator="l0"))
    assert same == (where == "none")


@pytest.mark.parametrize("where", [w for w in SPELLINGS if w != "none"])
@pytest.mark.parametrize("code", ["number", "embedding"])
def test_gradients_reach_both_networks(where, code):
    net = joint(generated=where, operator_code=code).requires_grad_(True).train()
    values = torch.tensor([[0.01, 2.0], [0.01, 0]])
    net(torch.rand(2, 3, 17, 18), values, operator=["rtv", "l0"]).square().sum().backward()
    silent = {name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())}
    if "norm" not in where:
        assert not silent
    else:  # scale and shift that are generated replace the module's own: of all, or of some channels
        assert silent <= {"base_network.scale", "base_network.shift"}


def test_wrong_words_for_what_is_generated():
    single = ("conv", "conv(11)", "norm(10)", "norm(3).in", "conv(all).out", "conv(0)", "")
    several = ("conv(5-3)", "conv(1-11)", "norm(9-10)", "conv(all-3)", "conv(last-3)", "conv(2-3).in", "conv(2-)")
    for where in single + several:
        with pytest.raises(ValueError, match="generated must be"):
            joint(generated=where)


def test_networks_too_large_for_a_machine_are_not_begun():
    with pytest.raises(ValueError, match=r"a network of [\d,]+ numbers is too large, expected at most"):
        joint(width=4096, hidden=4096)
