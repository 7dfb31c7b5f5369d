"""What every operator of the table obeys. A new operator needs one entry in TRAITS to be tested like the others."""

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from dpo_lib.operators import OPERATORS


@dataclass(frozen=True)
class Traits:
    """What one operator promises beyond the contract; the defaults are those of a plain filter."""

    larger: str = ""  # a larger value gives a result that is "smoother", "livelier" (filters), "worse" or "better"
    outside: float = 0.0  # how far results may leave [0, 1]
    precision: float = 1e-6  # float32 against float64, root mean square
    neutral: tuple | None = None  # (value, settings, tolerance) that give back the input
    refused: tuple = ()  # (value, part of the message): what the function itself refuses where the range is not checked
    random: bool = False
    constant: str = ""  # why a constant image need not stay as it is
    transpose: str = ""  # why a transposed image need not give a transposed result


GOES_ON = {"l0": "wrap", "wls": "symmetric", "rtv": "symmetric", "rgf": "symmetric", "wls_enhance": "symmetric"}
SAME = 1e-6  # of results that differ by rounding or by where an iterative solver stops
NOT_POSITIVE = (0.0, -1.0)
PENCIL = "by nature: strokes have directions, and paper is drawn on"
TRAITS = {
    # filters
    "l0": Traits(
        larger="smoother",
        outside=0.03,
        precision=5e-4,  # a gradient that meets the threshold within rounding may be kept or not
        neutral=(1e-9, {}, 1e-3),
        refused=tuple((v, "lambda > 0") for v in NOT_POSITIVE),
    ),
    "wls": Traits(larger="smoother", neutral=(1e-9, {}, 1e-6), refused=tuple((v, "lambda > 0") for v in NOT_POSITIVE)),
    "rtv": Traits(larger="smoother", neutral=(1e-9, {}, 1e-6), refused=tuple((v, "lambda > 0") for v in NOT_POSITIVE)),
    "rgf": Traits(larger="smoother", neutral=(0.1, {}, 1e-6), refused=tuple((v, "sigma_s > 0") for v in NOT_POSITIVE)),
    "wmf": Traits(larger="smoother", neutral=(0, {}, 0), refused=((-1.0, "radius >= 0"),)),
    "llf": Traits(larger="livelier", neutral=(0, {}, 1e-6)),
    # effects
    "shock": Traits(neutral=(None, {"iterations": 0}, 1e-6)),
    "llf_remap": Traits(neutral=(None, {"gain": 1.0}, 1e-6)),
    "wls_enhance": Traits(neutral=(None, {"base": 1e-3, "medium": 1e-3, "fine": 1e-3}, 1e-5)),
    "stylization": Traits(
        precision=1e-4,  # gradients are compared by rank, which rounding may exchange
        constant="by nature: it becomes the median luminance of the model picture",
    ),
    "pencil": Traits(constant=PENCIL, transpose=PENCIL),
    # restoration
    "super_resolution": Traits(
        larger="worse",
        outside=0.2,  # the cubic kernel overshoots beside edges
        neutral=(1, {}, 1e-6),
        refused=((0.0, "whole number >= 1"), (2.5, "whole number >= 1")),
    ),
    "denoise": Traits(
        larger="worse",
        outside=2.0,  # Gaussian noise has no bounds
        random=True,
        neutral=(1e-4, {}, 1e-5),
        refused=tuple((v, "sigma > 0") for v in NOT_POSITIVE),
        constant="by nature: noise",
        transpose="by nature: the noise is drawn row by row",
    ),
    "denoise_color": Traits(
        larger="worse",
        outside=2.0,
        random=True,
        neutral=(1e-4, {}, 1e-5),
        refused=tuple((v, "sigma > 0") for v in NOT_POSITIVE),
        constant="by nature: noise",
        transpose="by nature: the noise is drawn row by row",
    ),
    "deblock": Traits(
        larger="better",
        neutral=(100, {}, 2 / 255),
        refused=((0.0, r"\[1, 100\]"), (101.0, r"\[1, 100\]")),
        constant="by the format: the mean of a block is quantised, see test_deblock",
        transpose="by the format: the table of quantiser steps is not symmetric",
    ),
    "derain": Traits(
        random=True,
        neutral=(None, {"strength": 0.0}, 0),
        constant="by nature: rain",
        transpose="by nature: rain falls down",
    ),
}

