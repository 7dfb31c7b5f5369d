"""Generated kernels: Eq. 5 in numbers, comparison of networks, embeddings against explicit computations."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpo_lib.analysis.kernels import (
    compare_kernels,
    disguise,
    generate_kernels,
    kernel_embedding,
    kernel_paths,
    multi_path,
    multi_path_forward,
    principal_coordinates,
)
from dpo_lib.models import DecoupledNetwork
from dpo_lib.parameters import Parameter

LAMBDA = Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02)
TWO = [LAMBDA, Parameter("sigma", 1.0, 5.0)]
JOINT = {"l0": [LAMBDA], "rtv": TWO, "shock": []}


def network(parameters=(LAMBDA,), seed=0, **changes):
    """A small float64 net away from its initial state, so that every layer and every code matters."""
    torch.manual_seed(seed)
    settings = {"width": 6, "dilations": (2, 4), "operator": "" if isinstance(parameters, dict) else "l0", **changes}
    net = DecoupledNetwork(parameters if isinstance(parameters, dict) else list(parameters), **settings)
    net = net.double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(("parameters", "value"), [((LAMBDA,), 0.05), (TWO, [0.05, 2.0])])
def test_equation_5_for_every_layer(parameters, value, depthwise):
    net = network(parameters, depthwise=depthwise)
    assert any(layer.transposed for layer in net.base_network.convolutions)
    for layer in net.base_network.convolutions:
        x = torch.randn(2, layer.in_channels, 18, 26, dtype=torch.float64)
        generated = layer(x, net.weights(value)[layer.name])
        assert (multi_path(net, layer.name, x, value) - generated).abs().max() < 1e-10
        assert (layer(x, kernel_paths(net, layer.name)[1]) - generated).abs().max() > 1e-3  # gamma matters


def test_equation_5_by_hand():
    net, x = network(TWO), torch.randn(1, 6, 12, 16, dtype=torch.float64)
    head = net.weight_learning_network.heads["conv2"]
    codes = [(2 * np.log(0.05) - np.log(0.002 * 0.2)) / np.log(0.2 / 0.002), -0.5]
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    expected = F.conv2d(x, head.bias.reshape(6, 6, 3, 3))
    for k, code in enumerate(codes):
        expected = expected + code * F.conv2d(x, head.weight[:, k].reshape(6, 6, 3, 3))
    assert (multi_path(net, "conv2", x[..., 1:-1, 1:-1], [0.05, 2.0]) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("generated", ["conv(all)", "conv(3)+conv(8)+norm(2)", "norm(all)"])
def test_equation_5_for_the_whole_network(generated):
    net = network(generated=generated)
    images = torch.rand(2, 3, 33, 46, dtype=torch.float64)
    for value in (0.002, 0.05, 0.2):
        assert (multi_path_forward(net, images, value) - net(images, value)).abs().max() < 1e-10
        single = multi_path_forward(net, images.float(), value)
        assert single.dtype == torch.float32 and (single - net(images, value)).abs().max() < 1e-5
    assert (net(images, 0.002) - net(images, 0.2)).abs().max() > 1e-3
    before, net.gray = net(images, 0.05), (net.operator,)  # learned on gray pictures: each channel is one
    assert (multi_path_forward(net, images, 0.05) - net(images, 0.05)).abs().max() < 1e-10
    assert (net(images, 0.05) - before).abs().max() > 1e-3


def test_equation_5_for_a_joint_network():
    net, images = network(JOINT), torch.rand(1, 3, 24, 30, dtype=torch.float64)
    for operator, value in (("l0", 0.01), ("rtv", [0.01, 4.0]), ("shock", None)):
        answer = multi_path_forward(net, images, value, operator=operator)
        assert (answer - net(images, value, operator=operator)).abs().max() < 1e-10
    assert kernel_paths(net, "conv5")[0].shape == (5, 6, 6, 3, 3)  # three operators, two parameters


def test_weights_that_are_not_linear_in_gamma():
    x = torch.randn(1, 6, 12, 16, dtype=torch.float64)
    with pytest.raises(ValueError, match="linear in gamma, got a network with hidden layers"):
        multi_path(network(hidden=5), "conv2", x, 0.05)
    with pytest.raises(ValueError, match="linear in gamma, got a network with a trunk"):
        multi_path(network(trunk=(5, 3)), "conv2", x, 0.05)
    with pytest.raises(ValueError, match="hidden layers"):
        multi_path_forward(network(hidden=5), torch.rand(1, 3, 20, 24, dtype=torch.float64), 0.05)


def test_bad_layers_and_values():
    net, x = network(generated="conv(3)+conv(8)+norm(2)"), torch.randn(1, 6, 12, 16, dtype=torch.float64)
    with pytest.raises(ValueError, match="conv2 is not generated .* choose from conv3, conv8"):
        multi_path(net, "conv2", x, 0.05)
    with pytest.raises(ValueError, match="layer must be one of conv1 to conv10, got 'conv11'"):
        multi_path(net, "conv11", x, 0.05)
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.2\] for l0, got 0.5"):
        multi_path(net, "conv3", x, 0.5)


def test_comparison_against_numpy():
    a, b = network(seed=1), network(seed=2)
    rows = compare_kernels(a, b, 0.05)
    assert [row["layer"] for row in rows] == [f"conv{k}" for k in range(1, 11)]
    for row in rows:
        x, y = (net.weights(0.05)[row["layer"]].flatten().numpy() for net in (a, b))
        assert row["correlation"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)
        assert row["variance_a"] == pytest.approx(np.var(x)) and row["variance_b"] == pytest.approx(np.var(y))
        assert abs(row["correlation"]) < 0.5  # independent draws


def test_comparison_with_itself_and_with_its_opposite():
    net = network()
    opposite = net.at(0.05)
    for weight in opposite.weights.values():
        weight.mul_(-3)
    for row in compare_kernels(net, opposite, 0.05):
        assert row["correlation"] == pytest.approx(-1) and row["variance_b"] == pytest.approx(9 * row["variance_a"])
    fresh = DecoupledNetwork([LAMBDA], operator="l0", width=6, dilations=(2, 4)).double()
    last = compare_kernels(net, fresh, 0.05)[-1]  # a fresh residual network ends in zeros
    assert np.isnan(last["correlation"]) and last["variance_b"] == 0
    with pytest.raises(ValueError, match="must have the same layers, got conv1"):
        compare_kernels(net, network(width=5), 0.05)


def test_kernels_of_random_values():
    net = network(TWO, generated="conv(3)+conv(5)+conv(6).in")
    kernels, gamma = generate_kernels(net, 7, seed=3, batch=3)
    assert gamma.shape == (7, 2) and kernels.dtype == np.float32
    assert (gamma >= [0.002, 1.0]).all() and (gamma <= [0.2, 5.0]).all() and len(np.unique(gamma[:, 1])) == 7
    for row, value in zip(kernels, gamma, strict=True):
        weights = net.weights(value)
        expected = torch.cat([weights[f"conv{k}"].flatten() for k in range(1, 11)]).numpy()
        assert np.allclose(row, expected, atol=1e-6)
    assert np.array_equal(generate_kernels(net, 7, seed=3, batch=50)[0], kernels)
    assert not np.array_equal(generate_kernels(net, 7, seed=4)[1], gamma)
    one, _ = generate_kernels(net, 7, layer="conv3", seed=3)
    start = 6 * 4 * 9 + 6 * 6 * 9
    assert np.array_equal(one, kernels[:, start : start + 6 * 6 * 9])


def test_kernels_of_one_operator_of_several():
    net = network(JOINT)
    kernels, gamma = generate_kernels(net, 4, operator="rtv", layer="conv2")
    assert gamma.shape == (4, 2)
    assert np.allclose(kernels[2], net.weights(gamma[2], operator="rtv")["conv2"].flatten(), atol=1e-6)
    still, none = generate_kernels(net, 4, operator="shock", layer="conv2")
    assert none.shape == (4, 0) and (still == still[0]).all()
    with pytest.raises(ValueError, match="operator must be one of l0, rtv, shock"):
        generate_kernels(net, 4)


def test_principal_coordinates_keep_all_distances(monkeypatch):
    monkeypatch.setattr("dpo_lib.analysis.kernels.COLUMNS", 7)
    vectors = np.random.default_rng(0).normal(size=(9, 40)).astype(np.float32)
    coordinates = principal_coordinates(vectors)
    assert coordinates.shape == (9, 8)  # nine points span eight dimensions

    def distances(x):
        return np.linalg.norm(x[:, None] - x[None], axis=-1)

    assert np.allclose(distances(coordinates), distances(vectors.astype(np.float64)), atol=1e-6)
    centred = vectors - vectors.mean(0, dtype=np.float64)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(np.abs(coordinates), np.abs(u * s)[:, :8], atol=1e-6)
    assert all(column[np.abs(column).argmax()] > 0 for column in coordinates.T)


def test_pca_of_a_joint_network():
    found = kernel_embedding(network(JOINT), 20, layer="conv4")
    assert found.points.shape == (60, 2)
    assert found.operator.tolist() == ["l0"] * 20 + ["rtv"] * 20 + ["shock"] * 20
    assert np.isnan(found.value[40:]).all() and (found.value[:40] >= 0.002).all() and (found.value[:40] <= 0.2).all()
    assert np.allclose(found.points[40:], found.points[40])
    again = kernel_embedding(network(JOINT), 20, layer="conv4")
    assert np.array_equal(found.points, again.points)


def test_linear_weights_lie_on_a_line_in_the_order_of_the_code():
    found = kernel_embedding(network(), 30, method="pca")
    along, across = found.points.T
    assert np.abs(across).max() < 1e-4 * np.abs(along).max()
    order = np.log(found.value)
    assert abs(np.corrcoef(along, order)[0, 1]) > 1 - 1e-6


def test_a_number_for_the_operator_keeps_all_kernels_in_one_plane():
    each_one = {"l0": [LAMBDA], "rtv": [LAMBDA], "wls": [LAMBDA], "shock": []}
    plane, space = (kernel_embedding(network(each_one, operator_code=code), 20) for code in ("number", "one_hot"))
    assert len(plane.variance) == 2 and len(space.variance) == 4  # four operators span three directions, and lambda
    assert np.allclose(plane.variance, plane.points.var(axis=0)) and plane.variance[0] >= plane.variance[1] > 0


def test_separate_networks():
    found = kernel_embedding({"one": network(seed=1), "two": network(seed=2)}, 12)
    assert set(found.operator) == {"one", "two"}
    first, second = found.points[:12], found.points[12:]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > max(np.ptp(first, axis=0).max(), np.ptp(second, axis=0).max()) / 2
    with pytest.raises(ValueError, match="must have the same layers"):
        kernel_embedding({"one": network(), "two": network(width=5)}, 4)


@pytest.mark.parametrize("generated", ["conv(2)+conv(3).in+norm(all)", "norm(all)"])
def test_kernels_that_are_the_same_for_all_add_nothing_to_an_embedding(generated):
    net = network(JOINT, generated=generated)
    everything = np.concatenate([generate_kernels(net, 9, operator=name)[0] for name in JOINT])
    expected, found = principal_coordinates(everything), kernel_embedding(net, 9)
    assert np.allclose(found.points, expected[:, :2], atol=1e-5)
    assert np.allclose(found.variance, expected.var(axis=0), atol=1e-5)
    assert (found.variance[0] > 1e-3) == ("conv" in generated)


def test_tsne_keeps_clusters_apart():
    pytest.importorskip("sklearn")
    nets = {"one": network(seed=1), "two": network(seed=2)}
    found = kernel_embedding(nets, 40, layer="conv4", method="tsne", perplexity=10, seed=0)
    assert found.points.shape == (80, 2)
    near = np.linalg.norm(found.points[:, None] - found.points[None], axis=-1)
    np.fill_diagonal(near, np.inf)
    assert (found.operator[near.argmin(1)] == found.operator).all()
    again = kernel_embedding(nets, 40, layer="conv4", method="tsne", perplexity=10, seed=0)
    assert np.array_equal(found.points, again.points)


def test_tsne_without_scikit_learn(monkeypatch):
    for module in ("sklearn", "sklearn.manifold"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="needs scikit-learn, .* or use method='pca'"):
        kernel_embedding(network(), 40, layer="conv4", method="tsne")


def test_bad_embeddings():
    with pytest.raises(ValueError, match="method must be one of pca, tsne, got 'umap'"):
        kernel_embedding(network(), 10, method="umap")
    with pytest.raises(ValueError, match="perplexity must be smaller than the 10 kernels, got 30"):
        kernel_embedding(network(), 10, method="tsne")


@pytest.mark.parametrize("generated", ["conv(all)", "norm(all)"])
def test_a_disguise_is_the_same_function_with_other_kernels(generated):
    torch.manual_seed(0)
    net = network(width=32, generated=generated).at(0.02)
    image = torch.rand(2, 3, 21, 30, dtype=torch.float64)
    net.gray = generated == "norm(all)"  # learned on gray pictures: each channel is one
    expected = net(image)
    other, scaled = disguise(net, seed=1), disguise(net, seed=1, factor=5)
    assert (other(image) - expected).abs().max() < 1e-10
    assert (scaled(image) - expected).abs().max() < 1e-2 * (expected - image).abs().max()
    rows = compare_kernels(net, scaled)
    assert max(abs(row["correlation"]) for row in rows) < 0.25
    assert [round(row["variance_b"] / row["variance_a"]) for row in rows] == [25] * (len(rows) - 1) + [1]
    for name, weight in net.weights.items():  # the same numbers in another order, and the input is left alone
        assert torch.equal(other.weights[name].flatten().sort().values, weight.flatten().sort().values)
    assert torch.equal(net(image), expected)


def test_what_cannot_be_disguised():
    with pytest.raises(ValueError, match="no depthwise convolutions"):
        disguise(network(depthwise=True).at(0.02))
    with pytest.raises(ValueError, match="expected a positive factor"):
        disguise(network().at(0.02), factor=0)
