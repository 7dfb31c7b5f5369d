"""Small networks away from their initial state, so that every layer and every code matters."""

import torch

from dpo_lib.models import DecoupledNetwork
from dpo_lib.parameters import Parameter

LAMBDA = Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02)


def network(seed=0, **changes):
    """A small net away from its initial state, so that every layer and every code matters."""
    torch.manual_seed(seed)
    net = DecoupledNetwork([LAMBDA], operator="l0", **{"width": 8, "dilations": (2, 4), **changes}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)


RTV = [Parameter("lambda", 0.002, 0.05, sampling="log"), Parameter("sigma", 1, 6)]
THREE = {"l0": [LAMBDA], "shock": [], "rtv": RTV}
CASES = (("l0", 0.002), ("shock", None), ("rtv", (0.01, 2.0)), ("l0", 0.2))


def joint(seed=0, **changes):
    """A small joint net away from its initial state."""
    torch.manual_seed(seed)
    net = DecoupledNetwork(THREE, **{"width": 8, "dilations": (2, 4), **changes}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)
