"""The operator contract, on small operators made here and on scikit-image's total-variation filter."""

import pickle

import numpy as np
import pytest
import torch

from dpo_lib.operators import OPERATORS
from dpo_lib.operators.cached import source_of
from dpo_lib.operators.operator import Operator, Parameter, broadcast


def mix(image, amount, *, power=1.0, offset=0.0):
    """A transparent stand-in: image^power * (1 - amount) + offset."""
    power = broadcast(power, image)
    return image**power * (1 - broadcast(amount, image)) + broadcast(offset, image)


AMOUNT = Parameter("amount", 0.1, 0.5)
POWER = Parameter("power", 1, 3, default=1.0)
OFFSET = Parameter("offset", 0, 0.2, default=0.0)
MIX = Operator("mix", "Mixing", mix, parameters=[AMOUNT], optional_parameters=(POWER, OFFSET))


def add_noise(image, sigma, *, generator):
    noise = torch.randn(image.shape, generator=generator, dtype=image.dtype)
    return image + broadcast(sigma, image) * noise


NOISE = Operator("noise", "Noise", add_noise, kind="restoration", parameters=(Parameter("sigma", 0.01, 0.1),))


@pytest.fixture
def image():
    return torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(0))


def test_broadcast():
    image = torch.zeros(2, 3, 4, 5, dtype=torch.float64)
    assert broadcast(0.5, image).shape == (2, 1, 1, 1) and broadcast(0.5, image).dtype == torch.float64
    assert broadcast(torch.tensor([1, 2]), image).flatten().tolist() == [1.0, 2.0]


def test_one_value_per_image(image):
    torch.testing.assert_close(MIX(image, 0.2), image * 0.8)
    together = MIX(image, [0.1, 0.5])
    torch.testing.assert_close(together, torch.cat([MIX(image[:1], 0.1), MIX(image[1:], 0.5)]))
    torch.testing.assert_close(MIX(image), image * (1 - AMOUNT.default))
    torch.testing.assert_close(MIX(image, 0.2, power=2.0), image**2 * 0.8)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_same_kind_comes_back(dtype):
    image = np.full((7, 9, 3), 200, np.uint8) if dtype == np.uint8 else np.full((7, 9, 3), 200 / 255, dtype)
    result = MIX(image, 0.5)
    assert isinstance(result, np.ndarray) and result.dtype == dtype and result.shape == image.shape
    np.testing.assert_allclose(result, 100 if dtype == np.uint8 else 100 / 255, rtol=1e-6)


def test_batches_of_numpy_images_and_half_precision():
    arrays = np.random.default_rng(0).random((2, 7, 9, 3))
    results = MIX(arrays, [0.2, 0.5])
    assert results.shape == arrays.shape and results.dtype == arrays.dtype
    for result, array, amount in zip(results, arrays, (0.2, 0.5), strict=True):
        np.testing.assert_array_equal(result, MIX(array, amount))
    assert MIX(np.uint8(255 * arrays), 0.2).dtype == np.uint8
    shown, target = NOISE.make_pair(arrays, 0.05)
    assert shown.shape == arrays.shape and target is arrays
    half = MIX(arrays.astype(np.float16), 0.2)  # computed in float32
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, MIX(arrays.astype(np.float16).astype(np.float32), 0.2).astype(np.float16))
    with pytest.raises(TypeError, match=r"image must be float32 or float64, got torch\.bfloat16: convert it first"):
        MIX(torch.rand(1, 3, 7, 9).bfloat16(), 0.2)


def test_float64_tensors_stay_float64_and_inputs_stay_as_they_are(image):
    before = image.clone()
    assert MIX(image.double(), 0.2).dtype == torch.float64
    MIX(image, 0.2)
    torch.testing.assert_close(image, before, rtol=0, atol=0)
    assert not MIX(image.requires_grad_(), 0.2).requires_grad


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.9, r"amount must lie in \[0\.1, 0\.5\] for mix, got 0\.9"),
        (float("nan"), "parameters of mix must be finite"),
        ([0.1, 0.2, 0.3], r"mix takes amount: .* got shape \(3,\)"),
    ],
)
def test_bad_values(image, value, message):
    with pytest.raises(ValueError, match=message):
        MIX(image, value)


def test_range_check_can_be_left_out(image):
    torch.testing.assert_close(MIX(image, 0.9, check_range=False), image * (1 - 0.9))


def test_bad_images(image):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        MIX(image[0], 0.2)
    with pytest.raises(TypeError, match="floating-point"):
        MIX((image * 255).byte(), 0.2)
    with pytest.raises(ValueError, match="at least 4 pixels"):
        MIX(image[:, :, :3], 0.2)
    with pytest.raises(ValueError, match="finite"):
        MIX(image * float("nan"), 0.2)
    with pytest.raises(TypeError, match="got list"):
        MIX(image.tolist(), 0.2)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of filter, restoration, got 'other'"):
        Operator("x", "X", mix, kind="other")


