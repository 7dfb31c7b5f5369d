"""Models out of two trainings, one at each end of the range."""

from dataclasses import replace

import pytest
import torch
from tiny_runs import GAIN, HALF, TINY, pictures, same

from dpo_lib import train


@pytest.mark.parametrize("model", ["interpolation", "adafm"])
def test_two_ends_resume_and_say_how_far_they_are(tmp_path, model):
    config = replace(TINY, steps=7).with_network(model=model)
    whole = train(GAIN, pictures(), config, progress=False)
    assert whole.finished and whole.steps == 7 and whole.samples == 2 * 3 + 2 * 2 + 2 * 3 + 1 * 2
    part = train(GAIN, pictures(), config, out=tmp_path, minutes=1e-9, progress=False)
    assert not part.finished and part.steps == 0
    low = replace(config, steps=4, values=(0.2,)).with_network(model="base_only")
    train(GAIN, pictures(), low, out=tmp_path / "low", progress=False)
    resumed = train(GAIN, pictures(), config, out=tmp_path, progress=False)
    assert resumed.finished and same(whole.network, resumed.network)
    low, high = (whole.network.weights(value) for value in (0.2, 0.9))
    moved = {name for name in low if not torch.equal(low[name], high[name])}
    assert ("conv4" in moved) == (model == "interpolation") and "norm4" in moved


def test_ends_need_a_range():
    for operators in (HALF, [GAIN, HALF]):
        with pytest.raises(ValueError, match="one operator with one parameter"):
            train(operators, pictures(), TINY.with_network(model="adafm"), progress=False)
    with pytest.raises(ValueError, match="two ends of the range"):
        train(GAIN, pictures(), replace(TINY, values=(0.5,)).with_network(model="adafm"), progress=False)