NAMES = list(OPERATORS)
every_operator = pytest.mark.parametrize("name", NAMES)


def those(condition):
    """Parametrise over the operators whose traits (or, without an entry, the defaults) fulfil the condition."""
    return pytest.mark.parametrize("name", [name for name in NAMES if condition(TRAITS.get(name, Traits()))])


def pictures(count=1, height=21, width=30):
    """Regions, an edge, texture and a ramp in 8-bit values: float64 (B, 3, H, W), never square."""
    y, x = np.mgrid[:height, :width] / min(height, width)
    shape = np.stack([0.1 + 0.8 * (x > 0.6), 0.5 + 0.4 * np.sin(9 * y), 0.2 + 0.6 * np.clip(y, 0, 1)])
    noise = np.stack([np.random.default_rng(seed).standard_normal(shape.shape) for seed in range(count)])
    return torch.from_numpy(np.rint(255 * np.clip(shape + 0.06 * noise, 0, 1)) / 255)


def values_of(operator, count=None):
    """The paper's test values (None for an operator without a parameter), or `count` drawn ones, one row each."""
    if count is not None:
        return operator.sample(count, 7) if operator.parameters else None
    return operator.parameters[0].test_values if operator.parameters else (None,)


def degrade_or_filter(operator, image, value=None, *, seed=5, **settings):
    if operator.kind == "restoration":
        settings["generator"] = torch.Generator().manual_seed(seed)
    return operator(image, value, **settings)


def rms(a, b):
    return float((a.double() - b.double()).square().mean().sqrt())


def total_variation(image):
    return float(image.diff(dim=2).abs().sum() + image.diff(dim=3).abs().sum())


@every_operator
def test_there_are_traits_for_every_operator(name):
    assert name in TRAITS, f"operator {name!r} is new: add an entry to TRAITS in {__file__}, say what it promises"
    assert TRAITS[name].larger in ("", "smoother", "livelier", "worse", "better")
    if OPERATORS[name].parameters:
        first = OPERATORS[name].parameters[0].name
        assert TRAITS[name].larger, f"say in TRAITS[{name!r}].larger what a larger {first} does"


@every_operator
def test_table_entry(name):
    operator = OPERATORS[name]
    assert operator.name == name
    assert [other.title for other in OPERATORS.values()].count(operator.title) == 1
    for parameter in (*operator.parameters, *operator.optional_parameters):
        inside = (parameter.low, parameter.default, parameter.high, *parameter.test_values)
        assert min(inside) == parameter.low and max(inside) == parameter.high
    drawn = operator.sample(200, 0)
    for column, parameter in zip(drawn.unbind(1), operator.parameters, strict=True):
        assert parameter.low <= column.min() and column.max() <= parameter.high
    assert torch.equal(drawn, operator.sample(200, 0))


@every_operator
def test_result_is_an_image_in_range_at_every_test_value(name):
    operator, image = OPERATORS[name], pictures()
    outside = TRAITS[name].outside
    for value in values_of(operator):
        result = degrade_or_filter(operator, image, value)
        assert result.shape == image.shape and result.dtype == image.dtype and result.device == image.device
        assert result.isfinite().all() and not result.requires_grad
        assert -outside <= result.min() and result.max() <= 1 + outside


@every_operator
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_numpy_comes_back_as_it_went_in(name, dtype):
    operator, image = OPERATORS[name], pictures()
    expected = degrade_or_filter(operator, image)[0].permute(1, 2, 0).numpy()
    array = image[0].permute(1, 2, 0).numpy()
    array = np.rint(255 * array).astype(np.uint8) if dtype == np.uint8 else array.astype(dtype)
    result = degrade_or_filter(operator, array)
    assert isinstance(result, np.ndarray) and result.dtype == dtype and result.shape == array.shape
    if dtype == np.uint8:
        expected, result = np.clip(expected, 0, 1), result / 255
    assert np.sqrt(np.mean((result - expected) ** 2)) < (0.5 / 255 if dtype == np.uint8 else 0) + TRAITS[name].precision