def test_two_parameters_of_one_name_are_refused():
    for twice in ({"parameters": (AMOUNT, AMOUNT)}, {"parameters": (AMOUNT,), "optional_parameters": (AMOUNT,)}):
        with pytest.raises(ValueError, match="x needs parameters of different names, got amount, amount"):
            Operator("x", "X", mix, **twice)


def test_sampling_repeats_and_takes_a_seed_or_a_generator():
    values = MIX.sample(5, 3)
    assert values.shape == (5, 1)
    torch.testing.assert_close(values, MIX.sample(5, torch.Generator().manual_seed(3)), rtol=0, atol=0)
    assert not torch.equal(values, MIX.sample(5, 4))
    assert Operator("x", "X", lambda image: image).sample(5, 0).shape == (5, 0)


def test_an_operator_without_parameters(image):
    invert = Operator("invert", "Inversion", lambda image: 1 - image)
    torch.testing.assert_close(invert(image), 1 - image)
    with pytest.raises(ValueError, match="invert has no parameter, got the value"):
        invert(image, 0.3)


def test_a_filters_pair_is_image_and_result(image):
    shown, target = MIX.make_pair(image, 0.3)
    assert shown is image
    torch.testing.assert_close(target, MIX(image, 0.3))


def test_a_restorations_pair_is_degraded_and_clean(image):
    shown, target = NOISE.make_pair(image, 0.1, 7)
    assert target is image
    assert 0.05 < (shown - image).std() < 0.2
    torch.testing.assert_close(shown, NOISE.make_pair(image, 0.1, torch.Generator().manual_seed(7))[0])
    assert not torch.equal(shown, NOISE.make_pair(image, 0.1, 8)[0])
    torch.testing.assert_close(NOISE.make_pair(image, 0.1)[0], NOISE.make_pair(image, 0.1, 0)[0])


def test_with_parameters_turns_settings_into_parameters(image):
    wide = MIX.with_parameters("amount", "offset")
    assert [p.name for p in wide.parameters] == ["amount", "offset"]
    assert [p.name for p in wide.optional_parameters] == ["power"]
    torch.testing.assert_close(wide(image, [0.2, 0.1]), image * 0.8 + 0.1)
    torch.testing.assert_close(wide(image, [[0.2, 0.1], [0.4, 0.0]])[1], image[1] * 0.6)
    torch.testing.assert_close(wide(image, [0.2, 0.1], power=2.0), image**2 * 0.8 + 0.1)
    torch.testing.assert_close(wide(image, 0.2), MIX(image, 0.2))  # defaults are the settings' own
    assert wide.sample(4, 0).shape == (4, 2)
    assert [p.name for p in MIX.parameters] == ["amount"]  # the first operator stays as it was
    wider = wide.with_parameters("amount", "offset", "power")
    torch.testing.assert_close(wider(image, [0.2, 0.1, 2.0]), image**2 * 0.8 + 0.1)
    torch.testing.assert_close(MIX.with_parameters("amount", "power")(image, [0.2, 2.0]), image**2 * 0.8)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("amount", "gain"), r"mix offers the parameters amount, power, offset, got \['amount', 'gain'\]"),
        ((), "mix offers the parameters amount, power, offset, got"),
        (("power", "amount"), r"mix needs amount first, got \['power', 'amount'\]"),
        (("amount", "power", "power"), "mix needs parameters of different names, got amount, power, power"),
    ],
)
def test_with_parameters_refuses(names, message):
    with pytest.raises(ValueError, match=message):
        MIX.with_parameters(*names)


def test_settings_are_the_defaults_of_every_call(image):
    squared = Operator("mix", "Mixing", mix, parameters=(AMOUNT,), settings={"power": 2.0})
    torch.testing.assert_close(squared(image, 0.2), image**2 * 0.8)
    torch.testing.assert_close(squared(image, 0.2, power=1.0), image * 0.8)


def test_from_function_on_total_variation():
    from skimage.restoration import denoise_tv_chambolle

    tv = Operator.from_function(
        lambda image, weight: denoise_tv_chambolle(image, weight=weight, channel_axis=-1),
        name="tv",
        title="Total variation",
        parameters=[Parameter("weight", 0.02, 0.5, sampling="log")],
    )
    assert tv.title == "Total variation" and tv.kind == "filter" and tv.sample(3, 0).shape == (3, 1)
    image = np.random.default_rng(0).random((16, 21, 3))
    np.testing.assert_allclose(tv(image, 0.1), denoise_tv_chambolle(image, weight=0.1, channel_axis=-1), atol=1e-12)
    assert tv(image, 0.5).std() < tv(image, 0.05).std() < image.std()
    batch = torch.from_numpy(np.stack([image, image])).permute(0, 3, 1, 2).float()
    results = tv(batch, [0.05, 0.5])
    assert results.dtype == torch.float32 and results.shape == batch.shape
    for result, weight in zip(results, (0.05, 0.5), strict=True):
        np.testing.assert_allclose(result.permute(1, 2, 0), tv(image, weight), atol=1e-5)
    shown, target = tv.make_pair(batch, [0.05, 0.5])
    assert shown is batch and torch.equal(target, results)


