"""The paper's networks. Models know parameters and images, never operators."""

from .base_network import BaseNetwork, Convolution, convolutions, edge_map
from .baselines import MODELS, InputChannelNetwork, build_model, interpolated
from .decoupled import DecoupledNetwork, PlainNetwork
from .single_layer import SingleLayerTuner
from .weight_learning import WeightLearningNetwork

__all__ = [
    "MODELS",
    "BaseNetwork",
    "Convolution",
    "DecoupledNetwork",
    "InputChannelNetwork",
    "PlainNetwork",
    "SingleLayerTuner",
    "WeightLearningNetwork",
    "build_model",
    "convolutions",
    "edge_map",
    "interpolated",
]