@every_operator
def test_batch_equals_one_by_one_each_with_its_value(name):
    operator, images = OPERATORS[name], pictures(3)
    values = values_of(operator, 3)
    together = degrade_or_filter(operator, images, values)
    generator = torch.Generator().manual_seed(5)  # goes on from image to image
    keywords = {"generator": generator} if operator.kind == "restoration" else {}
    for index in range(3):
        alone = operator(images[index : index + 1], None if values is None else values[index : index + 1], **keywords)
        assert torch.allclose(together[index], alone[0], rtol=0, atol=SAME)


@those(lambda traits: traits.larger)
def test_the_value_of_each_image_counts(name):
    operator = OPERATORS[name]
    first, *others = operator.parameters
    rows = [[value, *(p.default for p in others)] for value in (first.test_values[0], first.test_values[-1])]
    result = operator(pictures().repeat(2, 1, 1, 1), rows)
    assert rms(result[0], result[1]) > 1e-3


@every_operator
def test_no_value_means_the_defaults_and_settings_as_parameters_the_same(name):
    operator, image = OPERATORS[name], pictures()
    plain = degrade_or_filter(operator, image)
    if operator.parameters:
        given = degrade_or_filter(operator, image, [p.default for p in operator.parameters])
        assert torch.equal(plain, given)
    if operator.optional_parameters:
        names = [p.name for p in (*operator.parameters, *operator.optional_parameters)]
        wide = degrade_or_filter(operator.with_parameters(*names), image)
        assert torch.allclose(wide, plain, rtol=0, atol=SAME)


@those(lambda traits: not traits.constant)
def test_constant_image_stays_constant(name):
    operator = OPERATORS[name]
    levels = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64).view(3, 1, 1, 1)
    images = levels.expand(3, 3, 13, 18).contiguous()
    for value in (values_of(operator)[0], values_of(operator)[-1]):
        shown, target = operator.make_pair(images, value)
        before = target if operator.kind == "restoration" else images
        result = shown if operator.kind == "restoration" else target
        assert (result - before).abs().max() < 1e-5


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - {"denoise_color"}))  # noise has colours
def test_a_gray_image_stays_gray(name):
    operator, image = OPERATORS[name], pictures().mean(1, keepdim=True).repeat(1, 3, 1, 1)
    result = degrade_or_filter(operator, image)
    assert (result - result[:, :1]).abs().max() < max(1e-6, TRAITS[name].precision)


@every_operator
def test_the_same_seed_repeats_and_another_one_counts_where_there_is_chance(name):
    operator, image = OPERATORS[name], pictures(1, 40, 61)
    first = operator.make_pair(image, None, 3)
    again = operator.make_pair(image, None, torch.Generator().manual_seed(3))
    other = operator.make_pair(image, None, 4)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert torch.equal(first[1], other[1])
    assert torch.equal(first[0], other[0]) != TRAITS[name].random


@every_operator
def test_single_precision_agrees_with_double(name):
    operator, image = OPERATORS[name], pictures()
    for value in (values_of(operator)[0], values_of(operator)[-1]):
        single, double = (degrade_or_filter(operator, x, value) for x in (image.float(), image))
        assert single.dtype == torch.float32 and double.dtype == torch.float64
        assert rms(single, double) < TRAITS[name].precision


@those(lambda traits: not traits.transpose)
def test_transposing_the_image_transposes_the_result(name):
    operator, image = OPERATORS[name], pictures()
    for value in (values_of(operator)[0], values_of(operator)[-1]):
        turned = degrade_or_filter(operator, image.transpose(2, 3).contiguous(), value)
        assert rms(turned.transpose(2, 3), degrade_or_filter(operator, image, value)) < 1e-6