def test_from_function_with_two_parameters_and_title_default():
    scale = Operator.from_function(
        lambda image, a, b: a * image + b, name="scale", parameters=(Parameter("a", 0.1, 1), Parameter("b", 0, 1))
    )
    assert scale.title == "scale"
    np.testing.assert_allclose(scale(np.full((5, 6, 3), 0.5), [0.5, 0.25]), 0.5)


@pytest.mark.parametrize("bad", [lambda image: image[1:], lambda image: image * np.nan, lambda image: image[:, :, 0]])
def test_from_function_refuses_what_is_no_image(bad):
    operator = Operator.from_function(bad, name="bad")
    with pytest.raises(ValueError, match=r"the function behind bad must be a finite array of shape \(8, 9, 3\)"):
        operator(np.zeros((8, 9, 3)))


def in_place(image, factor=0.5):
    image *= factor
    return image


def test_functions_that_work_in_place_leave_the_callers_image_alone(image):
    own = Operator.from_function(in_place, name="own")
    torch_own = Operator("own", "Own", lambda image: image.mul_(0.5))
    for operator in (own, torch_own):
        for given in (image.clone(), image.double(), image.permute(0, 2, 3, 1).numpy().copy()):
            before = given.clone() if isinstance(given, torch.Tensor) else given.copy()
            result = operator(given)
            assert (given == before).all() and abs(result - before / 2).max() < 1e-6
    shown, target = own.make_pair(image)
    assert shown is image and torch.equal(target, image / 2)


def test_a_function_may_use_one_array_in_every_call(image):
    kept = np.empty((9, 13, 3), np.float32)

    def reusing(array):
        np.multiply(array, 0.5, out=kept)
        return kept

    assert torch.equal(Operator.from_function(reusing, name="own")(image), image / 2)


def test_results_of_8_bits_are_divided_by_255(image):
    own = Operator.from_function(lambda array: np.uint8(255 * array), name="own")
    assert torch.allclose(own(image), (255 * image).floor() / 255)
    assert own(image.double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            lambda image: 255 * image,
            ValueError,
            r"must lie in \[0, 1\], got \[.*, 25\d.*\]: divide by",
        ),
        (lambda image: 4 * image - 2, ValueError, r"must lie in \[0, 1\], got \[-1\.9"),
        (lambda image: (255 * image).astype(int), TypeError, "got int64: convert it first, and divide by"),
        (lambda image: 0.5, TypeError, "must be a tensor or a NumPy array, got float"),
        (lambda image: image > 0.5, TypeError, "must hold floating-point numbers or uint8, got bool"),
        (lambda image: image + 0j, TypeError, "got complex"),
        (lambda image: np.ma.masked_less(image, 0.5), TypeError, "must be a plain array, got a masked one"),
    ],
)
def test_results_of_another_scale_or_dtype_are_refused_by_name(image, function, error, message):
    with pytest.raises(error, match=f"the result of the function behind own .*{message}"):
        Operator.from_function(function, name="own")(image)


def test_a_little_overshoot_and_the_noise_of_a_degradation_pass(image):
    sharper = Operator.from_function(lambda image: 1.4 * image - 0.2, name="own")
    assert torch.allclose(sharper(image), 1.4 * image - 0.2, atol=1e-6)
    noisy = Operator.from_function(lambda image, generator: 3 * image - 1, name="own", kind="restoration")
    assert torch.allclose(noisy.make_pair(image)[0], 3 * image - 1, atol=1e-6)


@pytest.mark.gpu
def test_operators_run_where_the_image_is(image):
    result = MIX(image.cuda(), [0.1, 0.5])
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), MIX(image, [0.1, 0.5]))


def halved(image, amount=0.5, rounds=1):
    """A user's function that can be pickled."""
    return image * amount**rounds


