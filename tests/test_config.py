"""Settings of a run: the schedule, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_runs import TINY

from dpo_lib.training import SCALES, Phase


def test_schedule():
    config = replace(TINY, steps=1000, warmup=0.1, learning_rate=1e-2)
    rates = [config.learning_rate * config.rate_at(step) for step in range(1000)]
    assert rates[0] == pytest.approx(1e-4) and max(rates) == pytest.approx(1e-2) and rates[-1] < 2e-4
    assert np.argmax(rates) in (99, 100)
    assert [config.phase_at(step) for step in (0, 499, 500, 999)] == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": "5"}, "steps must be a whole number, got '5'"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"learning_rate": float("inf")}, "learning_rate must be finite, got inf"),
        ({"ema": None}, "ema must be finite, got None"),
        ({"phases": ((1, 1, 32, 2),)}, "phases Phases, got"),
        ({"network": None}, "network must be a NetworkConfig"),
    ],
)
def test_what_is_no_number(change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        replace(TINY, **change)
    with pytest.raises(TypeError, match="crop must be a whole number, got 32.5"):
        Phase(1, 1, 32.5, 2)


def test_every_scale_repeats_the_pixels_at_the_border():
    """Where zeros are padded, flat pictures and the outer pixels come back wrong."""
    assert {config.network.padding for config in SCALES.values()} == {"replicate"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"loss": "l3"}, "loss must be one of"),
        ({"phases": (Phase(0.5, 1, 32, 2),)}, "add up to 1"),
        ({"learning_rate": -1.0}, "must be positive"),
        ({"ema": 1.0}, r"lie in \[0, 1\)"),
        ({"precision": "float8"}, "precision must be"),
        ({"optimizer": "sgd"}, "optimizer must be one of"),
        ({"same_crop": 2}, r"divide every batch size \(\[3, 2\]\)"),
        ({"trained": "some"}, "trained must be one of"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)
