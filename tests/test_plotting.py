"""What a figure holds, read from its parts."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from dpo_lib import load_pretrained
from dpo_lib.plotting import (
    coloured_points,
    curves,
    cutout,
    error_map,
    grouped_points,
    image_grid,
    network_diagram,
    panels,
    quartile_curves,
    save_animation,
    save_figure,
    scatter,
    signed_map,
    to_png,
    use_style,
)

RNG = np.random.default_rng(0)


def test_error_map_by_hand():
    target = np.zeros((2, 3, 3))
    prediction = target.copy()
    prediction[0, 1] = (0.03, -0.06, 0.0)  # mean absolute difference 0.03
    prediction[1, 2] = 1.0
    expected = np.zeros((2, 3))
    expected[0, 1], expected[1, 2] = 0.15, 1.0
    assert np.allclose(error_map(prediction, target), expected)


def test_image_grid_titles_labels_and_gaps():
    picture, gray = RNG.random((20, 30, 3)), RNG.random((20, 30))
    rows = {"operator": [picture, picture, picture], "difference": [None, gray]}
    figure = image_grid(rows, columns=["input", "weak", "strong"], notes={("operator", 1): "31 dB"}, width=6)
    axes = np.array(figure.axes).reshape(2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["input", "weak", "strong"]
    assert [axis.get_title() for axis in axes[1]] == ["", "", ""]
    assert [row[0].get_ylabel() for row in axes] == ["operator", "difference"]
    assert axes[0, 1].get_xlabel() == "31 dB"
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 1, 0, 1, 0]
    assert np.array_equal(np.asarray(axes[1, 1].images[0].get_array()), gray)


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("size", [(20, 30), (30, 20)])
def test_nothing_of_an_image_grid_is_cut_off(count, size):
    rows = {label: count * [RNG.random((*size, 3))] for label in ("operator", "network", "5 x difference")}
    notes = {(label, number): "31.9 dB" for label in rows for number in range(count)}
    figure = image_grid(rows, columns=count * ["gap"], notes=notes)
    figure.draw_without_rendering()
    for axis in figure.axes:
        for text in filter(lambda text: text.get_text(), (axis.title, axis.xaxis.label, axis.yaxis.label)):
            box, page = text.get_window_extent(), figure.bbox
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    bottoms = [axis.xaxis.label.get_window_extent().y0 for axis in figure.axes[:count]]
    assert min(bottoms) >= figure.axes[count].get_window_extent().y1  # and no note lies on the row below


def test_curves_hold_the_numbers():
    figure = curves({"net": ([1, 10], [30, 31])}, marks={"table": ([1], [30])}, xlabel="x", ylabel="y [dB]", log=True)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "y [dB]"
    assert [line.get_label() for line in axis.lines] == ["net", "table"]
    assert list(axis.lines[0].get_ydata()) == [30, 31]


def test_the_same_figure_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("DPO_LIB_PDF", "1")
    written = []
    for folder in ("a", "b"):
        figure = curves({"net": ([1, 2], [3, 4])}, xlabel="x", ylabel="y", size=(2, 1.5))
        path = save_figure(figure, tmp_path / folder, "figure")
        assert sorted(file.name for file in path.parent.iterdir()) == ["figure.pdf", "figure.png"]
        written.append([path.read_bytes(), path.with_suffix(".pdf").read_bytes()])
    assert written[0] == written[1]


def test_pdf_only_on_demand(tmp_path, monkeypatch):
    monkeypatch.delenv("DPO_LIB_PDF", raising=False)
    save_figure(curves({"net": ([1, 2], [3, 4])}, xlabel="x", ylabel="y", size=(2, 1.5)), tmp_path, "figure")
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]


def test_png_is_lossless_then_of_256_colours_then_smaller():
    def opened(**limit):
        return Image.open(io.BytesIO(to_png(figure, **limit)))

    figure = image_grid({"a": [RNG.random((60, 80, 3)) for _ in range(2)]}, width=3)
    lossless, palette = opened(), opened(max_bytes=20_000)
    assert lossless.mode == "RGB" and lossless.size == palette.size and palette.mode == "P"
    assert lossless.size == tuple(int(side) for side in figure.get_size_inches() * figure.dpi)
    assert not {"Software", "date", "Creation Time"} & lossless.info.keys()
    smaller = opened(max_bytes=15_000)
    assert smaller.mode == "P" and smaller.width < palette.width
    with pytest.raises(ValueError, match="a figure may have 100 bytes, got .* at half its resolution: draw less"):
        to_png(figure, max_bytes=100)


def test_large_images_are_averaged_and_small_ones_stay_sharp():
    fine = np.indices((400, 400)).sum(0) % 2 + 0.0  # a checkerboard finer than the dots of the figure
    for picture, shades in ((fine, {128}), (fine[:4, :4], {0, 255})):
        drawn = np.asarray(Image.open(io.BytesIO(to_png(image_grid({"a": [picture]}, width=2)))).convert("L"))
        middle = drawn[len(drawn) // 2 - 20 :][:40, drawn.shape[1] // 2 - 20 :][:, :40].astype(int)
        assert {min(shades, key=lambda shade: abs(shade - v)) for v in np.unique(middle)} == shades
        assert all(min(abs(shade - v) for shade in shades) < 40 for v in np.unique(middle))


def test_notebooks_show_what_is_saved(monkeypatch):
    interactive = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: interactive)
    use_style()
    shown, saved = (curves({"net": ([1, 2], [3, 4])}, xlabel="x", ylabel="y", size=(2, 1.5)) for _ in range(2))
    assert interactive.display_formatter.format(shown)[0]["image/png"] == to_png(saved)


def test_panels_hold_one_plot_each():
    plots = {f"title {k}": {"net": ([1, 10], [30, k])} for k in range(4)}
    figure = panels(plots, xlabels=list("abcd"), logs=[True, False, True, False], ylabel="y [dB]", columns=3)
    shown = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in shown] == list(plots) and [axis.get_xlabel() for axis in shown] == list("abcd")
    assert [axis.get_xscale() for axis in shown] == ["log", "linear", "log", "linear"]
    assert [axis.get_ylabel() for axis in shown] == ["y [dB]", "", "", "y [dB]"]
    assert [list(axis.lines[0].get_ydata()) for axis in shown] == [[30, k] for k in range(4)]


def test_scatter_names_its_points():
    points = {"one": [(1, 30, "l0"), (2, 31, "wls")], "other": [(9, 20, "l0")]}
    figure = scatter(points, xlabel="x", ylabel="y", log=True)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log" and [line.get_label() for line in axis.lines] == ["one", "other"]
    assert [(text.get_text(), *text.xy) for text in axis.texts] == [("l0", 1, 30), ("wls", 2, 31), ("l0", 9, 20)]


def test_quartile_curves_draw_medians_and_quartiles():
    samples = {"edge": np.array([[1, 2, 3, 4, 5], [10, 20, 30, 40, 50]]), "flat": np.ones((2, 5))}
    figure = quartile_curves(
        {"a": samples, "b": samples}, [0.1, 1], xlabel="x", ylabel="y", log=True, levels={"top": 99}
    )
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    axis = figure.axes[0]
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert [line.get_label() for line in axis.lines] == ["edge", "flat", "top"]
    assert list(axis.lines[0].get_ydata()) == [3, 30]
    band = axis.collections[0].get_paths()[0].vertices
    assert sorted(set(map(tuple, band))) == [(0.1, 2), (0.1, 4), (1, 20), (1, 40)]


def test_coloured_points_share_their_colours():
    plots = {"one": RNG.random((6, 2)), "other": RNG.random((6, 2))}
    values = np.geomspace(0.01, 1, 6)
    figure = coloured_points(plots, values, label="lambda", log=True, size=(6, 3))
    first, second, bar = figure.axes
    assert [first.get_title(), second.get_title(), bar.get_ylabel()] == ["one", "other", "lambda"]
    assert np.array_equal(first.collections[0].get_offsets(), plots["one"])
    assert np.array_equal(first.collections[0].get_array(), values)
    assert np.allclose(first.collections[0].norm(values), np.linspace(0, 1, 6))
    assert first.collections[0].norm is second.collections[0].norm


def test_grouped_points_have_a_colour_for_each_group():
    points = RNG.random((4, 2))
    figure = grouped_points({"one": points, "other": points[::-1]}, ["a", "b", "a", "b"])
    first, second = figure.axes
    assert [first.get_title(), second.get_title()] == ["one", "other"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert np.array_equal(first.collections[0].get_offsets(), points[::2])
    assert np.array_equal(second.collections[1].get_offsets(), points[::-1][1::2])
    colours = [[tuple(c.get_facecolor()[0]) for c in axis.collections] for axis in figure.axes]
    assert colours[0] == colours[1] and len(set(colours[0])) == 2


def test_labels_that_would_touch_go_to_all_sides():
    points = [(1, 0.0, "low"), (1, 9.9, "under"), (1, 10.0, "over"), (1, 9.95, "among"), (1.15, 9.9, "beside")]
    figure = scatter({"one": points, "other": [(2, 10.0, "far")]}, xlabel="x", ylabel="y")
    sides = {text.get_text(): text.get_ha() for text in figure.axes[0].texts}
    assert sides == {
        "low": "left",
        "under": "left",
        "over": "right",
        "among": "center",
        "beside": "left",
        "far": "left",
    }
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_signed_map_by_hand():
    colours = signed_map(np.array([[0.0, 1.0, -2.0, 9.0, -9.0]]), scale=4)
    expected = [[1, 1, 1], [1, 0.75, 0.75], [0.5, 0.5, 1], [1, 0, 0], [0, 0, 1]]
    assert np.allclose(colours[0], expected)


def test_cutouts_stay_inside():
    image = np.arange(60 * 80).reshape(60, 80)
    for point in ((0, 0), (30, 40), (59, 79), (5, 77)):
        cut = image[cutout(image.shape, point, side=20)]
        assert cut.shape == (20, 20) and image[point] in cut
    assert image[cutout(image.shape, (30, 40), side=70)].shape == (60, 70)


def test_a_diagram_is_what_the_layers_say():
    networks = {name: load_pretrained(name) for name in ("l0_paper", "l0", "single_layer")}
    figure = network_diagram(networks)
    for axis, (name, net) in zip(figure.axes, networks.items(), strict=True):
        layers = net.base_network.convolutions
        orange = [container[0].get_facecolor()[0] == 1.0 for container in axis.containers]  # tab:orange
        assert axis.get_title() == name and orange == [name != "single_layer"] * len(layers)
        words = [text.get_text() for text in axis.texts]
        assert [word.split(" ")[0] for word in words if word[:1].isdigit()] == [
            str(layer.out_channels) for layer in layers
        ]
        additions = sum(layer.closes_block for layer in layers) + sum(layer.joins for layer in layers)
        assert words.count("") == additions  # arrows
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == ["1", "1/2", "1/4", "1/8", "1/16", "1/32"]
    assert any("scale and shift" in text.get_text() for text in figure.axes[2].texts)
    with pytest.raises(ValueError, match="at least one network"):
        network_diagram({})


def test_an_animation_runs_forth_and_back(tmp_path):
    shades = (0.1, 0.5, 0.9)
    path = save_animation(
        [image_grid({"": [np.full((9, 9, 3), s)]}, width=2) for s in shades], tmp_path / "new", "slider"
    )
    with Image.open(path) as animation:
        assert animation.n_frames == 4
        seen, times = [], []
        for number in range(4):
            animation.seek(number)
            seen.append(np.asarray(animation.convert("L"))[60, 110] / 255)
            times.append(animation.info["duration"])
    assert path == tmp_path / "new" / "slider.webp" and np.allclose(seen, [0.1, 0.5, 0.9, 0.5], atol=0.03)
    assert times == [1000, 250, 1000, 250]
