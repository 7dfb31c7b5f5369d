"""The paper's networks. Models know parameters and images, never operators."""

from .base_network import BaseNetwork, Convolution, convolutions, edge_map
from .decoupled import DecoupledNetwork, PlainNetwork
from .weight_learning import WeightLearningNetwork

__all__ = [
    "BaseNetwork",
    "Convolution",
    "DecoupledNetwork",
    "PlainNetwork",
    "WeightLearningNetwork",
    "convolutions",
    "edge_map",
]
