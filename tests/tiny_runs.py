"""Pictures, operators and settings of trainings that take a second."""

import numpy as np
import torch

from dpo_lib import Operator, Parameter, TrainConfig
from dpo_lib.models import NetworkConfig
from dpo_lib.training import Phase

TINY = TrainConfig(
    scale="smoke",
    steps=12,
    network=NetworkConfig(width=4, dilations=(1, 2)),
    phases=(Phase(0.5, 0.5, 24, 3), Phase(0.5, 1.0, 32, 2)),
    entries_per_image=2,
    optimizer="adamw",
    learning_rate=1.5e-3,
    ema=0.999,
    precision="float32",
)


def pictures(n=3, height=66, width=80):
    """Smooth pictures with an edge and some noise, uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / width
    return [
        np.uint8(
            255
            * np.clip(
                0.5
                + 0.3 * np.sin(7 * x[..., None] + k) * (y[..., None] > 0.4)
                + 0.05 * rng.standard_normal((height, width, 3)),
                0,
                1,
            )
        )
        for k in range(n)
    ]


GAIN = Operator(
    name="gain",
    title="Gain",
    function=lambda image, gain: image * gain.view(-1, 1, 1, 1),
    parameters=(Parameter("gain", 0.2, 0.9),),
)
HALF = Operator(name="half", title="Half", function=lambda image: image / 2)
NOISE = Operator(
    name="noise",
    title="Noise",
    kind="restoration",
    function=lambda image, sigma, shift, generator: (
        image + sigma.view(-1, 1, 1, 1) * torch.randn(image.shape, generator=generator) + shift.view(-1, 1, 1, 1)
    ),
    parameters=(Parameter("sigma", 0.01, 0.1, sampling="log"), Parameter("shift", -0.1, 0.1)),
)
THREE = [GAIN, HALF, NOISE]


def same(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
