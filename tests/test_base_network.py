"""The base network: what it sees, gives and refuses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpo_lib.models import NetworkConfig, edge_map
from dpo_lib.models.base_network import with_ranks


def test_edge_map_by_hand():
    image = torch.zeros(1, 3, 3, 5)
    image[0, :, 1, 2] = torch.tensor([1.0, 0.5, 0.0])
    expected = torch.zeros(3, 5)
    expected[1, 2] = 0.5  # four neighbours, each 0.5 away in the mean
    for y, x in ((0, 2), (2, 2), (1, 1), (1, 3)):
        expected[y, x] = 0.125
    assert torch.allclose(edge_map(image)[0, 0], expected)


def test_edge_map_against_scipy():
    from scipy.ndimage import correlate

    image = np.random.default_rng(0).random((3, 11, 14))
    total = sum(
        np.abs(image - np.stack([correlate(c, kernel, mode="nearest") for c in image]))
        for kernel in np.eye(9).reshape(9, 3, 3)[[1, 3, 5, 7]]
    )
    found = edge_map(torch.from_numpy(image)[None])[0, 0].numpy()
    assert np.allclose(found, total.mean(0) / 4)


def pyramid(seed=0, dtype=torch.float64, **settings):
    """A pyramid with weights that all matter, and those weights."""
    torch.manual_seed(seed)
    base = NetworkConfig(base="pyramid", widths=(6, 8, 10), blocks=1, **settings).base_network().to(dtype)
    weights = {layer.name: torch.randn(layer.weight_shape, dtype=dtype) / 4 for layer in base.convolutions}
    with torch.no_grad():
        base.shift.normal_(std=0.1)
    return base.requires_grad_(False), weights


def test_pyramid_by_hand():
    """Two levels of one block each, written out."""
    base, w = pyramid()
    base = NetworkConfig(base="pyramid", widths=(4, 6), blocks=1).base_network().double().requires_grad_(False)
    w = {layer.name: torch.randn(layer.weight_shape, dtype=torch.float64) for layer in base.convolutions}
    base.scale.uniform_(0.5, 1.5)
    base.shift.normal_()
    image = torch.rand(1, 3, 12, 20, dtype=torch.float64)
    splits = base.norm_channels
    scales, shifts = base.scale.split(splits), base.shift.split(splits)

    def layer(x, k, stride=1):
        kernel = w[f"conv{k}"]
        flat = kernel.flatten(1)
        flat = flat - flat.mean(1, keepdim=True)
        kernel = (flat / flat.norm(dim=1, keepdim=True)).view_as(kernel)
        if kernel.shape[-1] == 3:
            x = F.pad(x, (1, 1, 1, 1), mode="replicate")
        x = F.conv2d(x, kernel, stride=stride)
        return x * scales[k - 1].view(1, -1, 1, 1) + shifts[k - 1].view(1, -1, 1, 1)

    x = layer(F.pixel_unshuffle(image - 0.5, 2), 1)
    fine = x + layer(layer(x.relu(), 2).relu(), 3)
    x = layer(fine, 4, stride=2)
    x = x + layer(layer(x.relu(), 5).relu(), 6)
    x = fine + F.pixel_shuffle(layer(x, 7), 2)
    x = x + layer(layer(x.relu(), 8).relu(), 9)
    last = F.conv2d(F.pad(x.relu(), (1, 1, 1, 1), mode="replicate"), w["conv10"])
    assert torch.allclose(base(image, w), image + F.pixel_shuffle(last, 2), atol=1e-5)


@pytest.mark.parametrize("output", ["residual", "direct", "gain", "gate"])
@pytest.mark.parametrize("together", [True, False])
def test_pyramid_with_a_weight_for_each_image(output, together):
    base, _ = pyramid(output=output)
    base.together = together
    weights = [pyramid(seed, output=output)[1] for seed in (1, 2, 3)]
    stacked = {name: torch.stack([one[name] for one in weights]) for name in weights[0]}
    norms = torch.rand(3, 2, base.norm_channels[2], dtype=torch.float64)
    stacked["norm3"] = norms
    images = torch.rand(3, 3, 21, 34, dtype=torch.float64)
    answers = base(images, stacked)
    assert answers.shape == images.shape
    for k in range(3):
        alone = base(images[k : k + 1], {**weights[k], "norm3": norms[k]})
        assert torch.allclose(answers[k : k + 1], alone, atol=1e-9)


def test_kernel_normalisation_ignores_the_far_parts_of_a_picture():
    base, weights = pyramid()
    image = torch.rand(1, 3, 128, 96, dtype=torch.float64)
    other = image.clone()
    other[..., 112:, :] = 0
    difference = (base(image, weights) - base(other, weights)).abs().amax((0, 1, 3))
    assert difference[:16].max() < 1e-12 and difference[112:].max() > 1e-3


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_a_constant_picture_gives_a_constant_answer(padding):
    for settings in ({"base": "pyramid", "widths": (6, 8)}, {"width": 6, "dilations": (2, 4)}):
        torch.manual_seed(0)
        base = NetworkConfig(padding=padding, **settings).base_network().requires_grad_(False)
        weights = {layer.name: torch.randn(layer.weight_shape) / 4 for layer in base.convolutions}
        if not base.unshuffles and padding == "replicate":
            base.frozen_statistics = True  # a constant has no variance to divide by
        answer = base(torch.full((1, 3, 64, 48), 0.4), weights)
        # pixel shuffles give each of 2x2 pixels its own value: compare whole squares
        spread = (answer.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).std((2, 3))).max()
        assert (spread < 1e-4) == (padding == "replicate")


def test_bad_forms():
    for change, message in (
        ({"output": "sum"}, "output must be one of residual"),
        ({"widths": (0, 4)}, "widths must be positive"),
        ({"normalisation": "layer"}, "normalisation must be one of"),
        ({"blocks": 0}, "blocks must be positive"),
        ({"normalisation": "kernel"}, "instance normalisation only"),
    ):
        with pytest.raises(ValueError, match=message):
            NetworkConfig(**change)


def test_ranks_against_scipy():
    """Pixels of one value stand in the middle of their share."""
    from scipy.stats import rankdata

    gray = torch.from_numpy(np.random.default_rng(0).integers(0, 40, (2, 1, 30, 41)) / 255).float()
    image = gray.expand(-1, 3, -1, -1)
    seen = with_ranks(image)
    assert torch.equal(seen[:, :3], image)
    for picture, found in zip(gray, seen[:, 3], strict=True):
        expected = (rankdata(picture, method="average").reshape(30, 41) - 0.5) / picture.numel()
        assert np.allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("base", ["pyramid", "dilated"])
def test_ranks_enter_last(base):
    """A curve of the tones that keeps their order changes nothing for a network that looks at the ranks alone."""
    torch.manual_seed(0)
    form = NetworkConfig(base=base, widths=(4, 6), width=4, dilations=(2,), equalised=True, output="direct")
    network = form.base_network().requires_grad_(False)
    weights = {layer.name: torch.randn(layer.weight_shape) for layer in network.convolutions}
    seen, first = 4 if network.unshuffles else 1, weights["conv1"]
    image = torch.rand(1, 1, 32, 48).mul(255).round().div(255).expand(-1, 3, -1, -1)
    curved = image.sqrt()

    def change():
        return (network(image, weights) - network(curved, weights)).square().mean().sqrt().item()

    before = change()
    # no colour, no edges; standardised kernels have mean 0, with which a zero stays zero
    ranks = slice(-seen, None)
    kept = first[:, ranks] - first[:, ranks].mean((1, 2, 3), keepdim=True)
    first.zero_()
    first[:, ranks] = kept
    assert change() < 0.02 * before  # curves move what lies between two bins of the histogram
    cut = with_ranks(image)[..., :20]
    recoloured = torch.cat([torch.rand(1, 3, 32, 20), cut[:, 3:]], dim=1)  # ranks that come along are used as they are
    assert torch.allclose(network(recoloured, weights), network(cut, weights), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(network(cut[:, :3], weights), network(cut, weights), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("border", ["edge", "symmetric", "wrap"])
@pytest.mark.parametrize("base", ["pyramid", "dilated"])
def test_a_margin_lays_around_what_lies_beyond_the_borders(base, border):
    """As if the picture had come larger, by NumPy's padding, and the answer were cut."""
    form = NetworkConfig(base=base, widths=(4, 6), width=4, dilations=(2,), border=border, margin=24)
    torch.manual_seed(0)
    network = form.base_network().double().requires_grad_(False)
    weights = {layer.name: torch.randn(layer.weight_shape, dtype=torch.float64) for layer in network.convolutions}
    image = torch.rand(2, 3, 17, 30, dtype=torch.float64)
    larger = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (24, 24), (24, 24)), mode=border))
    expected = network.sharing(margin=0)(larger, weights)[..., 24:-24, 24:-24]
    assert torch.equal(network(image, weights), expected)
    assert not torch.allclose(network.sharing(margin=0)(image, weights), expected)


@pytest.mark.parametrize("border", ["edge", "symmetric", "wrap"])
def test_a_pyramid_is_filled_up_as_its_border_says(border):
    network = (
        NetworkConfig(base="pyramid", widths=(4, 6, 8), border=border).base_network().double().requires_grad_(False)
    )
    weights = {layer.name: torch.randn(layer.weight_shape, dtype=torch.float64) for layer in network.convolutions}
    image = torch.rand(2, 3, 17, 29, dtype=torch.float64)
    assert network.step == 8
    mode = "symmetric" if border == "symmetric" else "edge"  # opposite borders have no grid in common
    larger = torch.from_numpy(np.pad(image.numpy(), ((0, 0), (0, 0), (0, 7), (0, 3)), mode=mode))
    assert torch.equal(network(image, weights), network(larger, weights)[..., :17, :29])
