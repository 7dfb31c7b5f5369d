"""The form of a network, written to files and read from them."""

import json
from dataclasses import asdict

import pytest

from dpo_lib.models import NetworkConfig

FORMS = (
    {},
    {"width": 8, "dilations": (1, 2), "depthwise": True, "output": "direct", "padding": "zeros"},
    {"base": "pyramid", "widths": (4, 6), "blocks": 1, "tail": 3, "output": "gate"},
    {"base": "pyramid", "widths": (4, 6), "last_kernel": 1, "output": "gain", "equalised": True},
    {"generated": "norm(last)", "hidden": 4, "relu": False, "trunk": (64, 8), "operator_code": "embedding"},
)


@pytest.mark.parametrize("form", FORMS)
def test_comes_back_from_json(form):
    config = NetworkConfig(**form)
    stored = json.loads(json.dumps(asdict(config)))
    assert NetworkConfig.from_file(stored) == config
    assert NetworkConfig.from_file(stored).base_network().convolutions == config.base_network().convolutions


def test_files_from_before_base_networks_were_a_choice():
    old = {"width": 8, "dilations": [1, 2], "residual_output": False}
    assert NetworkConfig.from_file(old) == NetworkConfig(width=8, dilations=(1, 2), output="direct", padding="zeros")
    assert NetworkConfig.from_file({"dilations": [1]}).output == "residual"
    older = {"base": "pyramid", "widths": [4, 6], "wrap": 64}
    assert NetworkConfig.from_file(older) == NetworkConfig(base="pyramid", widths=(4, 6), border="wrap", margin=64)
    assert NetworkConfig.from_file({**older, "wrap": None}).border == "edge"
    assert "residual_output" in old  # what was handed in stays as it is
    with pytest.raises(ValueError, match=r"unknown setting\(s\) of a network: colour, wdith: update dpo_lib"):
        NetworkConfig.from_file({"wdith": 3, "colour": "red"})


def test_all_problems_are_said_at_once():
    with pytest.raises(ValueError) as refused:
        NetworkConfig(model="dcoupled", width=0, hidden=-1)
    for part in ("model must be one of decoupled", "width must be positive", "hidden must lie in"):
        assert part in str(refused.value)
    assert NetworkConfig(base="pyramid").normalised_by == "kernel"
    assert NetworkConfig(output="direct").last_is_zero is False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 100_000}, "width must be positive whole numbers up to 4096.*got 100000"),
        ({"width": True}, "width must be positive whole numbers"),
        ({"dilations": (1,) * 20_000}, "dilations must be .* at most 64 of them"),
        ({"dilations": 3}, "dilations must be .*got 3"),
        ({"blocks": 1000}, "blocks must be positive whole numbers up to 64"),
        ({"base": "pyramid", "widths": (4,) * 12}, "widths must be those of at most 8 levels, got 12"),
        ({"last_kernel": 2}, "last_kernel must be 1 or 3, got 2"),
        ({"equalised": 1}, "equalised must be a bool, got 1"),
        ({"tail": 1.5}, r"tail must lie in \[0, 4096\], got 1.5"),
        ({"margin": "64"}, "margin must lie in"),
        ({"border": "mirror"}, "border must be one of edge, symmetric, wrap, got 'mirror'"),
        ({"generated": None}, "generated must be a str, got None"),
        ({"relu": "no"}, "relu must be a bool, got 'no'"),
    ],
)
def test_settings_of_another_kind_or_without_measure(change, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**change)
