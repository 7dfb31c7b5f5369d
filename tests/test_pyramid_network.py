"""The pyramid behind the library's calls: batches, tuner, joint training, input channels, files, export."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_networks import CASES, LAMBDA, THREE

from dpo_lib import DecoupledNetwork, load_network, save_network
from dpo_lib.analysis.receptive_field import effective_receptive_field, receptive_interval
from dpo_lib.models import NetworkConfig, build_model


def pyramid(operators=None, seed=0, **settings):
    """A small network away from its initial state."""
    torch.manual_seed(seed)
    settings = {"base": "pyramid", "widths": (6, 8, 10), "blocks": 1, "generated": "conv(all)+norm(all)", **settings}
    net = build_model({"l0": [LAMBDA]} if operators is None else operators, **settings).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.requires_grad_(False)


@pytest.mark.parametrize("size", [(33, 46), (64, 40), (16, 17)])
def test_values_per_image_equal_one_by_one(size):
    net, images, values = pyramid(), torch.rand(3, 3, *size), [0.002, 0.02, 0.2]
    answers = net(images, values)
    assert answers.shape == images.shape and (answers[0] - answers[2]).abs().max() > 1e-3
    for index, value in enumerate(values):
        assert torch.allclose(answers[index], net(images[index : index + 1], value)[0], atol=1e-5)


@pytest.mark.parametrize("settings", [
    {"tail": 12}, {"tail": 12, "output": "gate"}, {"tail": 0}, {"padding": "zeros"},
    {"tail": 12, "last_kernel": 1, "output": "gain", "equalised": True},
    {"tail": 12, "last_kernel": 1, "padding": "zeros"},
])  # fmt: skip
def test_the_tuner_gives_the_networks_answer(settings):
    net = pyramid(THREE, generated="norm(last)", **settings)
    image = torch.rand(2, 3, 37, 50)
    tuner = net.tuner(image)
    for name, value in CASES:
        assert torch.allclose(tuner(value, operator=name), net(image, value, operator=name), atol=1e-5)
    assert tuner.only_activation == bool(settings.get("tail"))


@pytest.mark.parametrize("model", ["input_channels", "film", "base_only"])
def test_baselines_on_the_pyramid(model, tmp_path):
    net = pyramid(THREE, model=model)
    image = torch.rand(1, 3, 30, 41)
    again = load_network(save_network(tmp_path / "net.safetensors", net))
    answers = [net(image, value, operator=name) for name, value in CASES]
    for (name, value), answer in zip(CASES, answers, strict=True):
        assert torch.equal(again(image, value, operator=name), answer)
    differ = (answers[0] - answers[1]).abs().max() > 1e-4
    assert differ == (model != "base_only")


def test_export_gives_the_same_answer(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    plain, image = pyramid().at(0.05), torch.rand(1, 3, 35, 26)
    exported = torch.export.export(plain, (image,)).module()
    assert torch.allclose(exported(image), plain(image), atol=1e-5)
    torch.onnx.export(plain, (image,), tmp_path / "net.onnx", input_names=["image"], dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"image": image.numpy()})
    assert np.abs(answer - plain(image).numpy()).max() < 1e-4


def test_the_effective_field_lies_in_the_theoretical_one():
    net = pyramid(widths=(4, 6))
    image = np.random.default_rng(0).random((120, 96, 3))
    field = effective_receptive_field(net, image, 0.05, (57, 41))
    rows, columns = (receptive_interval(net.base_network.convolutions, position) for position in (57, 41))
    touched = field.gradient[0] > 0
    found = [np.flatnonzero(touched.any(axis)) for axis in (1, 0)]
    assert rows[0] <= found[0][0] and found[0][-1] <= rows[1]
    assert columns[0] <= found[1][0] and found[1][-1] <= columns[1]
    assert found[0][-1] - found[0][0] > 0.6 * (rows[1] - rows[0])


def test_a_base_network_has_its_own_normalisation():
    assert NetworkConfig(base="pyramid").normalised_by == "kernel"
    assert replace(NetworkConfig(), base="pyramid").normalised_by == "kernel"
    assert replace(NetworkConfig(base="pyramid"), base="dilated").normalised_by == "instance"
    assert NetworkConfig(base="pyramid", normalisation="instance").normalised_by == "instance"


def test_nothing_far_away_matters():
    net = DecoupledNetwork([LAMBDA], base="pyramid", widths=(4, 6), blocks=1).eval().requires_grad_(False)
    torch.nn.init.normal_(net.weight_learning_network.heads["conv10"].bias)
    image = torch.rand(1, 3, 160, 64)
    other = image.clone()
    other[..., 120:, :] = 1
    assert torch.equal(net(image, 0.02)[..., :80, :], net(other, 0.02)[..., :80, :])
