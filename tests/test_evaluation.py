"""Evaluation: what is compared with what, for one operator and for a joint network."""

import dataclasses

import numpy as np
import pytest
import torch

from dpo_lib import Operator, Parameter, evaluate, psnr, summarise
from dpo_lib.evaluation import interval
from dpo_lib.models import DecoupledNetwork

GAIN = Operator(
    name="gain",
    title="Gain",
    function=lambda image, gain: image * gain.view(-1, 1, 1, 1),
    parameters=(Parameter("gain", 0.2, 0.9, test_values=(0.2, 0.5)),),
)
HALF = Operator(name="half", title="Half", function=lambda image: image / 2)
GRAY = Operator(
    name="gray",
    title="Gray",
    kind="restoration",
    function=lambda image, generator: (image + 0.1 * torch.randn(image.shape, generator=generator)).clamp(0, 1),
)
IMAGES = {name: np.random.default_rng(seed).random((20, 26, 3)) for seed, name in enumerate("ab")}


class Joint:
    """Remembers how it was called, and answers as the operators do."""

    def __init__(self):
        self.operators = {"gain": GAIN.parameters, "half": ()}
        self.calls = []

    def __call__(self, image, value=None, *, operator, check_range=True):
        self.calls.append((operator, value))
        return {"gain": GAIN, "half": HALF}[operator](image, value)


def test_a_joint_network_is_told_the_operator():
    network = Joint()
    rows = evaluate(network, GAIN, IMAGES)
    assert network.calls == [("gain", 0.2), ("gain", 0.5)] * 2
    assert all(row["psnr_db"] == float("inf") for row in rows)
    rows = evaluate(network, HALF, IMAGES)
    assert network.calls[4:] == [("half", None)] * 2 and [row["value"] for row in rows] == ["", ""]
    assert summarise(rows, by="operator")[0]["operator"] == "half"


def test_a_real_joint_network():
    net = DecoupledNetwork({"gain": GAIN.parameters, "half": ()}, width=4, dilations=(1,)).eval()
    rows = evaluate(net, HALF, IMAGES)  # untrained: gives the image back
    assert all(row["psnr_db"] == pytest.approx(row["input_psnr_db"]) for row in rows)
    with pytest.raises(ValueError, match="operator must be one of gain, half, got 'gray'"):
        evaluate(net, GRAY, IMAGES)


def test_one_operator_is_called_without_a_name():
    rows = evaluate(lambda image, value: GAIN(image, value), GAIN, IMAGES, values=[0.3])
    assert len(rows) == 2 and all(row["psnr_db"] == float("inf") for row in rows)


def test_what_psnr_is_measured_on():
    found = {on: evaluate(lambda image, value: image, GRAY, IMAGES, on=on) for on in ("rgb", "gray", "luminance")}
    means = {on: summarise(rows)[-1]["psnr_db"] for on, rows in found.items()}
    assert means["rgb"] < means["gray"] < means["luminance"]  # luma averages the noise, studio range shrinks it
    assert evaluate(lambda image, value: image, GRAY, IMAGES) == found["luminance"]
    to_gray = dataclasses.replace(GRAY, target=lambda image: image.mean(1, keepdim=True).expand_as(image))
    by_default = evaluate(lambda image, value: image, to_gray, IMAGES)  # a gray target is measured as it is
    assert by_default == evaluate(lambda image, value: image, to_gray, IMAGES, on="gray")


def test_pairs_come_ready_made():
    pairs = {"a": (IMAGES["b"], IMAGES["a"])}
    [row] = evaluate(lambda image, value: image, GRAY, pairs)
    assert row["psnr_db"] == row["input_psnr_db"] == psnr(IMAGES["b"], IMAGES["a"], on="luminance")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((2, 20, 26, 3)), ValueError, r"'wrong' must be one image, or a tuple .*\(2, 3, 20, 26\)"),
        ((np.zeros((20, 26, 3)), np.zeros((20, 25, 3))), ValueError, "'wrong' must be one image, or a tuple"),
        ((np.zeros((20, 26, 3)),) * 3, ValueError, "'wrong' must be one image, or a tuple"),
        ((), ValueError, "'wrong' must be one image, or a tuple"),
        (
            [np.zeros((20, 26, 3))] * 2,
            TypeError,
            "'wrong' cannot be measured on: image must be .* got list",
        ),
        (np.zeros((10, 26, 3)), ValueError, "'wrong' cannot be measured on: image must have at least 11 pixels"),
        (np.full((20, 26, 3), np.nan), ValueError, "'wrong' cannot be measured on: image must be finite"),
    ],
)
def test_an_image_that_cannot_be_measured_on_is_named_before_any_work(given, error, message):
    network = Joint()
    with pytest.raises(error, match=message):
        evaluate(network, GAIN, {**IMAGES, "wrong": given})
    assert not network.calls
    with pytest.raises(TypeError, match="images must be a dictionary of names and arrays, got list"):
        evaluate(network, GAIN, list(IMAGES.values()))


def test_nothing_to_evaluate_on():
    with pytest.raises(ValueError, match="no image to evaluate on"):
        evaluate(Joint(), GAIN, {})
    for values in ((), 0.5):
        with pytest.raises(ValueError, match="values must be a sequence of parameter values, at least one, got"):
            evaluate(Joint(), GAIN, IMAGES, values=values)
    with pytest.raises(ValueError, match="no row to summarise"):
        summarise([])


def test_the_interval_of_a_mean_over_images():
    """Against the standard error, for operators that share images and for those that do not."""
    numbers = np.random.default_rng(0).normal(30, 3, (2, 60))
    error = numbers.std(axis=1) / 60**0.5

    def rows(which, test_set, operator):
        return [{"operator": operator, "value": value, "image": k, "test_set": test_set, "psnr_db": x + value}
                for value in (1, 3) for k, x in enumerate(numbers[which])]  # fmt: skip

    def half_width(rows):
        mean, low, high = interval(rows)
        assert low < mean < high
        return mean, (high - low) / 2

    alone = half_width(rows(0, "a", "l0"))
    assert alone == pytest.approx((numbers[0].mean() + 2, 1.96 * error[0]), rel=0.06)
    assert alone[0] == pytest.approx(numbers[0].mean() + 2, abs=1e-9)
    shared = half_width(rows(0, "a", "l0") + rows(0, "a", "wls"))
    assert shared == pytest.approx(alone, rel=1e-9)  # the same pictures again: nothing is known better
    apart = half_width(rows(0, "a", "l0") + rows(1, "b", "denoise"))
    assert apart[0] == pytest.approx(numbers.mean() + 2, abs=1e-9)
    assert apart[1] == pytest.approx(1.96 * np.hypot(*error) / 2, rel=0.06)
    uneven = rows(0, "a", "l0") + rows(1, "b", "denoise")[:60]  # two values and one: operators weigh the same
    assert interval(uneven)[0] == pytest.approx(np.mean([numbers[0].mean() + 2, numbers[1].mean() + 1]))
    assert np.isnan(interval(rows(0, "a", "l0")[:1])[1:]).all()
    with pytest.raises(ValueError, match="nothing was measured"):
        interval([])
