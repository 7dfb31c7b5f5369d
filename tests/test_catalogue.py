"""The list of experiments: each network once, and every one of them learns."""

from dataclasses import replace

import pytest
import torch
from tiny_runs import pictures

from dpo_lib import train
from dpo_lib.experiments.catalogue import EXPERIMENTS, find
from dpo_lib.training.learner import build_network

pytestmark = pytest.mark.usefixtures("tiny_smoke_scale")


def test_every_network_repeats_the_pixels_at_the_border():
    assert {entry.config().network.padding for entry in EXPERIMENTS.values()} == {"replicate"}


def test_no_network_is_trained_twice():
    networks = [entry for entry in EXPERIMENTS.values() if entry.trains]
    trained = [(e.operators, e.parameters, e.trained_range, e.config()) for e in networks]
    assert len(set(trained)) == len(trained)
    owners = {
        "table14/l0/numerous": "table1/l0/numerous",
        "table3/joint10/one_hot": "table3/joint10",
        "beyond/l0/five_values": "table14/l0/five_values",
        "table4/rtv/1": "table1/rtv/numerous",
    }
    assert {id_: EXPERIMENTS[id_].same_as for id_ in owners} == owners
    for entry in EXPERIMENTS.values():
        assert all(EXPERIMENTS[id_].trains for id_ in entry.networks)


def test_finding():
    assert [e.id for e in find(["table1/l0/0.02", "table6"])] == ["table1/l0/0.02", "table6/single_layer"]
    assert len(find(["table1/l0"])) == 6 and len(find(["table1/*/numerous"])) == 6 and len(find(["table1"])) == 36
    with pytest.raises(ValueError, match="no experiment 'table1/lo/numerous': did you mean table1/l0/numerous"):
        find(["table1/lo/numerous"])
    with pytest.raises(ValueError, match="no experiment 'qqq': python -m dpo_lib experiments list"):
        find(["qqq"])


@pytest.mark.parametrize("id_", [id_ for id_, experiment in EXPERIMENTS.items() if experiment.trains])
def test_every_network_can_be_built(id_):
    experiment = EXPERIMENTS[id_]
    for scale in ("smoke", "laptop"):
        config = experiment.config(scale)
        if config.network.base == "dilated":
            config = config.with_network(width=4)
        network = build_network(experiment.training_operators(), config)
        assert list(network.operators) == list(experiment.operators)
    for scale in ("cpu", "paper"):  # the settings are accepted there as well
        assert experiment.config(scale).scale == scale


def test_overrides_and_joint_steps():
    config = EXPERIMENTS["table3/joint10"].config("smoke", seed=1, steps=100, bank_size=7, phases=None)
    assert (config.steps, config.seed, config.bank_size) == (130, 1, 7)  # joint networks have more steps
    assert config.phases == EXPERIMENTS["table3/joint10"].config("smoke").phases
    cheap = EXPERIMENTS["table6/single_layer"].config("cpu").network
    assert cheap.width == 64 and cheap.depthwise and cheap.generated == "norm(last)"


def distinct():
    """One experiment of each kind of configuration: values and seeds make no difference to what is built and run."""
    kinds = {}
    for id_, experiment in EXPERIMENTS.items():
        if experiment.trains:
            config = experiment.config()
            kind = replace(config, values=config.values and (1.0,), seed=0)
            kinds.setdefault((experiment.operators, experiment.parameters, experiment.trained_range is None, kind), id_)
    return list(kinds.values())


@pytest.mark.parametrize("id_", distinct())
def test_every_kind_of_network_learns_a_step(id_):
    experiment = EXPERIMENTS[id_]
    config = replace(experiment.config("smoke", steps=1), entries_per_image=len(experiment.operators))
    if config.network.model in ("adafm", "interpolation"):
        config = replace(config, steps=2)
    operators, [picture] = experiment.training_operators(), pictures(1, 18, 23)
    before = build_network(operators, config).state_dict()
    result = train(operators, [picture], config, progress=False)
    after = result.network.state_dict()
    assert result.finished and all(bool(torch.isfinite(tensor).all()) for tensor in after.values())
    assert before.keys() != after.keys() or any(not torch.equal(before[name], after[name]) for name in after)
