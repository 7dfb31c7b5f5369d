"""Decoupled learning of parameterized image operators: one network for every value of the parameter.

>>> import dpo_lib
>>> from dpo_lib.data import embedded_images
>>> image = embedded_images()["coffee"]
>>> net = dpo_lib.load_pretrained("l0")
>>> net(image, 0.02).shape == image.shape
True
"""

from .evaluation import evaluate, summarise
from .images import load_image, save_image
from .metrics import psnr, ssim
from .models import BaseNetwork, DecoupledNetwork, PlainNetwork, SingleLayerTuner, WeightLearningNetwork
from .models.pretrained import load_network, load_pretrained, pretrained_names, save_network
from .operators import OPERATORS, Operator, Parameter
from .training import SCALES, TrainConfig, train

__version__ = "0.1.0"

__all__ = [
    "OPERATORS",
    "SCALES",
    "BaseNetwork",
    "DecoupledNetwork",
    "Operator",
    "Parameter",
    "PlainNetwork",
    "SingleLayerTuner",
    "TrainConfig",
    "WeightLearningNetwork",
    "evaluate",
    "load_image",
    "load_network",
    "load_pretrained",
    "pretrained_names",
    "psnr",
    "save_image",
    "save_network",
    "ssim",
    "summarise",
    "train",
]
