"""The layers of base networks: the paper's list, and generated convolutions against a loop."""

import pytest
import torch
import torch.nn.functional as F

from dpo_lib.models import dilated_layers
from dpo_lib.models.base_network import fold
from dpo_lib.models.layers import Convolution


def test_layers_of_the_paper():
    layers = dilated_layers()
    assert [layer.dilation for layer in layers[3:17]] == [d for d in (2, 4, 4, 8, 8, 16, 1) for _ in range(2)]
    assert [layer.stride for layer in layers] == [1, 1, 2, *[1] * 14, 2, 1, 1]
    assert layers[17].transposed and layers[17].kernel_size == 4
    assert (layers[0].in_channels, layers[-1].out_channels) == (4, 3)


@pytest.mark.parametrize("layer", [dilated_layers(width=6)[i] for i in (0, 1, 2, 5, 17, 19)], ids=lambda c: c.name)
def test_generated_convolution_equals_the_loop(layer):
    x = torch.randn(3, layer.in_channels, 18, 26, dtype=torch.float64)
    weight = torch.randn(3, *layer.weight_shape, dtype=torch.float64)
    batched = layer(fold(x), weight).unflatten(1, (3, -1))[0]
    looped = torch.cat([layer(x[i : i + 1], weight[i]) for i in range(3)])
    assert batched.shape == looped.shape and torch.allclose(batched, looped, atol=1e-12)


def test_convolution_call_is_the_paper_block():
    x = torch.randn(1, 5, 12, 16)
    layer = Convolution("c", 5, 7, dilation=4)
    weight = torch.randn(layer.weight_shape)
    assert torch.equal(layer(x, weight), F.conv2d(x, weight, padding=4, dilation=4))


def test_depthwise_base_of_section_5():
    """Pointwise to twice the width, 3x3 depth-wise, pointwise back; 27 layers."""
    layers = dilated_layers(width=128, depthwise=True)
    assert len(layers) == 27
    assert [layer.weight_shape for layer in layers[3:6]] == [(256, 128, 1, 1), (256, 1, 3, 3), (128, 256, 1, 1)]
    assert [layer.dilation for layer in layers[4:24:3]] == [2, 4, 4, 8, 8, 16, 1]
    assert [k for k, layer in enumerate(layers) if layer.opens_block] == list(range(3, 24, 3))
    assert [k for k, layer in enumerate(layers) if layer.closes_block] == list(range(5, 24, 3))
