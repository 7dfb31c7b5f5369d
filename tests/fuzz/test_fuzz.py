"""The public door under whatever may be handed in: a right answer, or an error in the library's own words."""

import dataclasses
import json
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import NUMBERS, THINGS, VALUES, answer, images, is_same

from dpo_lib import (
    OPERATORS,
    DecoupledNetwork,
    Operator,
    Parameter,
    load_image,
    load_network,
    psnr,
    save_image,
    save_network,
    ssim,
    train,
)
from dpo_lib.models import NetworkConfig
from dpo_lib.models.baselines import build_model
from dpo_lib.parameters import as_gamma
from dpo_lib.records import read_table
from dpo_lib.training import Phase, TrainConfig

LAMBDA = Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02)
GAIN = Operator.from_function(lambda image, gain: image * gain, name="gain", parameters=[Parameter("gain", 0.2, 0.9)])


def network(**form):
    torch.manual_seed(0)
    net = DecoupledNetwork([LAMBDA], operator="l0", **{"width": 4, "dilations": (1, 2), **form}).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return net.requires_grad_(False)


NETWORKS = [network(), network(base="pyramid", widths=(4, 6), blocks=1, generated="conv(all)+norm(all)")]


def check_picture(result, image):
    """An answer has the image's kind, shape and dtype, and finite numbers."""
    assert type(result) is type(image) or isinstance(image, np.ma.MaskedArray)
    assert result.shape == image.shape and result.dtype == image.dtype
    finite = result.isfinite() if isinstance(result, torch.Tensor) else np.isfinite(result)
    assert bool(finite.all())


@given(st.sampled_from(sorted(OPERATORS)), images(), VALUES)
def test_operators(name, image, value):
    result = answer(OPERATORS[name], image, value)
    if result is not None:
        check_picture(result, image)


@given(st.sampled_from(sorted(OPERATORS)), images(good=True), st.floats(0, 1), st.sampled_from(["f8", "u1", "back"]))
def test_operators_answer_alike_whatever_the_form(name, image, share, form):
    operator = OPERATORS[name]
    if operator.kind != "filter":
        return
    values = [p.low + share * (p.high - p.low) for p in operator.parameters]
    values = [round(v) if p.sampling == "integer" else v for v, p in zip(values, operator.parameters, strict=True)]
    image = np.round(image * 255) / np.float32(255)
    other = {"f8": image.astype("f8"), "u1": np.uint8(np.round(image * 255)), "back": image[::-1].copy()[::-1]}[form]
    value = [values] if values else None
    first, second = answer(operator, image, value), answer(operator, other, value)
    assert first is not None and second is not None
    if form != "f8" or name not in SHARP:
        first = first.clip(0, 1) if form == "u1" else first  # 8 bits hold nothing else; l0 may go beyond
        assert is_same(first, second, 1e-6 if form == "back" else 0.51 / 255 if form == "u1" else 0.02)


SHARP = {"l0", "shock", "wmf", "pencil", "stylization"}  # thresholds: a last digit may decide


@given(st.sampled_from(NETWORKS), images(), VALUES)
def test_networks(net, image, value):
    result = answer(net, image, value)
    if result is not None:
        check_picture(result, image)


@given(st.sampled_from(NETWORKS), images(good=True), st.floats(0.002, 0.2), st.sampled_from(["f8", "f2", "u1", "back"]))
def test_networks_answer_alike_whatever_the_form(net, image, value, form):
    image = np.round(image * 255) / np.float32(255)
    other = {"u1": np.uint8(np.round(image * 255)), "back": image[::-1].copy()[::-1]}.get(form)
    other = image.astype(form) if other is None else other
    first, second = answer(net, image, value), answer(net, other, value)
    low, high = (0, 1) if form == "u1" else (-np.inf, np.inf)
    assert is_same(np.clip(first, low, high), second, {"u1": 0.51 / 255, "f2": 0.05}.get(form, 1e-4))


FIELDS = {field.name: field.default for field in dataclasses.fields(NetworkConfig)}
COUNT, WORDS = st.integers(-1, 6), st.text(max_size=5)
SAMPLINGS = st.sampled_from(["log", "uniform", "integer", "x"])
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(
            {int: COUNT, bool: st.booleans(), tuple: st.lists(COUNT, max_size=3)}.get(type(default), WORDS),
            {
                "base": st.sampled_from(["pyramid", "dilated"]),
                "generated": st.sampled_from(["none", "norm(last)", "conv(1)", "conv(3).in", "norm(all)", "conv(99)"]),
                "output": st.sampled_from(["direct", "gate", "residual"]),
                "normalisation": st.sampled_from(["kernel", "instance"]),
                "operator_code": st.sampled_from(["number", "one_hot", "embedding"]),
                "model": st.sampled_from(["film", "input_channels", "base_only", "decoupled"]),
            }.get(name, THINGS),
            NUMBERS,
        )
        for name, default in FIELDS.items()
    },
)


@given(SETTINGS, images(good=True))
def test_forms_of_networks(settings, image):
    small = {"width": 4, "dilations": (1,), "widths": (4, 4), "blocks": 1}
    config = answer(NetworkConfig, **{**small, **settings})
    if config is None or max(config.width, *config.widths, config.hidden, *config.trunk, config.blocks) > 32:
        return
    net = answer(build_model, [LAMBDA], config, operator="l0")
    if net is not None:
        result = answer(net.eval().requires_grad_(False), image, 0.02)
        assert result is not None
        check_picture(result, image)


