"""The sliders without a browser: what they show, that moving them recomputes, and that errors are seen."""

import asyncio
import base64
import io
import re
import struct
import warnings
import zlib
from datetime import datetime, timezone

import numpy as np
import pytest
import torch
from PIL import Image

from dpo_lib import DecoupledNetwork, psnr
from dpo_lib.images import to_numpy, to_tensor, to_uint8

ipywidgets = pytest.importorskip("ipywidgets")


from dpo_lib.operators import OPERATORS, Operator, Parameter  # noqa: E402
from dpo_lib.operators.operator import broadcast  # noqa: E402
from dpo_lib.widgets import board as board_module  # noqa: E402
from dpo_lib.widgets import explore  # noqa: E402
from dpo_lib.widgets import explorer as explorer_module  # noqa: E402
from dpo_lib.widgets.explorer import Explorer, compare, encode, keeps_features, read_upload  # noqa: E402


def darken(image, amount, power):
    if bool((broadcast(amount, image) > 0.9).any()):
        raise ValueError("amount <b>above</b> 0.9 is too dark")
    return image ** broadcast(power, image) * (1 - broadcast(amount, image))


DARKEN = Operator("darken", "Darkening", darken, parameters=[Parameter("amount", 0.1, 1), Parameter("power", 1, 3)])
INVERT = Operator("invert", "Inversion", lambda image: 1 - image)


def photograph(height=24, width=33):
    y, x = np.mgrid[:height, :width] / width
    return np.stack([0.2 + 0.6 * x, 0.3 + 0.4 * (x > 0.4), 0.5 + 0 * y], axis=-1)


def decoded(picture, form="PNG"):
    with Image.open(io.BytesIO(picture.value)) as image:
        assert image.format == form and picture.format == form.lower()
        return np.asarray(image)


def random_network(*names, generated="norm(last)", width=4):
    """A network whose answers depend on the parameter."""
    torch.manual_seed(0)
    parameters = {name: OPERATORS[name].parameters for name in names}
    network = DecoupledNetwork(parameters, width=width, dilations=(1,), generated=generated).eval()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return network.requires_grad_(False)


def answer_of(network, image, *arguments, **options):
    return to_uint8(to_numpy(network(to_tensor(image).float(), *arguments, **options)))


def is_close(one, other):
    return one.shape == other.shape and np.abs(one.astype(int) - other).max() <= 1


def send(box, name, content):
    """What the browser does when a file is chosen."""
    now = datetime.now(timezone.utc)
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content)}
    box.upload.value = ({**file, "last_modified": now},)


def in_a_loop(*steps, rest=0.2):
    """Run the steps as a kernel does, in an event loop that goes on between them; gives their results."""

    async def run():
        results = []
        for step in steps:
            results.append(step())
            await asyncio.sleep(rest)
        return results

    return asyncio.run(run())


def visible(box, kind):
    """All widgets of a kind that the box shows, at any depth."""
    found = []
    for child in getattr(box, "children", ()):
        found += [child] * isinstance(child, kind) + visible(child, kind)
    return found


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


def test_features_are_kept_for_late_layers_only():
    assert keeps_features(random_network("l0"))
    assert keeps_features(random_network("l0", "shock", generated="conv(last)"))
    assert not keeps_features(random_network("l0", generated="conv(all)"))
    assert not keeps_features(random_network("l0", generated="none")) and not keeps_features(None)
    assert not keeps_features(lambda image, value: image)


def test_the_default_size_fits_the_network():
    photo = photograph(60, 600)
    for network, expected in ((random_network("l0"), 512), (random_network("l0", generated="conv(all)"), 320)):
        assert decoded(explore(network, photo).pictures["network"]).shape[1] == expected
        assert decoded(explore(network, photo, longest_side=200).pictures["network"]).shape[1] == 200
    # a degradation changes the network's input: nothing can be kept
    assert decoded(explore(random_network("denoise"), photo).pictures["network"]).shape[1] == 320
    # networks need 16 pixels a side
    assert decoded(explore(random_network("l0"), photograph(20, 1600)).pictures["network"]).shape == (16, 1280, 3)


