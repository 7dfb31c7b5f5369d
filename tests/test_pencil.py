"""Pencil drawing: its strokes, tones and hatching against NumPy and SciPy, and the laws of the whole."""

import numpy as np
import pytest
import torch
from photographs import photograph
from scipy import integrate, ndimage, sparse
from scipy.sparse.linalg import spsolve

from dpo_lib.images import luminance, to_tensor
from dpo_lib.operators.pencil import (
    OPERATOR,
    line_drawing,
    pencil_drawing,
    pencil_texture,
    render_texture,
    tone_map,
    tone_model,
)


def gray_of(image):
    return luminance(to_tensor(image))


def lines_by_definition(gray, reach, directions):
    """Each direction on its own; a stroke's weight is 1 less the distance to a segment from -reach to reach."""
    dx, dy = np.zeros_like(gray), np.zeros_like(gray)
    dx[:, :-1], dy[:-1] = np.diff(gray, axis=1), np.diff(gray, axis=0)
    strength = np.sqrt(dx**2 + dy**2)
    y, x = np.mgrid[-reach - 1 : reach + 2, -reach - 1 : reach + 2]
    kernels = []
    for k in range(directions):
        end = np.array([np.cos(np.pi * k / directions), np.sin(np.pi * k / directions)]) * reach  # (down, right)
        along = np.clip((y * end[0] + x * end[1]) / reach**2, -1, 1)
        weight = np.clip(1 - np.hypot(y - along * end[0], x - along * end[1]), 0, None)
        kernels.append(weight / weight.sum())
    responses = [ndimage.convolve(strength, kernel, mode="constant") for kernel in kernels]
    nearest = np.argmax(responses, axis=0)
    ink = sum(ndimage.convolve(strength * (nearest == k), kernels[k], mode="constant") for k in range(directions))
    return 1 - (ink - ink.min()) / (ink.max() - ink.min())


@pytest.mark.parametrize(("reach", "directions"), [(8, 8), (3, 5)])
def test_lines_agree_with_the_definition(reach, directions):
    gray = gray_of(photograph())
    expected = lines_by_definition(gray[0, 0].numpy(), reach, directions)
    result = line_drawing(gray, reach_px=reach, directions=directions)
    assert np.abs(result[0, 0].numpy() - expected).max() < 1e-5  # the kernels are float32
    assert result.min() == 0 and result.max() == 1


def test_lines_are_white_off_contours_and_run_past_corners():
    gray = torch.full((1, 1, 60, 90), 0.8, dtype=torch.float64)
    gray[..., 20:41, 30:61] = 0.2
    lines = line_drawing(gray)[0, 0]
    assert lines[:10].min() > 0.999 and lines[:, :19].min() > 0.999  # farther than a reach
    assert lines[27:34, 42:49].min() > 0.9  # the middle of the square
    assert lines[30, 29] < 0.2 and lines[40, 45] < 0.2
    assert lines[30, 28] > 0.9 and lines[30, 32] > 0.9  # strokes are thin
    assert lines[19, 25] < 0.8 < 0.95 < lines[24, 25]  # the upper contour goes on to the left of its corner


def test_faint_contours_stay_faint():
    faint = torch.full((1, 1, 40, 60), 0.5, dtype=torch.float64)
    assert line_drawing(faint).min() == 1
    faint[..., 30:] += 1e-3
    assert 0.5 < line_drawing(faint).min() < 0.95
    faint[..., 30:] += 0.1
    assert line_drawing(faint).min() == 0


@pytest.mark.parametrize("weights", [(76, 22, 2), (1, 1, 1), (0, 1, 0)])
def test_tone_model_is_the_integral_of_its_densities(weights):
    v = np.linspace(0, 255, 25501)
    layers = np.exp((v - 255) / 9), ((v >= 105) & (v <= 225)).astype(float), np.exp(-((v - 90) ** 2) / 242)
    density = sum(w * p / np.trapezoid(p, v) for w, p in zip(weights, layers, strict=True)) / sum(weights)
    expected = integrate.cumulative_trapezoid(density, v, initial=0)
    values, cumulative = tone_model(weights)
    assert np.abs(np.interp(values * 255, v, expected) - cumulative.numpy()).max() < 1e-4


