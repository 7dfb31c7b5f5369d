"""Receptive fields: hand counts, the support of a linear network's gradient, finite differences, made-up fields."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dpo_lib import OPERATORS
from dpo_lib.analysis.receptive_field import (
    ReceptiveField,
    effective_receptive_field,
    measure_fields,
    pick_points,
    receptive_interval,
    segment,
    theoretical_receptive_field,
)
from dpo_lib.data import embedded_images
from dpo_lib.models import BaseNetwork, DecoupledNetwork, dilated_layers, edge_map
from dpo_lib.models.base_network import NORM_EPSILON
from dpo_lib.models.layers import Convolution
from dpo_lib.parameters import Parameter
from dpo_lib.plotting import receptive_field_overlay

LAMBDA = Parameter("lambda", 0.002, 0.2, sampling="log", default=0.02)
POINTS = np.array([(3, 4), (20, 31), (11, 7), (25, 39), (0, 20)])
VALUES = [0.002, 0.02, 0.2, 0.02, 0.01]


def network(seed=0, operators=None, **changes):
    """A small float64 net away from its initial state, so that every layer and every code matters."""
    torch.manual_seed(seed)
    settings = {"width": 4, "dilations": (2, 1), **changes}
    net = DecoupledNetwork(operators or [LAMBDA], operator="" if operators else "l0", **settings).double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net.requires_grad_(False)


def photograph(height=26, width=41, seed=0):
    return np.random.default_rng(seed).random((height, width, 3))


class Linear(BaseNetwork):
    """Without normalisation; with positive weights and images the ReLUs do nothing."""

    def __init__(self, *, codes=0, **settings):
        super().__init__(dilated_layers(codes=codes, **settings), codes=codes)

    def normalise(self, x, scale, shift):
        return x


def support(net, image, row, column):
    """First and last row, first and last column with a gradient that is not zero."""
    image = image.clone().requires_grad_()
    weights = {layer.name: torch.ones(layer.weight_shape, dtype=image.dtype) for layer in net.convolutions}
    net(image, weights)[0, :, row, column].sum().backward()
    touched = (image.grad != 0).any(1)[0]
    return [int(side.nonzero()[end]) for side in (touched.any(1), touched.any(0)) for end in (0, -1)]


def test_hand_count_of_the_paper():
    # half size: conv3 and conv3 after the deconvolution make 5 rows, which touch 4 rows of half size; fourteen
    # dilated convolutions add 2 * 2 * (2 + 4 + 4 + 8 + 8 + 16 + 1) = 172; a stride-2 convolution over 176 rows sees
    # 2 * 175 + 3 = 353; the first two add 4, the edge map 2
    layers = dilated_layers()
    assert theoretical_receptive_field(layers, edges=False) == 353 + 4
    assert theoretical_receptive_field(layers) == 353 + 4 + 2
    assert receptive_interval(layers, 0) == (-180, 178) and receptive_interval(layers, 1) == (-178, 180)


def test_hand_counts_of_single_layers():
    def interval(position, **settings):
        return receptive_interval([Convolution("a", 4, 4, **settings)], position, edges=False)

    assert interval(7) == (6, 8)
    assert interval(7, dilation=16) == (-9, 23)
    assert interval(7, stride=2) == (13, 15)
    assert interval(7, kernel_size=1) == (7, 7)
    transposed = {"kernel_size": 4, "stride": 2, "transposed": True}
    assert [interval(position, **transposed) for position in (6, 7, 8)] == [(2, 3), (3, 4), (3, 4)]


@pytest.mark.parametrize(("dilations", "depthwise"), [((2, 1), False), ((1, 4, 1), False), ((3,), True)])
@pytest.mark.parametrize("at", [(40, 47), (41, 46)])
def test_theory_is_the_support_of_a_linear_network(dilations, depthwise, at):
    net = Linear(width=2, dilations=dilations, depthwise=depthwise)
    image = torch.rand(1, 3, 84, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    expected = [end for position in at for end in receptive_interval(net.convolutions, position)]
    assert min(expected) > 0 and expected[1] < 83 and expected[3] < 95  # nothing is cut at the border
    assert support(net, image, *at) == expected


def test_theoretical_field_of_a_whole_network_is_the_largest_interval():
    layers = dilated_layers(dilations=(2, 1))
    spans = [last - first + 1 for first, last in (receptive_interval(layers, p) for p in range(4))]
    assert theoretical_receptive_field(layers) == max(spans)


def output_sum(net, image, value, point, base_network=None):
    tensor = torch.from_numpy(image.transpose(2, 0, 1))[None]
    output = (base_network or net.base_network)(tensor, net.weights(value))
    return float(output[0, :, point[0], point[1]].sum())


def finite_differences(function, image, pixels, step=1e-6):
    """Sum over the channels of the absolute central difference quotients."""
    found = []
    for row, column in pixels:
        total = 0.0
        for channel in range(3):
            shift = np.zeros_like(image)
            shift[row, column, channel] = step
            total += abs(function(image + shift) - function(image - shift)) / (2 * step)
        found.append(total)
    return np.array(found)


PIXELS = [(20, 31), (19, 31), (20, 28), (14, 25), (2, 3)]


def test_live_gradient_equals_finite_differences():
    net, image, point = network(), photograph(), (20, 31)
    field = effective_receptive_field(net, image, 0.05, point, frozen_statistics=False)
    expected = finite_differences(lambda x: output_sum(net, x, 0.05, point), image, PIXELS)
    assert np.allclose([field.gradient[0][pixel] for pixel in PIXELS], expected, rtol=1e-4)
    assert (expected > 1e-9).all()  # live statistics reach everywhere


@pytest.mark.parametrize(("name", "value"), [("l0", 0.02), ("l0", 0.2), ("rgf", 1.5), ("rgf", 5.0)])
def test_an_operators_gradient_equals_finite_differences(name, value):
    operator, point = OPERATORS[name], (20, 31)
    rows, columns = np.indices((26, 41))
    image = 0.6 * ((rows + 2 * columns) > 70)[..., None] + 0.2 * photograph()  # an edge, and texture
    field = effective_receptive_field(operator, image, value, point)

    def output(x):
        return operator(x, value)[point].sum()

    expected = finite_differences(output, image, PIXELS)
    assert np.allclose([field.gradient[0][pixel] for pixel in PIXELS], expected, rtol=1e-3, atol=1e-6)
    assert expected[0] > 0.001 and field.area[0] > 3


def test_an_operator_without_a_derivative_says_so():
    with pytest.raises(ValueError, match="wmf has no derivative: expected a network, or an operator"):
        effective_receptive_field(OPERATORS["wmf"], photograph(), 5, (20, 31))


class Recorded(BaseNetwork):
    """Normalises with the mean and variance of its first pass in all later ones."""

    def __init__(self, base_network):
        vars(self).update(vars(base_network))
        self.record, self.turn = [], 0

    def normalise(self, x, scale, shift):
        count = len(self.norm_channels)
        if len(self.record) < count:
            self.record.append((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)))
        mean, variance = self.record[self.turn % count]
        self.turn += 1
        return F.batch_norm(x, mean, variance, scale, shift, training=False, eps=NORM_EPSILON)


def test_frozen_gradient_equals_finite_differences_with_recorded_statistics():
    net, image, point = network(), photograph(), (20, 31)
    recorded = Recorded(net.base_network)
    first = output_sum(net, image, 0.05, point, recorded)
    assert abs(first - output_sum(net, image, 0.05, point)) < 1e-9
    field = effective_receptive_field(net, image, 0.05, point, frozen_statistics=True)
    expected = finite_differences(lambda x: output_sum(net, x, 0.05, point, recorded), image, PIXELS)
    assert np.allclose([field.gradient[0][pixel] for pixel in PIXELS], expected, rtol=1e-4, atol=1e-9)


def test_frozen_output_is_the_output_and_the_network_stays():
    net = network(generated="norm(all)+conv(all)")
    image = torch.rand(1, 3, 24, 30, dtype=torch.float64)
    before = net(image, 0.05)
    frozen = net.base_network.sharing(frozen_statistics=True)
    assert torch.allclose(frozen(image, net.weights(0.05)), before, atol=1e-10)
    effective_receptive_field(net, photograph(), 0.05, POINTS)
    assert type(net.base_network) is BaseNetwork and torch.equal(net(image, 0.05), before)
    assert all(p.grad is None for p in net.parameters())


def test_frozen_field_stays_in_the_theoretical_one_and_live_does_not():
    net, image = network(dilations=(1,)), photograph(48, 66)
    frozen, live = (
        effective_receptive_field(net, image, 0.05, (23, 33), frozen_statistics=f, threshold=0) for f in (True, False)
    )
    rows, columns = (receptive_interval(net.base_network.convolutions, p) for p in (23, 33))
    outside = np.ones((48, 66), bool)
    outside[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = False
    assert outside.any() and not frozen.mask[0][outside].any() and live.mask[0][outside].mean() > 0.99
    side = theoretical_receptive_field(net.base_network.convolutions)
    assert (frozen.extent <= side).all() and (frozen.extent > side // 2).all()


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_equals_one_by_one_in_any_chunk(frozen):
    net, image = network(), photograph()
    together = effective_receptive_field(net, image, VALUES, POINTS, frozen_statistics=frozen, chunk=8)
    assert together.gamma[:, 0].tolist() == VALUES and np.array_equal(together.points, POINTS)
    small = effective_receptive_field(net, image, VALUES, POINTS, frozen_statistics=frozen, chunk=1)
    assert np.allclose(small.gradient, together.gradient, rtol=1e-5)
    for index, (value, point) in enumerate(zip(VALUES, POINTS, strict=True)):
        alone = effective_receptive_field(net, image, value, point, frozen_statistics=frozen)
        assert np.allclose(alone.gradient[0], together.gradient[index], rtol=1e-5)
    assert not np.allclose(together.gradient[1], together.gradient[3])


def test_one_point_at_many_values_and_many_points_at_one():
    net, image = network(), photograph()
    values = effective_receptive_field(net, image, [0.002, 0.02, 0.2], (20, 31))
    assert len(values) == 3 and (values.points == (20, 31)).all()
    assert not np.allclose(values.gradient[0], values.gradient[2], rtol=0.01)
    points = effective_receptive_field(net, image, None, POINTS)
    assert len(points) == 5 and (points.gamma == 0.02).all()
    tensor = torch.from_numpy(image.transpose(2, 0, 1))[None]
    with torch.no_grad():
        assert np.array_equal(effective_receptive_field(net, tensor, 0.02, POINTS).gradient, points.gradient)


def test_other_forms_of_the_network():
    joint = network(operators={"l0": [LAMBDA], "shock": [], "rtv": [LAMBDA, Parameter("sigma", 1, 5)]})
    image = photograph()
    assert effective_receptive_field(joint, image, None, POINTS[:2], operator="shock").gamma.shape == (2, 0)
    rows = [[0.01, 2.0], [0.1, 4.0]]
    assert effective_receptive_field(joint, image, rows, POINTS[0], operator="rtv").gamma.tolist() == rows
    assert len(effective_receptive_field(joint, image, [0.01, 2.0], POINTS[:3], operator="rtv")) == 3
    with pytest.raises(ValueError, match="operator must be one of l0, shock, rtv"):
        effective_receptive_field(joint, image, 0.01, POINTS)
    single = network(generated="norm(7)", depthwise=True)
    assert effective_receptive_field(single, image, 0.01, POINTS).gradient.max() > 0


def test_bad_input():
    net, image = network(), photograph()
    with pytest.raises(ValueError, match=r"inside the image of 26 rows and 41 columns, got \[26, 3\]"):
        effective_receptive_field(net, image, 0.02, [(1, 1), (26, 3)])
    with pytest.raises(ValueError, match=r"whole numbers \(row, column\)"):
        effective_receptive_field(net, image, 0.02, [(1.0, 1.5)])
    with pytest.raises(ValueError, match=r"lambda must lie in \[0.002, 0.2\] for l0, got 0.5"):
        effective_receptive_field(net, image, 0.5, POINTS)
    with pytest.raises(ValueError, match="one row of 1 per image"):
        effective_receptive_field(net, image, [0.01, 0.02], POINTS)
    with pytest.raises(ValueError, match="got a batch of 2"):
        effective_receptive_field(net, torch.rand(2, 3, 20, 20), 0.02, POINTS)
    with pytest.raises(ValueError, match="threshold must lie"):
        effective_receptive_field(net, image, 0.02, POINTS, threshold=1.0)
    with pytest.raises(TypeError, match="must be a DecoupledNetwork or an Operator, got BaseNetwork"):
        effective_receptive_field(net.base_network, image, 0.02, POINTS)


def test_measures_of_a_made_up_field():
    gradient = np.zeros((3, 12, 15), np.float32)
    gradient[0, 2:6, 3:13] = 1.0
    gradient[0, 9, 14] = 0.024
    gradient[1, 4, 4], gradient[1, 4, 6] = 2.0, 0.051
    field = ReceptiveField(gradient, np.array([(3, 4), (4, 4), (7, 7)]), np.full((3, 1), 0.02))
    assert field.area.tolist() == [40, 2, 0]
    assert field.extent.tolist() == [[4, 10], [1, 3], [0, 0]]
    segments = np.zeros((12, 15), int)
    segments[:, 5:] = 7
    assert field.share_inside(segments)[:2].tolist() == [0.2, 0.5] and np.isnan(field.share_inside(segments)[2])
    with pytest.raises(ValueError, match="segments must be labels of shape"):
        field.share_inside(segments.T)


def test_discs_have_the_areas_and_are_round():
    gradient = np.random.default_rng(0).random((3, 30, 40)).astype(np.float32)
    field = ReceptiveField(gradient, np.array([(15, 20), (0, 0), (15, 20)]), np.zeros((3, 1)), threshold=0.9)
    discs = field.discs()
    assert np.array_equal(discs.area, field.area) and field.area.min() > 50
    rows, columns = np.indices((30, 40))
    for mask, (row, column) in zip(discs.mask, field.points, strict=True):
        distance = np.hypot(rows - row, columns - column)
        assert distance[mask].max() <= distance[~mask].min()


def test_picked_points_follow_the_rule():
    image = embedded_images("coffee")["coffee"]
    picked = pick_points(image, 6, neighbourhood=3, border=20, spacing=10, seed=1)
    edges = edge_map(torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255)[0, 0].numpy()
    padded = np.pad(edges, 3, mode="edge")
    peak = np.lib.stride_tricks.sliding_window_view(padded, (7, 7)).max((2, 3))
    ranks = {kind: [(edges < edges[r, c]).mean() for r, c in points] for kind, points in picked.items()}
    for r, c in picked["non-edge"]:
        assert (peak < peak[r, c]).mean() < 0.3
    assert all(0.79 < rank <= 0.9 for rank in ranks["moderate edge"])
    assert all(rank > 0.97 for rank in ranks["strong edge"])
    for kind, points in picked.items():
        assert points.shape == (6, 2) and (points >= 20).all() and (points < np.array(edges.shape) - 20).all()
        assert kind == "non-edge" or all(edges[r, c] == peak[r, c] for r, c in points)
        apart = np.abs(points[:, None] - points[None]).max(-1)
        assert apart[~np.eye(6, dtype=bool)].min() >= 10
    again, other = (pick_points(image, 6, neighbourhood=3, border=20, spacing=10, seed=s) for s in (1, 2))
    assert all(np.array_equal(again[kind], picked[kind]) for kind in picked)
    assert any(not np.array_equal(other[kind], picked[kind]) for kind in picked)


def test_points_of_one_image_only():
    image = embedded_images("coffee")["coffee"] / 255
    with pytest.raises(ValueError, match="expected one image, got a batch of 2: call once per image"):
        pick_points(np.stack([image, 1 - image]), 2)
    half = torch.from_numpy(image).permute(2, 0, 1)[None].bfloat16()
    found, expected = (pick_points(one, 2) for one in (half, half.float()))
    assert all(np.array_equal(found[kind], expected[kind]) for kind in expected)


def test_too_few_points():
    with pytest.raises(ValueError, match="found 0 of 3 points for moderate edge"):
        pick_points(np.full((80, 90, 3), 0.5), 3)


def test_segments_follow_the_colours():
    image = np.full((40, 60, 3), 0.2)
    image[:, 25:] = 0.8
    image[10:30, 35:50] = (0.9, 0.1, 0.1)
    labels = segment(image, sigma=0)
    assert labels.shape == (40, 60) and len(np.unique(labels)) == 3
    for value in np.unique(labels):
        assert len(np.unique(image[labels == value], axis=0)) == 1


def test_overlay_paints_the_mask_blue_and_a_cross():
    image, mask = np.full((20, 31, 3), 0.5), np.zeros((20, 31), bool)
    mask[5:9, 6:20] = True
    kept = image.copy()
    painted = receptive_field_overlay(image, mask, (6, 7), opacity=0.5, arm=3)
    assert np.array_equal(image, kept)
    blue = [0.5 * (0.5 + channel) for channel in (0.337, 0.706, 0.914)]
    assert painted[8, 15].tolist() == blue and painted[6, 7].tolist() == blue
    red = (painted == (0.835, 0.369, 0.0)).all(-1)
    steps = (-4, -3, -2, 2, 3, 4)
    expected = {(6 + step, 7) for step in steps} | {(6, 7 + step) for step in steps}
    assert set(map(tuple, np.argwhere(red))) == expected
    rest = ~mask & ~red
    assert np.array_equal(painted[rest], image[rest])
    assert receptive_field_overlay(image, mask, (0, 0)).shape == image.shape  # arms are cut at the border
    with pytest.raises(ValueError, match="mask must have the image's shape"):
        receptive_field_overlay(image, mask.T, (0, 0))


def test_half_area_by_hand():
    gradient = np.zeros((4, 5, 7), np.float32)
    gradient[0, 2, 3] = 1  # one pixel has everything
    gradient[1] = 1  # 35 equal pixels: 18 have at least half
    gradient[2, 0, :4] = (4, 3, 2, 1)  # 4 + 3 is more than 5
    field = ReceptiveField(gradient, np.zeros((4, 2), int), np.zeros((4, 1)))
    assert field.half_area.tolist() == [1, 18, 2, 0]


def test_measured_rows_are_those_of_single_calls():
    net, photos = network(), {"coffee": embedded_images("coffee")["coffee"][:120, :170]}
    photos["chelsea"] = embedded_images("chelsea")["chelsea"][60:190, 90:240]
    rows = measure_fields(net, photos, [0.01, 0.1], n=2, border=10, seed=3)
    assert len(rows) == 2 * 3 * 2 * 2
    assert [row["kind"] for row in rows[:6]] == ["non-edge"] * 2 + ["moderate edge"] * 2 + ["strong edge"] * 2
    picked = pick_points(photos["chelsea"], 2, border=10, seed=3)
    segments = segment(photos["chelsea"])
    last = rows[-1]
    assert (last["image"], last["kind"], last["value"]) == ("chelsea", "strong edge", 0.1)
    assert [last["row"], last["column"]] == picked["strong edge"][1].tolist()
    field = effective_receptive_field(net, photos["chelsea"], 0.1, picked["strong edge"][1])
    assert last["area"] == field.area[0] and last["half_area"] == field.half_area[0]
    assert abs(last["share_inside"] - field.share_inside(segments)[0]) < 1e-3
    assert abs(last["disc_share_inside"] - field.discs().share_inside(segments)[0]) < 1e-3
    at_point = field.gradient[0][tuple(picked["strong edge"][1])] / field.gradient.max()
    assert abs(last["own_pixel"] - at_point) < 1e-3
