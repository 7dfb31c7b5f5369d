"""The paper's networks. Models know parameters and images, never operators."""

from .base_network import BaseNetwork, edge_map
from .baselines import InputChannelNetwork, build_model, interpolated
from .decoupled import DecoupledNetwork, PlainNetwork
from .layers import Convolution, dilated_layers, pyramid_layers
from .network_config import MODELS, NetworkConfig
from .single_layer import SingleLayerTuner
from .weight_learning import WeightLearningNetwork

__all__ = [
    "MODELS",
    "BaseNetwork",
    "Convolution",
    "DecoupledNetwork",
    "InputChannelNetwork",
    "NetworkConfig",
    "PlainNetwork",
    "SingleLayerTuner",
    "WeightLearningNetwork",
    "build_model",
    "dilated_layers",
    "edge_map",
    "interpolated",
    "pyramid_layers",
]