@every_operator
def test_memory_layout_does_not_matter(name):
    operator, image = OPERATORS[name], pictures(2)
    expected = degrade_or_filter(operator, image)
    nested = torch.zeros(2, 3, 42, 60, dtype=torch.float64)[..., ::2, ::2].copy_(image)
    for same in (image.contiguous(memory_format=torch.channels_last), nested, image.clone().requires_grad_()):
        assert torch.allclose(degrade_or_filter(operator, same), expected, rtol=0, atol=SAME)
    array = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()[::-1, ::-1])
    flipped = array[::-1, ::-1]
    flipped.flags.writeable = False
    alone = degrade_or_filter(operator, image[:1])[0].permute(1, 2, 0)
    assert np.allclose(degrade_or_filter(operator, flipped), alone, rtol=0, atol=SAME)


@those(lambda traits: traits.larger in ("smoother", "livelier"))
def test_larger_values_change_the_total_variation_one_way(name):
    operator, image = OPERATORS[name], pictures(1, 45, 62)
    variation = [total_variation(image), *(total_variation(operator(image, v)) for v in values_of(operator))]
    if TRAITS[name].larger == "livelier":
        variation.reverse()
    assert all(more > less for more, less in pairwise(variation)), variation


@those(lambda traits: traits.larger in ("worse", "better"))
def test_stronger_degradation_is_further_from_the_target(name):
    operator, image = OPERATORS[name], pictures(1, 45, 62)
    errors = [rms(*operator.make_pair(image, value)) for value in values_of(operator)]
    if TRAITS[name].larger == "better":
        errors.reverse()
    assert errors[0] > 0 and all(less < more for less, more in pairwise(errors)), errors


@those(lambda traits: traits.neutral is not None)
def test_neutral_parameters_give_back_the_input(name):
    operator, image = OPERATORS[name], pictures()
    value, settings, tolerance = TRAITS[name].neutral
    shown, target = operator.make_pair(image, value, check_range=False, **settings)
    assert (shown - target).abs().max() <= tolerance
    usual = rms(*operator.make_pair(image, values_of(operator)[0]))
    assert usual > 0 and usual > tolerance / 10  # the law would say nothing about an operator that does nothing


@every_operator
@pytest.mark.parametrize("size", [(8, 8), (9, 31), (40, 11), "smallest"])
def test_small_and_odd_sizes(name, size):
    operator = OPERATORS[name]
    size = (operator.minimum_size, operator.minimum_size + 1) if size == "smallest" else size
    if min(size) < operator.minimum_size:
        pytest.skip(f"{name} needs {operator.minimum_size} pixels a side, see test_too_small_images")
    image = pictures(1, *size)
    for value in (values_of(operator)[0], values_of(operator)[-1]):
        result = degrade_or_filter(operator, image, value)
        assert result.shape == image.shape and result.isfinite().all()


@every_operator
@pytest.mark.parametrize("size", [(9, 1), (1, 9), (1, 1), (3, 40)])
def test_thin_images_work_or_are_refused(name, size):
    operator, image = OPERATORS[name], pictures(1, *size)
    if min(size) < operator.minimum_size:
        with pytest.raises(ValueError, match=f"at least {operator.minimum_size} pixels a side"):
            operator(image)
    else:
        assert degrade_or_filter(operator, image).isfinite().all()


