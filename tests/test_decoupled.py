"""The networks: form and counts of the paper, batched generated convolutions against a loop, export."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from small_networks import CASES, LAMBDA, joint, network

from dpo_lib.models import DecoupledNetwork, NetworkConfig, WeightLearningNetwork, build_model


def test_counts_of_the_paper():
    base = NetworkConfig().base_network()
    assert len(base.convolutions) == 20
    assert sum(math.prod(c.weight_shape) for c in base.convolutions) == 696_256
    assert sum(p.numel() for p in base.parameters()) == 2_432
    for m in (1, 2):
        weight_net = WeightLearningNetwork(base, codes=m)
        assert sum(p.numel() for p in weight_net.parameters()) == (m + 1) * 696_256


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


@pytest.mark.parametrize("weights", [torch.float32, torch.float64, torch.bfloat16])
def test_images_of_any_precision_are_computed_in_that_of_the_weights(weights):
    net, image = network().to(weights), torch.rand(2, 3, 21, 30)
    expected = net(image.to(weights), 0.02)
    for precision in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        answer = net(image.to(precision), 0.02)
        assert answer.dtype == precision
        assert torch.equal(answer, net(image.to(precision).to(weights), 0.02).to(precision))
    assert torch.equal(net(image.double(), 0.02), expected.double()) or weights == torch.float64
    array = image[0].permute(1, 2, 0).numpy().astype(np.float16)
    assert net(array, 0.02).dtype == np.float16


def test_gradients_pass_through_the_conversion():
    net, image = network(), torch.rand(1, 3, 21, 30, dtype=torch.float64, requires_grad=True)
    net(image, 0.02).sum().backward()
    single = image.detach().float().requires_grad_()
    net(single, 0.02).sum().backward()
    assert image.grad.dtype == torch.float64 and torch.allclose(image.grad.float(), single.grad)


def test_batches_of_numpy_images():
    net, arrays = network(), np.random.default_rng(0).random((3, 21, 30, 3)).astype(np.float32)
    answers, values = net(arrays, [0.002, 0.02, 0.2]), (0.002, 0.02, 0.2)
    assert isinstance(answers, np.ndarray) and answers.shape == arrays.shape and answers.dtype == np.float32
    for answer, array, value in zip(answers, arrays, values, strict=True):
        np.testing.assert_allclose(answer, net(array, value), atol=1e-5)
    assert net(np.uint8(255 * arrays), 0.02).dtype == np.uint8


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
    direct = DecoupledNetwork([LAMBDA], operator="l0", width=8, output="direct")
    assert not torch.allclose(direct(image, 0.02), image, atol=0.1)


def test_network_without_parameters():
    net = DecoupledNetwork([], operator="shock", width=8, dilations=(1,)).eval()
    image = torch.rand(2, 3, 20, 24)
    assert net(image).shape == image.shape
    with pytest.raises(ValueError, match="shock has no parameter"):
        net(image, 0.5)


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


FORMS = ({}, {"base": "pyramid", "widths": (4, 6), "generated": "conv(all)+norm(all)"}, {"model": "input_channels"})


@pytest.mark.parametrize("form", FORMS)
def test_torchs_moods_and_layouts(form):
    torch.manual_seed(0)
    net, image = (
        build_model([LAMBDA], operator="l0", width=8, dilations=(2, 4), **form).eval(),
        torch.rand(2, 3, 21, 30),
    )
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    expected = net(image, 0.02).detach()
    layouts = [
        image.contiguous(memory_format=torch.channels_last),
        image.mT.contiguous().mT,
        image.clone().requires_grad_(),
    ]
    for laid in layouts:
        assert torch.allclose(net(laid, 0.02), expected, atol=1e-5)
    array = image[0].permute(1, 2, 0).numpy()
    assert np.abs(net(array[::-1].copy()[::-1], 0.02) - net(array, 0.02)).max() < 1e-5
    with torch.inference_mode():
        assert torch.allclose(net(image, 0.02), expected, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):  # that precision was asked for
        answer = net(image, 0.02)
    assert answer.dtype == torch.float32 and (answer - expected).square().mean().sqrt() < 0.03
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.allclose(net(image, 0.02), expected, atol=1e-5) and net(image, 0.02).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("form", FORMS)
def test_several_threads_may_call_one_network(form):
    torch.manual_seed(0)
    net = build_model([LAMBDA], operator="l0", width=8, dilations=(2, 4), **form).eval().requires_grad_(False)
    image, values = torch.rand(1, 3, 40, 50), torch.logspace(-2.6, -0.7, 20).tolist()
    expected = [net(image, value) for value in values]
    with ThreadPoolExecutor(4) as pool:
        for answer, wanted in zip(pool.map(lambda value: net(image, value), values), expected, strict=True):
            assert torch.equal(answer, wanted)


TINY = {"width": 4, "dilations": (2,), "widths": (3, 4), "blocks": 1}
EXPORTED = (
    {},
    {"base": "pyramid", "generated": "conv(all)+norm(all)"},
    {"base": "pyramid", "output": "gate", "border": "wrap", "margin": 8, "generated": "norm(all)"},
    {"base": "pyramid", "border": "symmetric", "margin": 4},
    {"base": "pyramid", "output": "gain", "equalised": True, "last_kernel": 1, "tail": 4, "generated": "norm(last)"},
)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "gray"), [(EXPORTED[0], ("l0",)), *((form, ()) for form in EXPORTED)])
def test_exported_programs_take_any_size_and_number_of_images(form, gray, tmp_path):
    """Through torch.export and ONNX, odd sizes too."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = network(**TINY, **form)
    net.gray = gray
    plain, example = net.at(0.05), (torch.rand(2, 3, 33, 46),)
    shapes = {"dynamic_shapes": (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)}
    program = torch.export.export(plain, example, **shapes).module()
    path = tmp_path / "net.onnx"
    torch.onnx.export(plain, example, path, input_names=["image"], dynamo=True, verbose=False, **shapes)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in ((1, 3, 17, 16), (2, 3, 33, 46), (1, 3, 50, 31)):
        image = torch.rand(size)
        assert torch.allclose(program(image), plain(image), atol=1e-5)
        (answer,) = session.run(None, {"image": image.numpy()})
        assert np.abs(answer - plain(image).numpy()).max() < 1e-4
