"""The networks: form and counts of the paper, batched generated convolutions against a loop, export."""

import itertools
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpo_lib.models import BaseNetwork, DecoupledNetwork, WeightLearningNetwork, convolutions, edge_map
from dpo_lib.models.base_network import Convolution, fold
from dpo_lib.models.parameterized import rescale
from dpo_lib.parameters import Parameter

LAMBDA = Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02)


def network(seed=0, **changes):
    """A small net away from its initial state, so that every layer and every code matters."""
    torch.manual_seed(seed)
    net = DecoupledNetwork([LAMBDA], operator="l0", **{"width": 8, "dilations": (2, 4), **changes}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)


def test_counts_of_the_paper():
    base = BaseNetwork()
    assert len(base.convolutions) == 20
    assert sum(math.prod(c.weight_shape) for c in base.convolutions) == 696_256
    assert sum(p.numel() for p in base.parameters()) == 2_432
    for m in (1, 2):
        weight_net = WeightLearningNetwork(base.convolutions, codes=m)
        assert sum(p.numel() for p in weight_net.parameters()) == (m + 1) * 696_256


def test_layers_of_the_paper():
    layers = convolutions()
    assert [layer.dilation for layer in layers[3:17]] == [d for d in (2, 4, 4, 8, 8, 16, 1) for _ in range(2)]
    assert [layer.stride for layer in layers] == [1, 1, 2, *[1] * 14, 2, 1, 1]
    assert layers[17].transposed and layers[17].kernel_size == 4
    assert (layers[0].in_channels, layers[-1].out_channels) == (4, 3)


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


@pytest.mark.parametrize("layer", [convolutions(width=6)[i] for i in (0, 1, 2, 5, 17, 19)], ids=lambda c: c.name)
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


@pytest.mark.parametrize("together", [True, False])
def test_values_per_image_equal_one_by_one(together):
    net = network()
    net.base_network.together = together
    images, values = torch.rand(3, 3, 33, 46), [0.002, 0.02, 0.2]
    batched = net(images, values)
    for index, value in enumerate(values):
        assert torch.allclose(batched[index], net(images[index : index + 1], value)[0], atol=1e-4)
    assert (batched[0] - net(images[:1], 0.2)[0]).abs().max() > 1e-2  # the value matters


@pytest.mark.parametrize("together", [True, None])
def test_gradients_of_the_batched_form_equal_the_loop(together):
    torch.manual_seed(1)
    net = DecoupledNetwork([LAMBDA], operator="l0", width=4, dilations=(2,)).double()
    net.base_network.together = together
    torch.nn.init.normal_(net.weight_learning_network.heads["conv8"].bias)
    images, values = torch.rand(3, 3, 16, 20, dtype=torch.float64), [0.002, 0.02, 0.2]
    net(images, values).square().sum().backward()
    batched = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for image, value in zip(images, values, strict=True):
        net(image[None], value).square().sum().backward()
    for got, p in zip(batched, net.parameters(), strict=True):
        assert torch.allclose(got, p.grad, atol=1e-8 * max(1, float(p.grad.abs().max())))


@pytest.mark.parametrize("size", list(itertools.product((16, 17, 23), (16, 19, 30))))
def test_any_size_comes_back(size):
    image = torch.rand(1, 3, *size)
    assert network()(image, 0.02).shape == image.shape


def test_numpy_images_come_back_as_they_came():
    net, array = network(), np.random.default_rng(0).random((21, 30, 3))
    for dtype in (np.float32, np.float64):
        assert net(array.astype(dtype), 0.02).dtype == dtype
    eight = (array * 255).astype(np.uint8)
    assert net(eight, 0.02).dtype == np.uint8 and net(eight, 0.02).shape == eight.shape


def test_at_bakes_the_same_answer():
    net, image = network(), torch.rand(2, 3, 31, 26)
    plain = net.at(0.05)
    assert torch.allclose(plain(image), net(image, 0.05), atol=1e-6)
    assert not any("weight_learning" in name for name, _ in plain.named_parameters())


def test_export_gives_the_same_answer():
    plain, image = network().at(0.05), torch.rand(1, 3, 32, 26)
    exported = torch.export.export(plain, (image,)).module()
    assert torch.allclose(exported(image), plain(image), atol=1e-6)


def test_onnx_gives_the_same_answer(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    plain, image = network().at(0.05), torch.rand(1, 3, 32, 26)
    torch.onnx.export(plain, (image,), tmp_path / "net.onnx", input_names=["image"], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"image": image.numpy()})
    assert np.abs(answer - plain(image).numpy()).max() < 1e-4


