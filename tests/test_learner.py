"""One step of training: network, loss, arithmetic."""

import math

import pytest
import torch
from tiny_runs import GAIN, HALF, TINY

from dpo_lib.models import NetworkConfig
from dpo_lib.training import build_network, loss_of, resolve_precision


def test_settings_reach_the_network():
    changes = {"generated": "norm(last)", "hidden": 3, "relu": False, "depthwise": True, "operator_code": "number"}
    network = build_network([GAIN, HALF], TINY.with_network(**changes))
    assert {name: getattr(network.config, name) for name in changes} == changes
    assert build_network(GAIN, TINY.with_network(trunk=[5, 2])).config.trunk == (5, 2)


def test_losses_by_hand():
    prediction, target = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    prediction[0] += 0.1
    prediction[1] += 0.01
    l2, psnr_db = loss_of(prediction, target, "l2")
    assert float(l2) == pytest.approx((1e-2 + 1e-4) / 2) and float(psnr_db) == pytest.approx(30, abs=1e-3)
    log_l2, _ = loss_of(prediction, target, "log_l2")
    assert float(log_l2) == pytest.approx((math.log(1e-2 + 1e-5) + math.log(1e-4 + 1e-5)) / 2, rel=1e-5)


def test_precision_is_decided_by_the_machine():
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu, NetworkConfig(width=32)) == torch.float32
    assert resolve_precision("auto", cpu, NetworkConfig(width=24)) == torch.float32
    with pytest.raises(ValueError, match="multiple of 16"):
        resolve_precision("bfloat16", cpu, NetworkConfig(width=24))
