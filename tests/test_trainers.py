"""Which loop trains a model."""

from dataclasses import replace

from dpo_lib import SCALES
from dpo_lib.training import Phase
from dpo_lib.training.trainers import planned_samples


def test_two_trainings_for_the_ends_of_a_range_round_their_phases_alone():
    config = replace(SCALES["cpu"], steps=250, phases=(Phase(0.65, 0.5, 160, 2), Phase(0.35, 1.0, 224, 1)))
    assert planned_samples(config) == 413  # 163 and 87 steps
    assert planned_samples(config.with_network(model="adafm")) == 412  # twice 81 and 44 steps
