"""Which loop trains a model."""

from dataclasses import replace

import torch
from tiny_runs import THREE, TINY, pictures, same

from dpo_lib import SCALES, train
from dpo_lib.training import Phase
from dpo_lib.training.trainers import planned_samples


def test_two_trainings_for_the_ends_of_a_range_round_their_phases_alone():
    config = replace(SCALES["cpu"], steps=250, phases=(Phase(0.65, 0.5, 160, 2), Phase(0.35, 1.0, 224, 1)))
    assert planned_samples(config) == 413  # 163 and 87 steps
    assert planned_samples(config.with_network(model="adafm")) == 412  # twice 81 and 44 steps


def test_a_training_does_not_depend_on_the_callers_mood_or_names():
    """Autocast, another default precision, and a block without gradients: the same weights."""
    config = replace(TINY, steps=2)
    wanted = train(THREE, pictures(), config, progress=False).network
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            named = dict(enumerate(pictures()))
            assert same(wanted, train(THREE, named, config, progress=False).network)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