def test_residual_network_starts_as_the_identity():
    image = torch.rand(1, 3, 24, 30)
    fresh = DecoupledNetwork([LAMBDA], operator="l0", width=8)
    assert torch.equal(fresh(image, 0.02), image)
    direct = DecoupledNetwork([LAMBDA], operator="l0", width=8, residual_output=False)
    assert not torch.allclose(direct(image, 0.02), image, atol=0.1)


def test_codes_span_minus_one_to_one():
    values = torch.tensor([[0.002], [0.02], [0.2]])
    assert torch.allclose(rescale(values, [LAMBDA])[:, 0], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6)
    linear = rescale(values, [LAMBDA], rescaling="linear")[:, 0]
    assert torch.allclose(linear, torch.tensor([-1.0, 2 * 0.018 / 0.198 - 1, 1.0]), atol=1e-6)


def test_network_without_parameters():
    net = DecoupledNetwork([], operator="shock", width=8, dilations=(1,)).eval()
    image = torch.rand(2, 3, 20, 24)
    assert net(image).shape == image.shape
    with pytest.raises(ValueError, match="shock has no parameter"):
        net(image, 0.5)


RTV = [Parameter("lambda", 0.002, 0.05, sampling="log"), Parameter("sigma", 1, 6)]
THREE = {"l0": [LAMBDA], "shock": [], "rtv": RTV}
CASES = (("l0", 0.002), ("shock", None), ("rtv", (0.01, 2.0)), ("l0", 0.2))


def joint(seed=0, **changes):
    """A small joint net away from its initial state."""
    torch.manual_seed(seed)
    net = DecoupledNetwork(THREE, **{"width": 8, "dilations": (2, 4), **changes}).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("code", ["number", "one_hot", "embedding"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"hidden": 6}, {"trunk": (5, 4)}, {"depthwise": True}, {"depthwise": True, "generated": "norm(all)"}],
)
def test_a_joint_batch_equals_one_by_one(code, settings, together):
    net, images = joint(operator_code=code, **settings), torch.rand(4, 3, 19, 26)
    net.base_network.together = together
    rows = torch.zeros(4, 2)
    for row, (_, value) in zip(rows, CASES, strict=True):
        if value is not None:
            row[: np.size(value)] = torch.as_tensor(value)
    batched = net(images, rows, operator=[name for name, _ in CASES])
    for index, (name, value) in enumerate(CASES):
        alone = net(images[index : index + 1], value, operator=name)
        assert torch.allclose(batched[index], alone[0], atol=1e-4)
        assert torch.allclose(net.at(value, operator=name)(images[index : index + 1]), alone, atol=1e-5)
    answers = [net(images[:1], value, operator=name) for name, value in CASES]
    assert all((a - b).abs().max() > 1e-3 for a, b in itertools.combinations(answers, 2))


SPELLINGS = {
    "conv(all)": [f"conv{k}" for k in range(1, 11)],
    "norm(all)": [f"norm{k}" for k in range(1, 10)],
    "conv(9)": ["conv9"],
    "conv(8)": ["conv8"],
    "norm(5)": ["norm5"],
    "norm(last)": ["norm9"],
    "conv(last)": ["conv10"],
    "conv(4).in": ["conv4"],
    "conv(8).out": ["conv8"],
    "norm(2)+conv(3)": ["norm2", "conv3"],
    "none": [],
}


@pytest.mark.parametrize("where", SPELLINGS)
def test_exactly_the_named_tensors_follow_gamma(where):
    net, image = joint(generated=where), torch.rand(2, 3, 18, 21)
    first, second = net.weights(0.002, operator="l0"), net.weights(0.2, operator="l0")
    changed = [name for name in first if not torch.equal(first[name], second[name])]
    assert sorted(changed) == sorted(SPELLINGS[where])
    for name in changed:
        if where.endswith((".in", ".out")):  # a slice of one input (or output) channel, the rest stays
            axis = 1 if where.endswith(".in") else 0
            assert torch.equal(*(w[name].narrow(axis, 1, w[name].shape[axis] - 1) for w in (first, second)))
    answers = net(image, torch.tensor([[0.002, 0], [0.2, 0]]), operator=["l0", "l0"])
    for answer, one, value in zip(answers, image, (0.002, 0.2), strict=True):
        assert torch.allclose(answer, net(one[None], value, operator="l0")[0], atol=1e-4)
    same = torch.equal(net(image, 0.002, operator="l0"), net(image, 0.2, operator="l0"))
    assert same == (where == "none")