def test_features_are_kept_for_an_image_and_all_its_parameter_values(monkeypatch):
    network = random_network("l0", "rgf", "shock")
    made = []
    monkeypatch.setattr(
        DecoupledNetwork,
        "tuner",
        lambda net, image, make=DecoupledNetwork.tuner: (made.append(image.shape), make(net, image))[1],
    )
    first, second = photograph(), 1 - photograph(30, 20)
    box = explore(network, {"first": first, "second": second})
    made.clear()
    for value in (0.004, 0.1):
        box.sliders[0].value = value
        assert is_close(decoded(box.pictures["network"]), answer_of(network, first, value, operator="l0"))
    for name in ("rgf", "shock"):
        box.operator_list.value = name
        assert is_close(decoded(box.pictures["network"]), answer_of(network, first, operator=name))
    assert made == [] and box.sliders == []
    box.image_list.value = "second"
    box.operator_list.value = "rgf"
    box.sliders[0].value = 3.0
    assert made == [(1, 3, 30, 20)]
    assert is_close(decoded(box.pictures["network"]), answer_of(network, second, 3.0, operator="rgf"))


def test_weights_that_changed_need_a_refresh():
    network = random_network("l0")
    box = explore(network, photograph())
    before = box.pictures["network"].value
    with torch.no_grad():
        network.base_network.scale.mul_(-1)
        network.weight_learning_network.fixed["conv1"].mul_(-1)
    box.refresh()
    assert box.pictures["network"].value != before
    assert is_close(decoded(box.pictures["network"]), answer_of(network, photograph()))


