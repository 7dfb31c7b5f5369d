"""Style transfer: its two transfers against scikit-image and NumPy, and the laws of the whole."""

import numpy as np
import pytest
import torch
from llf_oracle import exact_local_laplacian
from photographs import photograph
from skimage import data
from skimage.exposure import match_histograms

from dpo_lib.histograms import match_intensities
from dpo_lib.images import luminance, to_tensor
from dpo_lib.operators import stylization as module
from dpo_lib.operators.stylization import OPERATOR, gradient_table, stylization

MODEL = np.ascontiguousarray(data.coffee()[::8, ::8])


def gray_of(image):
    return luminance(to_tensor(image).double())


def strengths(gray):
    """Forward differences, none across the border, of an array."""
    dx, dy = np.zeros_like(gray), np.zeros_like(gray)
    dx[:, :-1], dy[:-1] = np.diff(gray, axis=1), np.diff(gray, axis=0)
    return np.sqrt(dx**2 + dy**2)


def bin_shares(gray):
    """Share of an array's pixels below each bin edge; a pixel's weight falls linearly from its bin to the next."""
    centres = np.arange(-1020, 2041) / 1020
    weights = np.maximum(1 - 1020 * np.abs(gray.reshape(-1, 1) - centres), 0)
    return np.concatenate([[0], np.cumsum(weights.mean(0))])


def match_by_definition(gray, model):
    """F_M^-1(F_I(i)) with histograms of bins 1/1020 wide around the 8-bit values, spread evenly inside."""
    edges = (np.arange(-1020, 2042) - 0.5) / 1020
    own, wanted = bin_shares(gray), bin_shares(model)
    inside = np.flatnonzero((wanted > 1e-12) & (wanted < 1 - 1e-12))
    inside = slice(inside[0] - 1, inside[-1] + 2)
    return np.interp(np.interp(gray, edges, own), wanted[inside], edges[inside])


@pytest.mark.parametrize("step", [0, 1 / 255, 1 / 20])  # with ties, too
def test_intensities_agree_with_the_definition(step):
    gray = gray_of(photograph())
    if step:
        gray = (gray / step).round() * step
    model = gray_of(MODEL)
    values, cumulative, _ = module._measure(to_tensor(MODEL))
    stretched = 1.3 - 1.5 * gray  # beyond [0, 1], as after a gradient transfer
    result = match_intensities(torch.cat([gray, stretched]), values, cumulative)
    for one, source in zip(result, (gray, stretched), strict=True):
        expected = match_by_definition(source[0, 0].numpy(), model[0, 0].numpy())
        assert np.abs(one[0].numpy() - expected).max() < 1e-9


def test_intensities_agree_with_scikit_image():
    """Which has no bins: the shares differ by a bin's content, here below 0.4 %."""
    gray, model = gray_of(photograph(150, 200)), gray_of(data.coffee())
    values, cumulative, _ = module._measure(to_tensor(data.coffee()))
    result = match_intensities(gray, values, cumulative)[0, 0].numpy()
    expected = match_histograms(gray[0, 0].numpy(), model[0, 0].numpy())
    order = np.sort(model[0, 0].numpy(), axis=None)
    shares = [np.searchsorted(order, x) / order.size for x in (result, expected)]
    assert np.abs(shares[0] - shares[1]).max() < 4e-3
    assert np.abs(result - expected).mean() < 1e-3


def test_matching_a_picture_to_itself_changes_nothing():
    values, cumulative, _ = module._measure(to_tensor(MODEL))
    assert torch.allclose(match_intensities(gray_of(MODEL), values, cumulative), gray_of(MODEL), atol=1e-9)


def test_gradient_table_maps_the_gradient_distribution():
    gray, model = gray_of(photograph(120, 160)), gray_of(MODEL)
    table = gradient_table(gray, module._measure(to_tensor(MODEL))[2], slope=1e6)
    own = torch.from_numpy(strengths(gray[0, 0].numpy()))
    mapped = module._remap(table, own[None, None])[0, 0].numpy()
    shares = np.linspace(0.02, 0.98, 40)
    assert np.abs(np.quantile(mapped, shares) - np.quantile(strengths(model[0, 0].numpy()), shares)).max() < 2e-3
    top = own.max()
    beyond = torch.tensor([top, top + 0.1, -top - 0.1], dtype=torch.float64).view(1, 1, 1, 3)
    at, up, down = module._remap(table, beyond).flatten().tolist()
    assert up == pytest.approx(at + 0.1, abs=2e-3) and down == pytest.approx(-up)


def test_gradient_table_keeps_to_the_slope():
    gray = gray_of(photograph())
    for gradients in (torch.linspace(0, 1, 1024, dtype=torch.float64), torch.zeros(1024, dtype=torch.float64)):
        table = gradient_table(gray, gradients, slope=3.0)[0, 1024:]
        gain = table / torch.linspace(0, 1, 1024, dtype=torch.float64)[1:]
        assert gain.min() >= 1 / 3 - 1e-12 and gain.max() <= 3 + 1e-12


