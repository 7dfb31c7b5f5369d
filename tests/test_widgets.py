"""The sliders without a browser: what they show, that moving them recomputes, and that errors are seen."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dpo_lib import DecoupledNetwork, psnr
from dpo_lib.images import to_numpy, to_tensor, to_uint8

ipywidgets = pytest.importorskip("ipywidgets")

from dpo_lib.operators import OPERATORS, Operator, Parameter  # noqa: E402
from dpo_lib.operators.operator import broadcast  # noqa: E402
from dpo_lib.widgets import compare, encode, explore, parameter_slider  # noqa: E402


def darken(image, amount, power):
    if bool((broadcast(amount, image) > 0.9).any()):
        raise ValueError("amount <b>above</b> 0.9 is too dark")
    return image ** broadcast(power, image) * (1 - broadcast(amount, image))


DARKEN = Operator("darken", "Darkening", darken, parameters=[Parameter("amount", 0.1, 1), Parameter("power", 1, 3)])
INVERT = Operator("invert", "Inversion", lambda image: 1 - image)


def photograph(height=24, width=33):
    y, x = np.mgrid[:height, :width] / width
    return np.stack([0.2 + 0.6 * x, 0.3 + 0.4 * (x > 0.4), 0.5 + 0 * y], axis=-1)


def decoded(picture):
    with Image.open(io.BytesIO(picture.value)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def visible(box, kind):
    """All widgets of a kind that the box shows, at any depth."""
    found = []
    for child in getattr(box, "children", ()):
        found += [child] * isinstance(child, kind) + visible(child, kind)
    return found


def test_encode_keeps_every_pixel_or_is_small():
    image = np.random.default_rng(0).random((40, 51, 3))
    with Image.open(io.BytesIO(encode(image))) as file:
        assert np.array_equal(np.asarray(file), to_uint8(image))
    with Image.open(io.BytesIO(encode(image, lossless=False))) as file:
        assert file.format == "JPEG" and file.size == (51, 40)


@pytest.mark.parametrize(
    ("parameter", "kind", "label"),
    [
        (Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02), ipywidgets.FloatLogSlider, "lambda"),
        (Parameter("sigma_s", 1, 10, default=5.5, unit="px"), ipywidgets.FloatSlider, "sigma_s [px]"),
        (Parameter("quality", 10, 20, sampling="integer", default=12), ipywidgets.IntSlider, "quality"),
    ],
)
def test_slider_fits_the_parameter(parameter, kind, label):
    slider = parameter_slider(parameter)
    assert isinstance(slider, kind) and slider.description == label and slider.value == parameter.default
    ends = (10**slider.min, 10**slider.max) if kind is ipywidgets.FloatLogSlider else (slider.min, slider.max)
    assert np.allclose(ends, (parameter.low, parameter.high))


def test_an_operator_alone():
    box = explore(DARKEN, photograph())
    assert list(box.pictures) == ["input", "Darkening"] and len(box.sliders) == 2
    assert visible(box, ipywidgets.Dropdown) == []  # nothing to choose
    assert np.abs(decoded(box.pictures["input"]).astype(int) - to_uint8(photograph())).max() <= 1
    assert sorted(box.refresh()) == ["operator_time_ms"]
    box.sliders[0].value, box.sliders[1].value = 0.5, 2.0
    expected = to_uint8(DARKEN(photograph(), [0.5, 2.0]))
    assert np.abs(decoded(box.pictures["Darkening"]).astype(int) - expected).max() <= 1
    assert visible(box, ipywidgets.FloatSlider) == box.sliders and "operator" in box.text.value


def test_both_ends_of_a_logarithmic_slider_are_allowed():
    box = explore(None, photograph(), operator=OPERATORS["l0"])
    for end in (10 ** box.sliders[0].min, 10 ** box.sliders[0].max):
        box.sliders[0].value = end
        assert "ms" in box.text.value


def test_the_picture_is_reduced():
    box = explore(INVERT, photograph(60, 90), longest_side=45)
    assert decoded(box.pictures["Inversion"]).shape == (30, 45, 3) and box.sliders == []
    assert decoded(explore(INVERT, photograph(20, 30)).pictures["input"]).shape == (20, 30, 3)  # never enlarged


def test_another_operator_brings_its_own_sliders_and_pictures():
    box = explore({"darken": DARKEN, "invert": INVERT, "denoise": OPERATORS["denoise"]}, photograph())
    assert [label for label, _ in box.operator_list.options] == ["Darkening", "Inversion", "Denoising"]
    assert visible(box, ipywidgets.Dropdown) == [box.operator_list]
    box.operator_list.value = "invert"
    assert box.sliders == [] and visible(box, ipywidgets.FloatSlider) == []
    assert np.abs(decoded(box.pictures["Inversion"]) + decoded(box.pictures["input"]).astype(int) - 255).max() <= 1
    box.operator_list.value = "denoise"
    assert [slider.description for slider in box.sliders] == ["sigma [/255]"]
    assert visible(box, ipywidgets.Image) == list(box.pictures.values())
    clean, degraded = (decoded(box.pictures[name]).astype(float) for name in ("clean", "degraded"))
    assert 20 < np.std(clean - degraded) < 30
    box.sliders[0].value = 70
    assert np.std(decoded(box.pictures["degraded"]) - clean) > 45


def test_the_whole_table_can_be_explored():
    box = explore(OPERATORS, photograph(16, 23))
    for name, operator in OPERATORS.items():
        box.operator_list.value = name
        assert len(box.sliders) == len(operator.parameters) and "ms" in box.text.value, box.text.value
        assert all(decoded(picture).shape == (16, 23, 3) for picture in box.pictures.values())


def test_images_to_choose_from():
    first, second = photograph(), 1 - photograph(30, 20)
    box = explore(INVERT, {"first": first, "second": second})
    assert visible(box, ipywidgets.Dropdown) == [box.image_list]
    box.image_list.value = "second"
    assert np.abs(decoded(box.pictures["input"]).astype(int) - to_uint8(second)).max() <= 1
    embedded = explore(INVERT, longest_side=40)
    assert {"astronaut", "coffee"} <= set(embedded.image_list.options)
    assert max(decoded(embedded.pictures["input"]).shape) == 40


def test_a_network_beside_its_operator():
    box = explore(lambda image, value: DARKEN(image, value) + 0.1, photograph(), operator=DARKEN)
    assert list(box.pictures) == ["input", "network", "Darkening"]
    numbers = box.refresh()
    assert sorted(numbers) == ["operator_time_ms", "psnr_db", "time_ms"]
    assert abs(numbers["psnr_db"] - 20) < 0.3 and f"{numbers['psnr_db']:.2f} dB" in box.text.value


def test_a_network_for_restoration_sees_the_degraded_image_and_is_held_against_the_clean_one():
    seen = []

    def network(image, value):
        seen.append(image)
        return image

    denoise, image = OPERATORS["denoise"], to_tensor(photograph())
    pictures, numbers = compare(network, denoise, image, 25.0, seed=3)
    shown, target = denoise.make_pair(image, 25.0, 3)
    assert torch.equal(seen[0], shown) and torch.equal(pictures["degraded"], shown)
    assert torch.equal(pictures["clean"], target) and list(pictures) == ["clean", "degraded", "network"]
    assert numbers["psnr_db"] == psnr(shown[0], target[0])


def test_a_network_for_several_operators_is_told_which():
    names = ("rgf", "shock", "denoise")
    torch.manual_seed(0)
    network = DecoupledNetwork({n: OPERATORS[n].parameters for n in names}, width=4, dilations=(1,)).eval()
    box = explore(network, photograph())
    assert [value for _, value in box.operator_list.options] == list(names)
    for name in names:
        box.operator_list.value = name
        shown, _ = OPERATORS[name].make_pair(to_tensor(photograph()), None, 0)
        with torch.no_grad():
            expected = to_uint8(to_numpy(network(shown.float(), operator=name)))
        assert np.abs(decoded(box.pictures["network"]).astype(int) - expected).max() <= 1


def test_errors_are_shown_where_a_slider_moves_and_raised_where_called():
    box = explore(DARKEN, photograph())
    before = box.pictures["Darkening"].value
    box.sliders[0].value = 0.95
    assert "ValueError: amount &lt;b&gt;above&lt;/b&gt; 0.9 is too dark" in box.text.value
    with pytest.raises(ValueError, match="too dark"):
        box.refresh()
    box.sliders[0].value = 0.2
    assert "too dark" not in box.text.value and box.pictures["Darkening"].value != before
    box = explore(OPERATORS["rgf"], {"large": photograph(), "small": photograph(3, 9)})
    box.image_list.value = "small"
    assert "at least 4 pixels a side" in box.text.value
    box.image_list.value = "large"
    assert "ms" in box.text.value


def test_what_cannot_be_explored():
    with pytest.raises(ValueError, match=r"explore needs an operator: give operator=OPERATORS"):
        explore(lambda image, value: image, photograph())
    with pytest.raises(ValueError, match="needs an operator"):
        explore(None, photograph())
    with pytest.raises(TypeError, match="got two operators"):
        explore(DARKEN, photograph(), operator=INVERT)
    with pytest.raises(ValueError, match="at least one image"):
        explore(DARKEN, {})