BAD_IMAGES = {
    "NaN": (lambda x: torch.where(x == x.max(), torch.nan, x), ValueError, "must be finite, got NaN"),
    "infinity": (lambda x: torch.where(x == x.max(), torch.inf, x), ValueError, "must be finite"),
    "8-bit values as floats": (lambda x: 255 * x, ValueError, r"must lie in \[0, 1\], got \[.*\]: divide by"),
    "negative": (lambda x: x - 0.5, ValueError, r"must lie in \[0, 1\]"),
    "uint8 tensor": (lambda x: (255 * x).byte(), TypeError, "floating-point tensor .* divide 8-bit values by 255"),
    "integer tensor": (lambda x: (255 * x).long(), TypeError, "floating-point numbers or uint8, got torch.int64"),
    "half precision": (lambda x: x.half(), TypeError, "float32 or float64, got torch.float16: convert it first"),
    "bfloat16": (lambda x: x.bfloat16(), TypeError, "float32 or float64, got torch.bfloat16: convert it first"),
    "one channel": (lambda x: x[:, :1], ValueError, r"\(B, 3, H, W\), got .* repeat a gray image three times"),
    "alpha channel": (lambda x: torch.cat([x, x[:, :1]], 1), ValueError, r"\(B, 3, H, W\)"),
    "no batch axis": (lambda x: x[0], ValueError, r"\(B, 3, H, W\), got .* add a batch axis"),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), ValueError, r"\(B, 3, H, W\), got .* move the channels"),
    "empty batch": (lambda x: x[:0], ValueError, "at least"),
    "gray array": (lambda x: x[0, 0].numpy(), ValueError, r"\(H, W, 3\) .* repeat a gray image three times"),
    "RGBA array": (lambda x: np.zeros((9, 12, 4)), ValueError, r"\(H, W, 3\) .* drop the alpha channel"),
    "integer array": (lambda x: np.zeros((9, 12, 3), int), TypeError, "floating-point numbers or uint8, got int64"),
    "NaN array": (lambda x: np.full((9, 12, 3), np.nan), ValueError, "must be finite"),
    "list": (lambda x: x.tolist(), TypeError, "a tensor or a NumPy array, got list"),
}


@every_operator
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_give_one_clear_error(name, kind):
    spoil, error, message = BAD_IMAGES[kind]
    with pytest.raises(error, match=message) as caught:
        OPERATORS[name](spoil(pictures()))
    assert "\n" not in str(caught.value)


@every_operator
def test_bad_values_give_one_clear_error(name):
    operator, image = OPERATORS[name], pictures(2)
    defaults = [p.default for p in operator.parameters]
    if not operator.parameters:
        with pytest.raises(ValueError, match=f"{name} has no parameter, got the value 0.3: call it with the image"):
            operator(image, 0.3)
    for index, p in enumerate(operator.parameters):
        for wrong in (p.low - (p.high - p.low) / 10, p.high + (p.high - p.low) / 10):
            message = rf"{re.escape(p.name)} must lie in \[{p.low:g}, {p.high:g}\] for {name}, got {wrong:g}"
            with pytest.raises(ValueError, match=message):
                operator(image, [[*defaults[:index], wrong, *defaults[index + 1 :]]])
    for wrong in (float("nan"), float("inf")) if operator.parameters else ():
        with pytest.raises(ValueError, match=f"parameters of {name} must be finite"):
            operator(image, wrong, check_range=False)
    if operator.parameters:
        with pytest.raises(ValueError, match=rf"{name} takes {operator.parameters[0].name}.* got shape \(5,\)"):
            operator(image, [operator.parameters[0].default] * 5)
    with pytest.raises(TypeError, match=f"{name} has no setting 'strenght': choose from"):
        operator(image, strenght=1.0)


@those(lambda traits: traits.refused)
def test_what_no_formula_allows_is_refused_even_without_the_range_check(name):
    for wrong, message in TRAITS[name].refused:
        with pytest.raises(ValueError, match=message) as caught:
            OPERATORS[name](pictures(), wrong, check_range=False)
        assert "\n" not in str(caught.value)


@every_operator
def test_the_input_is_never_changed_nor_shared(name):
    operator, image = OPERATORS[name], pictures(2)
    kept = image.clone()
    results = [degrade_or_filter(operator, image, value) for value in (values_of(operator)[0], values_of(operator)[-1])]
    if TRAITS[name].neutral is not None:  # where handing back the input itself would tempt
        value, settings, _ = TRAITS[name].neutral
        results.append(degrade_or_filter(operator, image, value, check_range=False, **settings))
    assert torch.equal(image, kept)
    for result in results:
        result.add_(1)  # a result that shares memory with its input or with itself would show here
        assert torch.equal(image, kept)
    array = image[0].permute(1, 2, 0).numpy().copy()
    degrade_or_filter(operator, array)[...] = 7
    assert np.array_equal(array, kept[0].permute(1, 2, 0).numpy())