@given(images(), st.one_of(images(), st.none()), st.sampled_from(["rgb", "gray", "luminance", "x", 3]), NUMBERS)
def test_metrics(prediction, target, on, data_range):
    target = prediction if target is None else target
    for measure, best in ((psnr, math.inf), (ssim, 1)):
        for options in ({"on": on}, {"on": on, "data_range": data_range}):
            result = answer(measure, prediction, target, **options)
            if result is not None:
                assert not np.isnan(result).any() and (np.asarray(result) <= best + 1e-9).all()
                assert prediction is not target or np.allclose(result, best)


@given(images(), st.sampled_from([".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm", ".xyz", ""]), st.booleans(), NUMBERS)
def test_images_in_files(tmp_path_factory, image, suffix, clip, quality):
    path = tmp_path_factory.getbasetemp() / f"fuzzed{suffix}"
    quality = quality if suffix == ".jpg" else 95
    if answer(save_image, path, image, clip=clip, quality=quality) is None:
        return
    again = answer(load_image, path)
    assert again is not None and again.dtype == np.float32
    shown = np.asarray(image.detach().float() if isinstance(image, torch.Tensor) else image)
    shown = shown.reshape(shown.shape[-3:])
    shown = shown.transpose(1, 2, 0) if isinstance(image, torch.Tensor) else shown
    assert again.shape == shown.shape
    scale = 255 if image.dtype in (np.uint8, torch.uint8) else 1
    assert suffix == ".jpg" or np.abs(again - np.clip(shown / scale, 0, 1)).max() < 0.51 / 255 + 1e-3


@given(st.binary(max_size=80), st.integers(0, 400), st.sampled_from(["image", "network", "table"]))
def test_damaged_files(tmp_path_factory, noise, place, kind):
    folder = tmp_path_factory.getbasetemp()
    path = folder / {"image": "a.png", "network": "a.safetensors", "table": "a.csv"}[kind]
    if kind == "image":
        save_image(path, np.full((9, 14, 3), 0.3))
    elif kind == "network":
        save_network(path, NETWORKS[0])
    else:
        path.write_text("name,value\nä,1\n")
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + noise + whole[place + len(noise) :])
    read = {"image": load_image, "network": load_network, "table": read_table}[kind]
    result = answer(read, path)
    if kind == "network" and result is not None:
        assert is_same(result(np.full((16, 16, 3), 0.4), 0.02), NETWORKS[0](np.full((16, 16, 3), 0.4), 0.02), 1e-6)


PATHS = st.sampled_from([("network", name) for name in FIELDS] + [("operators",), ("operators", "l0"), ("format",)])


@given(PATHS, st.one_of(NUMBERS, WORDS, st.lists(COUNT), st.none(), st.just({}), st.just("drop")))
def test_metadata_of_weight_files(tmp_path_factory, path, value):
    from safetensors import safe_open
    from safetensors.torch import save_file

    file = save_network(tmp_path_factory.getbasetemp() / "b.safetensors", NETWORKS[0])
    with safe_open(file, "pt") as stored:
        metadata, tensors = stored.metadata(), {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    form = json.loads(metadata["form"])
    place = form
    for key in path[:-1]:
        place = place[key]
    if value == "drop":
        place.pop(path[-1])
    else:
        place[path[-1]] = value
    try:
        text = json.dumps(form)
    except ValueError:
        return
    save_file(tensors, file, metadata={"form": text})
    result = answer(load_network, file)
    if result is not None:
        check_picture(result(np.full((16, 16, 3), 0.4), 0.02), np.full((16, 16, 3), 0.4))


@given(st.one_of(WORDS, THINGS), NUMBERS, NUMBERS, SAMPLINGS)
def test_parameters(name, low, high, sampling):
    for parameter in (answer(Parameter, name, low, high, sampling=sampling), answer(Parameter, "a", low, high)):
        if parameter is not None:
            drawn = parameter.sample(3, torch.Generator().manual_seed(0))
            assert bool(((drawn >= parameter.low) & (drawn <= parameter.high)).all())
            assert parameter.low <= parameter.default <= parameter.high


@given(VALUES)
def test_values(value):
    gamma = answer(as_gamma, value, parameters=[LAMBDA], batch=1, owner="it")
    assert gamma is None or (gamma.shape == (1, 1) and 0.002 - 1e-6 <= float(gamma) <= 0.2 + 1e-6)


PHASE = st.tuples(st.sampled_from([1, 0.5, 0, math.nan]), st.sampled_from([1, 0.5, 2, -1]), st.integers(14, 26), COUNT)
TRAINING = {
    "steps": COUNT,
    "entries_per_image": COUNT,
    "bank_size": st.one_of(st.none(), COUNT),
    "value_levels": COUNT,
    "same_value": COUNT,
    "same_crop": COUNT,
    "loss": st.sampled_from(["l2", "log_l2", "x"]),
    "optimizer": st.sampled_from(["muon", "adamw", "x"]),
    "learning_rate": NUMBERS,
    "ema": NUMBERS,
    "recoloured": NUMBERS,
    "seed": COUNT,
    "values": st.one_of(st.none(), st.lists(st.floats(0, 1), max_size=2)),
    "trained": st.sampled_from(["all", "norm"]),
}


@given(st.lists(PHASE, max_size=2), st.fixed_dictionaries({}, optional=TRAINING), st.lists(images(), max_size=2))
def test_training(phases, settings, pictures):
    phases = [answer(Phase, *phase) for phase in phases]
    if None in phases:
        return
    tiny = {"steps": 2, "network": NETWORKS[0].config, "phases": tuple(phases), "precision": "float32"}
    config = answer(TrainConfig, **{**tiny, **settings})
    if config is None:
        return
    images_of_training = [np.random.default_rng(0).random((30, 40, 3)), *pictures]
    try:
        result = answer(train, GAIN, images_of_training, config, progress=False)
    except FloatingPointError as error:
        assert "the loss became" in str(error)
    else:
        assert result is None or all(bool(p.isfinite().all()) for p in result.network.parameters())