@pytest.mark.parametrize("weights", [(76, 22, 2), (20, 40, 40)])
def test_tone_has_the_models_histogram_and_the_images_order(weights):
    gray = gray_of(photograph(90, 121))
    tone = tone_map(gray, weights=weights)
    values, cumulative = tone_model(weights)
    share = np.searchsorted(np.sort(tone.flatten().numpy()), values.numpy()) / tone.numel()
    assert np.abs(share - cumulative.numpy()).max() < 0.01
    taps = np.array([1, 4, 6, 4, 1]) / 16
    smooth = ndimage.convolve(gray[0, 0].numpy(), np.outer(taps, taps), mode="nearest")
    assert (np.diff(tone.flatten().numpy()[np.argsort(smooth, axis=None)]) >= -1e-9).all()


def test_hatching_agrees_with_a_direct_solution():
    tone, texture = tone_map(gray_of(photograph(37, 52))), pencil_texture().double()[:19, :30]
    height, width = tone.shape[2:]
    sheet = np.log(np.tile(texture.numpy(), (2, 2))[:height, :width]).ravel()

    def differences(n):
        return sparse.diags([-np.ones(n - 1), np.ones(n - 1)], [0, 1], shape=(n - 1, n))

    dx, dy = (
        sparse.kron(sparse.eye(height), differences(width)),
        sparse.kron(differences(height), sparse.eye(width)),
    )
    for theta in (0.2, 1.0):
        matrix = theta * (dx.T @ dx + dy.T @ dy) + sparse.diags(sheet**2)
        beta = spsolve(matrix.tocsc(), sheet * np.log(tone.flatten().numpy()))
        expected = np.exp(sheet * beta).reshape(height, width)
        result = render_texture(tone, texture, theta=theta)[0, 0].numpy()
        assert np.abs(result - expected).max() < 1e-4


def test_without_smoothness_the_hatching_is_the_tone_and_with_it_shows_the_texture():
    tone = torch.full((1, 1, 60, 80), 0.4, dtype=torch.float64)
    assert torch.allclose(render_texture(tone, pencil_texture(), theta=0.0), tone, atol=1e-4)
    deviations = [render_texture(tone, pencil_texture(), theta=theta).std() for theta in (0.02, 0.2, 2.0)]
    assert 0.01 < deviations[0] < deviations[1] < deviations[2]
    hatched = render_texture(tone, pencil_texture())
    assert torch.corrcoef(torch.stack([hatched.flatten(), pencil_texture()[:60, :80].flatten()]))[0, 1] > 0.7
    assert 0.4 < hatched.mean() < 0.5  # dark strokes count more in logarithms
    assert render_texture(torch.ones_like(tone), pencil_texture()).min() == 1  # paper stays white


def test_texture_is_seeded_seamless_and_hatched():
    sheet = pencil_texture()
    assert torch.equal(sheet, pencil_texture.__wrapped__(0)) and not torch.equal(sheet, pencil_texture(1))
    assert sheet.min() > 0 and sheet.max() < 1
    assert abs(-sheet.log().mean() - 0.3) < 1e-3
    across_seam, inside = (sheet[:, 0] - sheet[:, -1]).abs().mean(), sheet.diff(dim=1).abs().mean()
    assert abs(across_seam / inside - 1) < 0.2

    def similarity(down, right):
        return torch.corrcoef(torch.stack([sheet.flatten(), sheet.roll((down, right), (0, 1)).flatten()]))[0, 1]

    assert similarity(5, 6) > 0.2 > 0.1 > similarity(5, -6)  # strokes go down to the right


def test_a_constant_image_becomes_the_hatched_middle_tone():
    one, other = (torch.full((1, 3, 30, 44), value, dtype=torch.float64) for value in (0.1, 0.7))
    result = pencil_drawing(one, colour=False)
    assert torch.allclose(result, pencil_drawing(other, colour=False), atol=1e-12)
    values, cumulative = tone_model()
    middle = np.interp(0.5, cumulative, values)
    tone = torch.full((1, 1, 30, 44), middle, dtype=torch.float64)
    assert torch.allclose(result, render_texture(tone, pencil_texture()).expand_as(result), atol=1e-4)


def test_drawing_is_lines_times_hatching_and_replaces_the_luma():
    image = to_tensor(photograph())
    gray = luminance(image)
    tone = tone_map(gray, weights=(50, 40, 10)).pow(1.5)
    drawing = line_drawing(gray, reach_px=4, directions=6).pow(2) * render_texture(tone, pencil_texture(), theta=0.5)
    settings = {
        "reach_px": 4,
        "directions": 6,
        "line_gamma": 2.0,
        "tone_gamma": 1.5,
        "tone_weights": (50, 40, 10),
        "theta": 0.5,
    }
    assert torch.allclose(OPERATOR(image, colour=False, **settings), drawing.expand_as(image), atol=1e-12)
    coloured = OPERATOR(image, **settings)
    assert torch.allclose(coloured, (image + drawing - gray).clamp(0, 1), atol=1e-12)
    inside = ((coloured > 0) & (coloured < 1)).all(1, keepdim=True)
    assert inside.double().mean() > 0.3
    assert (luminance(coloured) - drawing)[inside].abs().max() < 1e-12