def test_operators_pickle_and_hash_where_their_functions_do(image):
    one, other = (Operator.from_function(halved, name="halved", parameters=[AMOUNT]) for _ in range(2))
    both = MIX.with_parameters("amount", "power")
    for operator in (one, both, OPERATORS["rtv"].with_parameters("lambda", "sigma")):
        again = pickle.loads(pickle.dumps(operator))
        assert again == operator and hash(again) == hash(operator)
        assert torch.equal(again(image), operator(image))
    assert one == other and len({one, other, both, MIX}) == 3
    assert one != Operator.from_function(halved, name="other", parameters=[AMOUNT])
    assert source_of(one) == source_of(Operator("h", "H", halved)) and source_of(both) == source_of(MIX)


def test_parameters_by_name(image):
    rgf, rtv = OPERATORS["rgf"], OPERATORS["rtv"].with_parameters("lambda", "iterations")
    assert torch.equal(rgf(image, sigma_s=3), rgf(image, 3))
    assert torch.equal(rgf(image, sigma_s=[2, 3], iterations=2), rgf(image, [2, 3], iterations=2))
    assert torch.equal(OPERATORS["l0"](image, lam=0.01), OPERATORS["l0"](image, 0.01))
    assert torch.equal(OPERATORS["l0"](image, **{"lambda": 0.01}), OPERATORS["l0"](image, 0.01))
    assert torch.equal(rtv(image, iterations=2), rtv(image, [rtv.parameters[0].default, 2]))
    user = Operator.from_function(halved, name="halved", parameters=[AMOUNT])
    assert torch.equal(user(image, amount=0.3, rounds=2), user(image, 0.3, rounds=2))
    shown, _ = NOISE.make_pair(image, sigma=0.05)
    assert torch.equal(shown, NOISE.make_pair(image, 0.05)[0])
    with pytest.raises(ValueError, match=r"sigma_s must lie in \[1, 10\] for rgf, got 20"):
        rgf(image, sigma_s=20)
    with pytest.raises(TypeError, match="rgf takes its parameters by value or by name, got both"):
        rgf(image, 3, sigma_s=3)
    with pytest.raises(TypeError, match="sigma_s of rgf must be a number, .* got '3'"):
        rgf(image, sigma_s="3")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rgf", {"iterations": "a"}, "iterations of rgf must be a number, or numbers in rows of one length, got 'a'"),
        ("rgf", {"iterations": 2.5}, "iterations of rgf must be a whole number, got 2.5"),
        ("rgf", {"iterations": True}, "iterations of rgf must be a number.*got True"),
        ("pencil", {"reach_px": float("nan")}, "reach_px of pencil must be a whole number, got nan"),
        ("pencil", {"tone_weights": (1, 2)}, r"tone_weights of pencil must be 3 finite numbers, got \[1.0, 2.0\]"),
        ("l0", {"beta_max": float("inf")}, "beta_max of l0 must be a finite number, got inf"),
        ("l0", {"kappa": [2, 3]}, r"kappa of l0 must be a finite number, got \[2.0, 3.0\]"),
        ("l0", {"betamax": 3}, "l0 has no setting 'betamax': choose from lambda, kappa, beta_max"),
        ("wmf", {"sigma": 1j}, "sigma of wmf must be a number.*got 1j"),
        ("denoise", {"on": 3}, "on of denoise must be a word, got 3"),
        ("denoise", {"clip": "no"}, "clip of denoise must be True or False, got 'no'"),
        ("denoise", {"generator": 3}, "generator of denoise must be a torch.Generator, got 3"),
        ("rtv", {"sigma": [1, 2, 3]}, r"expected one value, or one per image \(2\), got shape \(3,\)"),
    ],
)
def test_settings_that_an_operator_cannot_take(image, name, settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        OPERATORS[name](image, **settings)


def test_settings_in_every_form(image):
    rgf, rtv, wmf = OPERATORS["rgf"], OPERATORS["rtv"], OPERATORS["wmf"]
    assert torch.equal(rgf(image, 3, iterations=np.int64(2)), rgf(image, 3, iterations=2.0))
    assert torch.equal(rgf(image, 3, sigma_r=np.float32(0.0625)), rgf(image, 3, sigma_r=torch.tensor(0.0625)))
    assert torch.equal(rtv(image, sigma=np.array([3.0, 9, 2])[::-2]), rtv(image, sigma=torch.tensor([2.0, 3])))
    assert torch.equal(wmf(image, 2, sigma=float("inf")), wmf(image, 2))
    assert torch.equal(MIX(image, 0.2, power=np.array([3.0, 9, 2])[::-2]), MIX(image, 0.2, power=[2, 3]))


def test_settings_that_would_take_hours_are_refused(image):
    with pytest.raises(ValueError, match=r"rgf needs sigma_r >= 0.001, since its work grows as 1 / sigma_r, got 1e-05"):
        OPERATORS["rgf"](image, sigma_r=1e-5)
    with pytest.raises(ValueError, match="l0 takes at most 2000 iterations, got 14739 of them: raise kappa"):
        OPERATORS["l0"](image, kappa=1.001)
