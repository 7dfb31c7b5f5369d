"""One step of training: network, loss, arithmetic."""

import math
from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, HALF, TINY

from dpo_lib.models import NetworkConfig
from dpo_lib.operators import OPERATORS
from dpo_lib.training import build_network, loss_of, resolve_precision
from dpo_lib.training.bank import Batch
from dpo_lib.training.config import Phase
from dpo_lib.training.learner import LOG_FLOOR, Learner


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


@pytest.mark.parametrize("kind", ["l2", "log_l2"])
def test_what_has_no_target_counts_for_nothing(kind):
    prediction, target = torch.rand(2, 3, 6, 8, requires_grad=True), torch.rand(2, 3, 6, 8)
    target[0, :, 4:], target[:, :, :, 5:] = math.nan, math.nan
    parts = [
        loss_of(prediction[[k]][..., :rows, :5], target[[k]][..., :rows, :5], kind) for k, rows in ((0, 4), (1, 6))
    ]
    loss, psnr_db = loss_of(prediction, target, kind)
    assert loss.item() == pytest.approx(sum(part[0].item() for part in parts) / 2)
    assert float(psnr_db) == pytest.approx(sum(float(part[1]) for part in parts) / 2)
    loss.backward()
    assert torch.equal(prediction.grad != 0, ~target.isnan())
    assert loss_of(prediction * math.nan, target, kind)[0].isnan(), "a network that fails must be noticed"


def test_precision_is_decided_by_the_machine():
    cpu = torch.device("cpu")
    assert resolve_precision("float32", cpu, NetworkConfig(width=32)) == torch.float32
    assert resolve_precision("auto", cpu, NetworkConfig(width=24)) == torch.float32
    with pytest.raises(ValueError, match="multiple of 16"):
        resolve_precision("bfloat16", cpu, NetworkConfig(width=24))


def test_networks_have_the_borders_of_their_operators():
    form = TINY.with_network(base="pyramid", widths=(4, 6))

    def borders(*names, form=form):
        network = build_network([OPERATORS[name] for name in names], form)
        base = network.base_network
        if form.network.base == "pyramid":
            assert (network.config.border, network.config.margin) == (base.border, base.margin)
        return base.border, base.margin

    assert (
        borders("l0") == ("wrap", 64) and borders("wls", "rtv") == ("symmetric", 16) and borders("wmf") == ("edge", 0)
    )
    assert borders("denoise", "derain") == ("symmetric", 0)  # whatever lies beyond, it does not change the answer
    assert borders("l0", "wls") == ("edge", 0) == borders("l0", form=TINY)
    assert borders("l0", form=form.with_network(margin=8)) == ("wrap", 8)
    assert borders("wls", form=form.with_network(border="edge")) == ("edge", 0)


def learner_and_batch(operators, network=None, **settings):
    config = replace(TINY.with_network(base="pyramid", widths=(4, 6), border="wrap", margin=16), **settings)
    learner = Learner(operators, config, torch.device("cpu"), network)
    shown = torch.rand(4, 3, 40, 40)
    values = torch.tensor([[0.3], [0.7], [0.3], [0.3]], dtype=torch.float64)
    return learner, Batch(shown, shown.roll(1, 0), values, ["gain"] * 4)


def test_a_step_in_bfloat16_takes_the_weights_that_the_one_before_has_left():
    """Autocast keeps converted weights until the outermost block ends, and trainings run inside one."""
    learner, batch = learner_and_batch({"gain": GAIN}, precision="bfloat16")
    with torch.autocast("cpu", enabled=False):
        before = learner.predict(batch)
        for step in range(3):
            learner.step(batch, step)
        inside = learner.predict(batch)
    assert torch.equal(inside, learner.predict(batch)) and not torch.equal(inside, before)


def test_images_of_one_value_go_together_and_answer_as_apart():
    learner, batch = learner_and_batch({"gain": GAIN})
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        together = learner.predict(batch)
        apart = [
            learner.network(image[None], float(value)) for image, value in zip(batch.input, batch.value, strict=True)
        ]
    assert torch.allclose(together, torch.cat(apart), atol=1e-5)


GENERATED = ("norm(last)", "conv(last)", "conv(3)+norm(all)", "conv(all)", "conv(2).out", "none")


@pytest.mark.parametrize("generated", GENERATED)
def test_operators_share_what_comes_before_the_first_generated_layer(generated):
    learner, batch = learner_and_batch({"gain": GAIN})
    config = replace(learner.config, same_crop=2, phases=(Phase(1, 1, 40, 4),)).with_network(generated=generated)
    learner = Learner({"gain": GAIN, "half": HALF}, config, torch.device("cpu"), None)
    with torch.no_grad():
        for parameter in learner.network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    names = ["gain", "half", "half", "gain"]
    value = batch.value * torch.tensor([[1], [0], [0], [1]])
    batch = batch._replace(input=batch.input[[0, 0, 1, 1]], operators=names, value=value)
    together = learner.predict(batch)
    code = learner.network.gamma_code(value, operator=names, batch=4)
    rows = zip(batch.input.split(1), code.split(1), strict=True)
    apart = torch.cat([learner.network.answer(image, own) for image, own in rows])
    assert torch.allclose(together, apart, atol=1e-5)
    assert torch.allclose(together[0], together[1], atol=1e-3) == (generated == "none")
    parameters = list(learner.network.parameters())
    pairs = (torch.autograd.grad(answer.square().sum(), parameters, allow_unused=True) for answer in (together, apart))
    for one, other in zip(*pairs, strict=True):
        assert (one is None) == (other is None) and (one is None or torch.allclose(one, other, rtol=1e-3, atol=1e-3))


def test_the_rim_of_a_crop_does_not_count():
    learner, batch = learner_and_batch({"gain": GAIN})
    loss, _ = learner.step(batch, 0)  # the untrained network gives the image back
    inside = (batch.input - batch.target)[..., 8:-8, 8:-8].square().flatten(1).mean(1)
    assert loss == pytest.approx(float(torch.log(inside + LOG_FLOOR).mean()), rel=1e-5)
    assert learner.average.base_network.margin == 16 and learner.network.base_network.margin == 0


def test_networks_know_which_operators_have_gray_pairs():
    from dpo_lib import OPERATORS

    colour = replace(OPERATORS["deblock"], settings={"on": "rgb"})
    assert build_network([OPERATORS["denoise"], OPERATORS["l0"], colour], TINY).gray == ("denoise",)
    assert build_network(GAIN, TINY).gray == ()
