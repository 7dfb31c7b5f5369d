"""What is measured of a joint network that is told the wrong operator; `test_experiments` has whole runs."""

import pytest
import torch
from tiny_runs import pictures

from dpo_lib import train
from dpo_lib.experiments.catalogue import EXPERIMENTS
from dpo_lib.experiments.run import told_otherwise
from dpo_lib.images import to_tensor

pytestmark = pytest.mark.usefixtures("tiny_smoke_scale")


def test_told_the_wrong_operator():
    experiment = EXPERIMENTS["wrong_code/l0+wls"]
    images, config = pictures(2, 18, 23), experiment.config("smoke")
    network = train(experiment.training_operators(), images, config, progress=False).network
    image = to_tensor(images[0])
    right = network(image, 0.02, operator="l0")
    same, wrong = (told_otherwise(network, "l0", told)(image, 0.02) for told in ("l0", "wls"))
    assert torch.equal(right, same) and not torch.equal(right, wrong)
    as_wls = network(image, 1.0, operator="wls")  # both values are the middle of their range: the same code
    assert torch.allclose(wrong, as_wls, atol=1e-6)