@pytest.mark.parametrize("where", [w for w in SPELLINGS if w != "none"])
@pytest.mark.parametrize("code", ["number", "embedding"])
def test_gradients_reach_both_networks(where, code):
    net = joint(generated=where, operator_code=code).requires_grad_(True).train()
    values = torch.tensor([[0.01, 2.0], [0.01, 0]])
    net(torch.rand(2, 3, 17, 18), values, operator=["rtv", "l0"]).square().sum().backward()
    silent = {name for name, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())}
    if "norm" not in where:
        assert not silent
    else:  # scale and shift that are generated replace the module's own: of all, or of some channels
        assert silent <= {"base_network.scale", "base_network.shift"}


def test_wrong_words_for_what_is_generated():
    for where in ("conv", "conv(11)", "norm(10)", "norm(3).in", "conv(all).out", "conv(0)", ""):
        with pytest.raises(ValueError, match="generated must be"):
            joint(generated=where)


def test_joint_networks_say_what_is_wrong():
    net, image = joint(), torch.rand(2, 3, 20, 24)
    with pytest.raises(ValueError, match="operator must be one of l0, shock, rtv, got None"):
        net(image, 0.02)
    with pytest.raises(ValueError, match="operator must be one of l0, shock, rtv, got 'l7'"):
        net(image, 0.02, operator="l7")
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.05\] for rtv, got 0.1"):
        net(image, 0.1, operator="rtv")
    with pytest.raises(ValueError, match="shock has no parameter"):
        net(image, 0.1, operator="shock")
    with pytest.raises(ValueError, match=r"one operator per image \(2\), got 1"):
        net(image, 0.02, operator=["l0"])
    with pytest.raises(ValueError, match="operator_code must be one of"):
        joint(operator_code="word")
    with pytest.raises(ValueError, match="at least one operator"):
        DecoupledNetwork({})


def test_the_code_of_the_paper():
    """i/n for the i-th of n operators, then the parameters, zero where there is none."""
    net = joint(operator_code="number", rescaling="linear")
    rows = [net.gamma_code(value, operator=name)[0] for name, value in CASES]
    expected = [[1 / 3, -1, 0], [2 / 3, 0, 0], [1, 2 * 0.008 / 0.048 - 1, -0.6], [1 / 3, 1, 0]]
    assert torch.allclose(torch.stack(rows), torch.tensor(expected), atol=1e-6)


def test_depthwise_base_of_section_5():
    """Pointwise to twice the width, 3x3 depth-wise, pointwise back; 27 layers."""
    layers = convolutions(width=128, depthwise=True)
    assert len(layers) == 27
    assert [layer.weight_shape for layer in layers[3:6]] == [(256, 128, 1, 1), (256, 1, 3, 3), (128, 256, 1, 1)]
    assert [layer.dilation for layer in layers[4:24:3]] == [2, 4, 4, 8, 8, 16, 1]
    assert [k for k, layer in enumerate(layers) if layer.opens_block] == list(range(3, 24, 3))
    assert [k for k, layer in enumerate(layers) if layer.closes_block] == list(range(5, 24, 3))


def test_bad_input():
    net, image = network(), torch.rand(2, 3, 20, 24)
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.2\] for l0, got 0.5"):
        net(image, 0.5)
    assert net(image, 0.3, check_range=False).shape == image.shape
    with pytest.raises(ValueError, match="one row of 1 per image"):
        net(image, [0.01, 0.02, 0.03])
    with pytest.raises(ValueError, match="at least 16 pixels"):
        net(torch.rand(1, 3, 12, 40), 0.02)
    with pytest.raises(TypeError, match="floating-point"):
        net(torch.zeros(1, 3, 20, 20, dtype=torch.uint8), 0.02)
    with pytest.raises(ValueError, match="shape"):
        net(torch.rand(3, 20, 20), 0.02)
    with pytest.raises(ValueError, match="finite"):
        net(image.clone().fill_(float("nan")), 0.02)
    with pytest.raises(ValueError, match="values must lie in"):
        net(image * 255, 0.02)
    with pytest.raises(ValueError, match="rescaling must be one of"):
        DecoupledNetwork([LAMBDA], rescaling="cubic")
    with pytest.raises(ValueError, match="width and dilations must be positive"):
        BaseNetwork(width=0)


def test_import_is_quick_and_quiet():
    """Adds at most half a second to torch's own import, and brings in none of the heavy optional packages."""
    program = (
        "import time, torch; start = time.perf_counter(); import sys, dpo_lib; took = time.perf_counter() - start; "
        "heavy = [m for m in ('matplotlib', 'ipywidgets', 'skimage', 'scipy', 'pooch', 'papermill', 'cv2') "
        "if m in sys.modules]; print(took, heavy)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
        for _ in range(3)
    ]
    took = min(float(run.stdout.split()[0]) for run in runs)
    assert all(run.stdout.split(maxsplit=1)[1].strip() == "[]" for run in runs), runs[0].stdout
    assert took < 0.5, took