def test_defaults_are_the_papers():
    image = photograph()
    settings = {"reach_px": 8, "directions": 8, "line_gamma": 1, "tone_gamma": 1, "tone_weights": (76, 22, 2)}
    settings |= {"theta": 0.2, "texture": pencil_texture(), "colour": True}
    assert np.array_equal(OPERATOR(image), OPERATOR(image, **settings))
    assert OPERATOR.kind == "filter" and not OPERATOR.parameters


def test_a_texture_of_ones_own_may_be_an_array():
    image, sheet = photograph(), pencil_texture(3)[:100, :70]
    result = OPERATOR(image, texture=sheet.double().numpy())
    assert np.array_equal(result, OPERATOR(image, texture=sheet))
    assert np.abs(result - OPERATOR(image)).max() > 0.1


def test_batch_equals_one_by_one():
    images = torch.stack([torch.from_numpy(photograph(seed=s)).permute(2, 0, 1) * (0.4 + 0.2 * s) for s in range(3)])
    together = OPERATOR(images)
    for index in range(3):
        assert torch.allclose(together[index], OPERATOR(images[index : index + 1])[0], atol=1e-4)


def test_result_repeats_and_the_input_stays():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None].contiguous()
    kept = image.clone()
    first = OPERATOR(image)
    assert torch.equal(first, OPERATOR(image)) and torch.equal(image, kept)
    gray = OPERATOR(image, colour=False)
    gray[:, 0] = 0  # the channels are not one piece of memory
    assert gray[:, 1].max() > 0


def test_single_precision_agrees_with_double():
    image = photograph()
    single = OPERATOR(image.astype(np.float32))
    assert single.dtype == np.float32
    assert -10 * np.log10(np.mean((single - OPERATOR(image)) ** 2)) > 50  # a pixel may change direction


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (16, 600), (45, 8)])
def test_any_size_works_and_stays_in_range(size):
    image = photograph(*size)
    for picture in (image, (image > 0.5).astype(float)):
        result = OPERATOR(picture)
        assert result.shape == picture.shape and np.isfinite(result).all()
        assert result.min() >= 0 and result.max() <= 1


def test_gammas_above_one_darken():
    image = photograph()
    plain = OPERATOR(image, colour=False)
    for name in ("line_gamma", "tone_gamma"):
        darker = OPERATOR(image, colour=False, **{name: 2.0})
        assert darker.mean() < plain.mean() - 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reach_px": 0}, "reach_px >= 1"),
        ({"directions": 0}, "directions >= 1"),
        ({"line_gamma": 0.0}, "line_gamma > 0"),
        ({"tone_gamma": float("nan")}, "tone_gamma > 0"),
        ({"theta": -0.1}, "theta >= 0"),
        ({"tone_weights": (1, 2)}, "three numbers"),
        ({"tone_weights": (1, -2, 3)}, "three numbers >= 0"),
        ({"tone_weights": (0, 0, 0)}, "not all 0"),
        ({"texture": torch.rand(3, 8, 8)}, r"texture must have shape \(H, W\), got \(3, 8, 8\)"),
        ({"texture": torch.ones(8, 8)}, r"texture must lie inside \(0, 1\)"),
        ({"texture": torch.full((8, 8), float("nan"))}, r"texture must lie inside \(0, 1\)"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        pencil_drawing(torch.rand(1, 3, 12, 14), **settings)


def test_bad_kinds_of_input():
    with pytest.raises(TypeError, match="texture must hold floating-point numbers"):
        OPERATOR(photograph(), texture=np.full((9, 9), 128, np.uint8))
    with pytest.raises(ValueError, match="at least 8 pixels"):
        OPERATOR(photograph(7, 20))
    with pytest.raises(ValueError, match="pencil has no parameter"):
        OPERATOR(photograph(), 0.5)


@pytest.mark.gpu
def test_gpu_agrees_with_cpu():
    image = torch.from_numpy(photograph()).permute(2, 0, 1)[None]
    assert torch.allclose(OPERATOR(image.cuda()).cpu(), OPERATOR(image), atol=1e-4)
