"""Checkpoints: a finished or begun folder answers for no other run."""

from dataclasses import replace

import pytest
from tiny_runs import GAIN, TINY, pictures

from dpo_lib import Operator, Parameter, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    train(GAIN, pictures(), TINY, out=out, minutes=1e-9, progress=False)
    return out


def _other(image, gain):
    return image * gain.view(-1, 1, 1, 1) ** 2


OTHERS = {
    "config.seed: 0 there, 9 here": (GAIN, pictures(), replace(TINY, seed=9)),
    "config.network.width: 4 there, 8 here": (GAIN, pictures(), TINY.with_network(width=8)),
    r"gain.parameters.gain: \[0.2, 0.9, 'uniform'\] there, \[0.2, 0.8, 'uniform'\] here": (
        replace(GAIN, parameters=(Parameter("gain", 0.2, 0.8),)), pictures(), TINY,
    ),
    "'log'": (replace(GAIN, parameters=(Parameter("gain", 0.2, 0.9, sampling="log"),)), pictures(), TINY),
    "operators.gain.settings.strength": (replace(GAIN, settings={"strength": 2}), pictures(), TINY),
    "operators.gain.source": (replace(GAIN, function=_other), pictures(), TINY),
    "images: ": (GAIN, pictures(4), TINY),
}  # fmt: skip


@pytest.mark.parametrize("difference", OTHERS)
def test_another_run_is_refused_and_told_what_differs(folder, difference):
    operator, images, config = OTHERS[difference]
    with pytest.raises(ValueError, match=f"belongs to another run.*{difference}"):
        train(operator, images, config, out=folder, progress=False)


def test_the_same_run_is_resumed(folder):
    assert train(GAIN, pictures(), TINY, out=folder, progress=False).finished


def test_a_users_own_function_is_part_of_the_run(tmp_path):
    def own(factor):
        return Operator.from_function(lambda image: image * 0.5 if factor == 1 else image * 0.7, name="own")

    train(own(1), pictures(), replace(TINY, steps=1), out=tmp_path, progress=False)
    another = Operator.from_function(lambda image: image * 0.6, name="own")
    with pytest.raises(ValueError, match="operators.own.source"):
        train(another, pictures(), replace(TINY, steps=1), out=tmp_path, progress=False)