@every_operator
@pytest.mark.parametrize("form", ["tensor", "array"])
def test_pairs_to_learn_from(name, form):
    operator, image = OPERATORS[name], pictures()
    image = image if form == "tensor" else image[0].permute(1, 2, 0).numpy()
    value = values_of(operator)[0]
    shown, target = operator.make_pair(image, value, 5)
    assert type(shown) is type(target) is type(image) and shown.shape == target.shape == image.shape
    assert shown.dtype == target.dtype == image.dtype
    result = degrade_or_filter(operator, image, value)
    if operator.kind == "filter":
        assert shown is image and np.array_equal(target, result)
    else:
        assert np.array_equal(shown, result) and not np.array_equal(shown, target)
        assert operator.target is not None or target is image


@pytest.mark.gpu
@every_operator
def test_results_stay_on_the_device_and_agree(name):
    operator, images = OPERATORS[name], pictures(2)
    values = values_of(operator, 2)
    on_gpu = degrade_or_filter(operator, images.cuda(), values)
    assert on_gpu.is_cuda
    assert rms(on_gpu.cpu(), degrade_or_filter(operator, images, values)) < max(1e-4, TRAITS[name].precision)


MOODS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "double precision": lambda: default_dtype(torch.float64),
}
LAYOUTS = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "a view turned round": lambda x: x.flip(3).contiguous().flip(3),
    "transposed": lambda x: x.mT.contiguous().mT,
    "with gradient": lambda x: x.clone().requires_grad_(),
}


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@every_operator
def test_torchs_moods_and_layouts_change_nothing(name):
    operator, image = OPERATORS[name], pictures(1).float()
    expected = operator(image)
    for mood, enter in MOODS.items():
        with enter():
            answer = operator(image)
        assert torch.equal(answer, expected) and answer.dtype == torch.float32, mood
    for layout, laid in LAYOUTS.items():
        answer = operator(laid(image))
        assert torch.allclose(answer, expected, atol=1e-5) and not answer.requires_grad, layout
    array = image[0].permute(1, 2, 0).numpy()
    for turned in (array[::-1].copy()[::-1], np.asfortranarray(array), array.astype(array.dtype.newbyteorder())):
        assert np.abs(operator(turned) - expected[0].permute(1, 2, 0).numpy()).max() < 1e-5


@every_operator
def test_several_threads_get_the_same_answers(name):
    operator, images = OPERATORS[name], pictures(4).split(1)
    expected = [operator(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for answer, wanted in zip(pool.map(operator, images), expected, strict=True):
            assert torch.equal(answer, wanted)


@pytest.mark.parametrize("name", [name for name, operator in OPERATORS.items() if operator.kind == "filter"])
def test_a_picture_that_goes_on_as_the_operator_has_it_keeps_its_answer(name):
    """Along the border, where repeating the last pixels changes the answer at least twice as much."""
    operator, image = OPERATORS[name], np.random.default_rng(0).random((32, 40, 3)).astype(np.float32)
    image = np.clip(np.repeat(np.repeat(image, 2, 0), 2, 1)[:, :, :] * 0.7 + 0.15, 0, 1)
    assert operator.border == GOES_ON.get(name, "edge")
    if name not in GOES_ON:
        return
    value = operator.parameters[0].high if operator.parameters else None
    plain, rim = operator(image, value), np.ones(image.shape[:2], bool)
    rim[6:-6, 6:-6] = False

    def change(border):
        larger = np.pad(image, ((48, 48), (48, 48), (0, 0)), mode=border)
        return np.abs(operator(larger, value)[48:-48, 48:-48] - plain)[rim].mean()

    assert change(operator.border) < change("edge") / 2