def test_one_iteration_is_gradients_then_intensities():
    image = photograph(11, 14)
    gray, model = gray_of(image)[0, 0].numpy(), gray_of(MODEL)[0, 0].numpy()
    own = np.sort(strengths(gray), axis=None)
    wanted = np.sort(strengths(model), axis=None)
    shares = np.linspace(0, 1, 1024)
    knots, values = (np.quantile(x, shares, method="nearest") for x in (own, wanted))

    def remap(d):
        x = np.abs(d)
        t = np.interp(x, knots, values) + np.maximum(x - knots[-1], 0)
        return np.sign(d) * np.clip(t, x / 4, x * 4)

    expected = match_by_definition(exact_local_laplacian(gray, remap, 4), model)
    result = OPERATOR(image, model=MODEL, iterations=1, levels=300, colour=False)
    assert np.abs(result[..., 0] - expected).mean() < 4e-3
    plain = match_by_definition(gray, model)
    assert np.abs(plain - expected).mean() > 0.02  # the gradient step is seen


def test_result_has_the_models_histogram():
    result = OPERATOR(photograph(90, 120), model=MODEL, colour=False)
    assert np.array_equal(result[..., 0], result[..., 1]) and np.array_equal(result[..., 0], result[..., 2])
    shares = np.linspace(0, 1, 50)
    wanted = np.quantile(gray_of(MODEL), shares)
    assert np.abs(np.quantile(result[..., 0], shares) - wanted).max() < 0.01


def test_iterations_bring_the_gradients_closer():
    image, picture = (np.ascontiguousarray(photo[::3, ::3]) / 255 for photo in (data.chelsea(), data.coffee()))
    gray, model = gray_of(image), gray_of(picture)[0, 0].numpy()
    shares = np.linspace(0.05, 0.95, 50)

    def distance(result):
        return np.abs(np.quantile(strengths(result), shares) - np.quantile(strengths(model), shares)).mean()

    near = [distance(OPERATOR(image, model=picture, iterations=n, colour=False)[..., 0]) for n in (1, 3)]
    values, cumulative, _ = module._measure(to_tensor(picture))
    far = distance(match_intensities(gray, values, cumulative)[0, 0].numpy())
    assert far > 1.25 * near[0] > 2.5 * near[1]


def test_colour_keeps_its_ratio():
    image = 0.2 + 0.6 * photograph()
    result = OPERATOR(image, model=MODEL)
    inside = (result > 0).all(-1) & (result < 1).all(-1)
    ratio = (result + 1e-3) / (image + 1e-3)
    assert inside.mean() > 0.5 and np.ptp(ratio, axis=-1)[inside].max() < 1e-9


def test_default_settings_and_model():
    image = photograph()
    default = OPERATOR(image)
    model = data.stereo_motorcycle()[0]
    assert np.array_equal(default, OPERATOR(image, model=model, levels=20, iterations=3, slope=4.0, colour=True))
    assert not np.allclose(default, OPERATOR(image, model=MODEL), atol=0.05)
    assert OPERATOR.parameters == ()


def test_depth_of_the_pyramids():
    """45 pixels: ceil(ln 22.5) + 2 = 6 levels, and a seventh reaches one pixel."""
    image = photograph()
    default = OPERATOR(image, model=MODEL)
    assert np.array_equal(default, OPERATOR(image, model=MODEL, pyramid_levels=6))
    assert not np.allclose(default, OPERATOR(image, model=MODEL, pyramid_levels=7), atol=0.01)


def test_model_as_tensor_and_array_agree():
    image = photograph()
    assert np.array_equal(OPERATOR(image, model=MODEL), OPERATOR(image, model=to_tensor(MODEL)))


def test_batch_equals_one_by_one_and_precision():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) for s in range(3)])
    together = OPERATOR(images)
    for index in range(3):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1])[0], atol=1e-12)
    single = OPERATOR(images.float())
    assert single.dtype == torch.float32 and (single - together).abs().max() < 1e-3
    assert (single - together).abs().mean() < 2e-5
    assert single.min() >= 0 and single.max() <= 1


@pytest.mark.parametrize("size", [(8, 8), (1, 9), (13, 30)])
def test_constant_image_stays_constant(size):
    result = stylization(torch.full((1, 3, *size), 0.3, dtype=torch.float64), model=MODEL)
    assert result.max() - result.min() < 1e-9 and torch.isfinite(result).all()


def test_input_is_not_changed():
    image, model = to_tensor(photograph()), to_tensor(MODEL)
    kept = image.clone(), model.clone()
    OPERATOR(image, model=model)
    assert torch.equal(image, kept[0]) and torch.equal(model, kept[1])


def test_bad_settings():
    image = torch.rand(1, 3, 12, 14)
    with pytest.raises(ValueError, match="iterations >= 1"):
        stylization(image, iterations=0)
    with pytest.raises(ValueError, match="slope > 1"):
        stylization(image, slope=1.0)
    with pytest.raises(ValueError, match="levels must be at least 2"):
        stylization(image, levels=1)
    with pytest.raises(ValueError, match="pyramid_levels must be a whole number >= 2"):
        stylization(image, pyramid_levels=1)
    with pytest.raises(ValueError, match=r"must have shape \(H, W, 3\)"):
        stylization(image, model=np.zeros((5, 5)))
    with pytest.raises(TypeError, match="image must be a tensor"):
        stylization(image, model="coffee")


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert (OPERATOR(image.cuda()).cpu() - OPERATOR(image)).abs().mean() < 1e-6