def test_a_drag_shows_jpeg_and_the_rest_png(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    network = random_network("l0")
    box = explore(network, photograph())
    slider, shown, source = box.sliders[0], box.pictures["network"], box.pictures["input"].value

    def drag():
        forms = []
        for value in (0.004, 0.03, 0.1):
            slider.value = value
            forms.append((decoded(shown, "JPEG"), box.pictures["input"].value == source))
        return forms

    (forms,) = in_a_loop(drag)
    assert all(same for _, same in forms)
    expected = answer_of(network, photograph(), 0.1)
    with Image.open(io.BytesIO(encode(expected, lossless=False))) as coarse:
        assert np.abs(forms[-1][0] - np.asarray(coarse, dtype=float)).mean() < 1
    assert is_close(decoded(shown), expected)
    # outside an event loop there is nothing to wait for
    slider.value = 0.05
    assert is_close(decoded(shown), answer_of(network, photograph(), 0.05))


def test_a_value_that_the_browser_rounds_changes_nothing(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    seen = []
    box = explore(lambda image, value: seen.append(value) or image, photograph(), operator=OPERATORS["l0"])

    def move():
        box.sliders[0].value *= 1 + 1e-12
        return decoded(box.pictures["network"]).shape  # still PNG

    assert in_a_loop(move) == [(24, 33, 3)] and len(seen) == 1


def test_a_refresh_does_not_wait_for_rest(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    box = explore(random_network("l0"), photograph())

    def move_and_refresh():
        box.sliders[0].value = 0.004
        box.refresh()
        return decoded(box.pictures["network"]), box._timer

    ((image, timer),) = in_a_loop(move_and_refresh)
    assert timer is None and np.array_equal(image, decoded(box.pictures["network"]))


def test_slow_networks_answer_in_a_smaller_size_while_a_slider_moves(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    monkeypatch.setattr(explorer_module, "QUICK_MS", 0.0)
    box = explore(DARKEN, photograph(100, 300))
    source = box.pictures["input"].value

    def move():
        box.sliders[0].value = 0.5
        return decoded(box.pictures["Darkening"], "JPEG").shape, decoded(box.pictures["input"]).shape

    assert in_a_loop(move) == [((53, 160, 3), (100, 300, 3))]
    assert is_close(decoded(box.pictures["Darkening"]), to_uint8(DARKEN(photograph(100, 300), [0.5, 2.0])))
    assert box.pictures["input"].value == source
    explorer = Explorer(None, {"image": photograph(100, 300)})
    explorer(DARKEN, "image")
    monkeypatch.setattr(explorer_module, "QUICK_MS", 1e6)
    assert explorer.side(DARKEN, quick=True) == explorer.side(DARKEN) == 320


def test_the_operator_runs_on_request_and_never_in_a_drag(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    calls = []

    def counted(image, amount):
        calls.append(round(float(amount), 6))
        return image * (1 - broadcast(amount, image))

    operator = Operator("counted", "Counted", counted, parameters=[Parameter("amount", 0.1, 1)])
    box = explore(lambda image, value: image, photograph(), operator=operator)
    assert calls == [] and "dB" not in box.text.value and "operator" not in box.text.value
    assert visible(box, ipywidgets.Image) == [box.pictures["input"], box.pictures["network"]]
    box.sliders[0].value = 0.3
    assert calls == []
    box.with_operator.value = True
    assert calls == [0.3] and visible(box, ipywidgets.Image) == list(box.pictures.values())
    image = to_tensor(photograph()).float()
    assert f"{psnr(image, operator(image, 0.3))[0]:.2f} dB" in box.text.value
    calls.clear()
    box.zoom.value = 2
    assert calls == []  # another part of the same picture

    def drag():
        for value in (0.4, 0.5, 0.6):
            box.sliders[0].value = value
        return list(calls), "dB" in box.text.value, "Counted when the slider rests" in box.text.value

    assert in_a_loop(drag) == [([], False, True)]
    assert calls == [0.6] and "dB" in box.text.value and "rests" not in box.text.value
    box.with_operator.value = False
    box.sliders[0].value = 0.7
    assert calls == [0.6] and visible(box, ipywidgets.Image) == [box.pictures["input"], box.pictures["network"]]
    box.refresh()
    assert calls == [0.6, 0.7]


def test_restoration_is_always_held_against_the_clean_picture(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    box = explore(lambda image, value: image, photograph(), operator=OPERATORS["denoise"])
    assert box.with_operator not in visible(box, ipywidgets.Checkbox)
    assert visible(box, ipywidgets.Image) == list(box.pictures.values())

    def move():
        box.sliders[0].value = 30
        return box.text.value

    for text in (box.text.value, *in_a_loop(move), box.text.value):
        assert "network against clean picture" in text and "dB" in text


def test_swipe():
    box = explore(random_network("l0", "denoise"), photograph(300, 400))
    box.view.value = "swipe"
    assert set(visible(box, ipywidgets.Image)) == {box.pictures["input"], box.pictures["network"]}
    (stack,) = visible(box, ipywidgets.GridBox)
    lower, upper = stack.children
    assert lower is box.pictures["network"] and upper.children == (box.pictures["input"],)
    assert lower.layout.grid_area == upper.layout.grid_area and upper.layout.overflow == "hidden"
    before = box.pictures["network"].value
    box.position.value = 20
    assert upper.layout.width == "20%" and box.pictures["network"].value == before
    assert lower.layout.width == box.pictures["input"].layout.width == stack.layout.width == "400px"
    box.with_operator.value = True  # beside the two
    assert visible(box, ipywidgets.Image)[-1] is box.pictures["L0 smoothing"]
    box.operator_list.value = "denoise"
    lower, upper = visible(box, ipywidgets.GridBox)[0].children
    assert lower is box.pictures["network"] and upper.children == (box.pictures["degraded"],)
    assert upper.layout.width == "20%" and box.pictures["clean"] in visible(box, ipywidgets.Image)
    box.view.value = "side by side"
    assert visible(box, ipywidgets.GridBox) == [] and box.position not in visible(box, ipywidgets.IntSlider)
    box.position.value = 60
    alone = explore(DARKEN, photograph())
    alone.view.value = "swipe"
    assert visible(alone, ipywidgets.Image) == [alone.pictures["Darkening"], alone.pictures["input"]]


def test_swiping_sends_nothing_but_a_width():
    box = explore(INVERT, photograph())
    box.view.value = "swipe"
    line = box.text.value
    box.position.value = 30
    assert box.text.value == line


@pytest.mark.parametrize("zoom", [2, 4, 8])
def test_zoom_shows_a_window_pixel_by_pixel(zoom):
    photo = np.random.default_rng(0).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    box = explore(INVERT, photo)
    assert box.across not in visible(box, ipywidgets.IntSlider)
    assert "dpo-crisp" not in box.pictures["input"]._dom_classes
    box.zoom.value = zoom
    box.across.value, box.down.value = 100, 0
    height, width = 64 // zoom, 80 // zoom
    assert np.array_equal(decoded(box.pictures["input"]), photo[:height, -width:])
    assert np.array_equal(decoded(box.pictures["Inversion"]), 255 - photo[:height, -width:])
    assert {box.across, box.down} <= set(visible(box, ipywidgets.IntSlider))
    assert "dpo-crisp" in box.pictures["input"]._dom_classes
    assert any("pixelated" in part.value for part in visible(box, ipywidgets.HTML))
    box.zoom.value = 1
    assert np.array_equal(decoded(box.pictures["input"]), photo)
    assert "dpo-crisp" not in box.pictures["input"]._dom_classes


def test_moving_the_window_computes_nothing(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    seen = []
    box = explore(lambda image, value: seen.append(value) or image, photograph(64, 80), operator=DARKEN)
    box.zoom.value = 4
    seen.clear()

    def move():
        box.across.value = 80
        return decoded(box.pictures["network"], "JPEG").shape

    assert in_a_loop(move) == [(16, 20, 3)]
    assert seen == [] and np.array_equal(decoded(box.pictures["network"]), decoded(box.pictures["input"]))


def test_an_uploaded_picture():
    box = explore(INVERT, photograph())
    assert box.image_list not in visible(box, ipywidgets.Dropdown)
    buffer = io.BytesIO()
    uploaded = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(uploaded).save(buffer, "PNG")
    send(box, "mine <b>.png", buffer.getvalue())
    assert box.image_list.options == ("image", "mine <b>.png") and box.image_list.value == "mine <b>.png"
    assert box.image_list in visible(box, ipywidgets.Dropdown) and box.upload.value == ()
    assert np.array_equal(decoded(box.pictures["input"]), uploaded)
    assert np.array_equal(decoded(box.pictures["Inversion"]), 255 - uploaded)
    buffer = io.BytesIO()
    Image.fromarray(255 - uploaded).save(buffer, "PNG")  # another one of the same name
    send(box, "mine <b>.png", buffer.getvalue())
    assert np.array_equal(decoded(box.pictures["input"]), 255 - uploaded) and len(box.image_list.options) == 2
    box.image_list.value = "image"
    assert np.abs(decoded(box.pictures["input"]).astype(int) - to_uint8(photograph())).max() <= 1


def test_an_upload_reaches_the_network():
    network = random_network("l0")
    box = explore(network, photograph())
    buffer = io.BytesIO()
    Image.fromarray(to_uint8(1 - photograph(30, 40))).save(buffer, "PNG")
    send(box, "image", buffer.getvalue())  # takes the first one's name
    assert is_close(decoded(box.pictures["network"]), answer_of(network, to_uint8(1 - photograph(30, 40))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n and then nothing", "not readable as an image"),
        (b"", "not readable as an image"),
        (encode(photograph(60, 70), lossless=False)[:900], "not readable as an image"),
        (encode(photograph(9, 40)), "at least 16 pixels a side, got 40 x 9"),
    ],
    ids=["damaged", "empty", "cut off", "tiny"],
)
def test_a_bad_upload_is_one_error_and_changes_nothing(content, message):
    with pytest.raises(ValueError, match=message):
        read_upload("mine", content)
    box = explore(DARKEN, photograph())
    before = [picture.value for picture in box.pictures.values()]
    send(box, "<mine>.png", content)
    assert box.text.value.count("Error") == 1 and message in box.text.value and "#b00" in box.text.value
    assert "&lt;mine&gt;.png" in box.text.value
    assert [picture.value for picture in box.pictures.values()] == before and box.image_list.options == ("image",)
    box.sliders[0].value = 0.3
    assert "Error" not in box.text.value and "ms" in box.text.value


def test_a_large_upload_is_kept_reduced():
    buffer = io.BytesIO()
    stripes = np.zeros((96, 9000, 4), np.uint8)
    stripes[:, :4500, :3], stripes[..., 3] = 200, 255
    stripes[:, 8000:, 3] = 0
    Image.fromarray(stripes).save(buffer, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # white where it was transparent is seen
        explorer = Explorer(None, {"image": photograph()})
        explorer.add("mine", read_upload("mine", buffer.getvalue()))
    kept = explorer.images["mine"]
    assert kept.shape == (24, 2250, 3) and kept.dtype == np.uint8
    assert (kept[:, :1125] == 200).all() and (kept[:, 1125:2000] == 0).all() and (kept[:, 2000:] == 255).all()
    explorer.add("small", to_uint8(photograph()))
    np.testing.assert_array_equal(explorer.images["small"], to_uint8(photograph()))


def test_an_upload_that_unpacks_to_gigabytes_is_refused():
    buffer = io.BytesIO()
    Image.new("1", (16, 11)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = struct.pack(">II", 13_000, 13_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(ValueError, match="mine.png has 13000 x 13000 = 169000000 pixels, expected 1"):
        read_upload("mine.png", bytes(content))


def test_the_answer_can_be_saved():
    network = random_network("l0")
    box = explore(network, {"my photo.jpg": photograph(64, 80)})
    box.sliders[0].value, box.zoom.value = 0.1, 4
    assert box.link.value == ""
    box.save.click()
    file, address = re.fullmatch(r"<a download='(.*)' href='data:image/png;base64,(.*)'><u>.*", box.link.value).groups()
    assert file == "my_photo_l0_lambda_0.1.png"
    with Image.open(io.BytesIO(base64.b64decode(address))) as saved:  # all of it, not the window
        assert is_close(np.asarray(saved), answer_of(network, photograph(64, 80), 0.1))
    box.sliders[0].value = 0.05
    assert box.link.value == ""  # the link was to another answer
    box = explore(INVERT, photograph())
    box.save.click()
    assert "image_invert.png" in box.link.value


def test_an_error_in_a_drag_or_at_rest_is_seen_and_cleared(monkeypatch):
    monkeypatch.setattr(board_module, "REST_SECONDS", 0.05)
    box = explore(lambda image, value: image, photograph(), operator=DARKEN)
    box.with_operator.value = True

    def move(value):
        box.sliders[0].value = value
        return "too dark" in box.text.value

    # the network copes with 0.95, the operator, which runs at rest, does not
    steps = (lambda: move(0.95), lambda: "too dark" in box.text.value, lambda: move(0.5))
    assert in_a_loop(*steps) == [False, True, False]
    assert "dB" in box.text.value
    box = explore(DARKEN, photograph())
    assert in_a_loop(lambda: move(0.95), lambda: move(0.5)) == [True, False]


def test_what_cannot_be_explored():
    with pytest.raises(ValueError, match=r"explore needs an operator: give operator=OPERATORS"):
        explore(lambda image, value: image, photograph())
    with pytest.raises(ValueError, match="needs an operator"):
        explore(None, photograph())
    with pytest.raises(TypeError, match="got two operators"):
        explore(DARKEN, photograph(), operator=INVERT)
    with pytest.raises(ValueError, match="at least one image"):
        explore(DARKEN, {})


def test_widgets_that_are_replaced_are_closed():
    """Twenty clicks leave no more widgets behind than the board shows or may show again."""
    from ipywidgets.widgets import widget as registry

    board = explore({"darken": DARKEN, "invert": INVERT}, photograph())
    clicks = [(board.zoom, 4), (board.view, "swipe"), (board.operator_list, "invert"), (board.zoom, 1)]
    clicks += [(board.view, "side by side"), (board.operator_list, "darken")]
    counts = []
    for _ in range(4):
        for part, value in clicks:
            part.value = value
        counts.append(len(registry._instances))
    assert len(set(counts)) == 1
    assert all(one.comm is not None for one in (board.position, board.position.layout, board.across, *board.sliders))
