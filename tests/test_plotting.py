"""What a figure holds, read from its parts."""

import numpy as np

from dpo_lib.plotting import curves, error_map, image_grid, panels, save_figure, scatter

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


def test_curves_hold_the_numbers():
    figure = curves({"net": ([1, 10], [30, 31])}, marks={"table": ([1], [30])}, xlabel="x", ylabel="y [dB]", log=True)
    (axis,) = figure.axes
    assert axis.get_xscale() == "log" and axis.get_ylabel() == "y [dB]"
    assert [line.get_label() for line in axis.lines] == ["net", "table"]
    assert list(axis.lines[0].get_ydata()) == [30, 31]


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    written = []
    for folder in ("a", "b"):
        figure = curves({"net": ([1, 2], [3, 4])}, xlabel="x", ylabel="y", size=(2, 1.5))
        paths = save_figure(figure, tmp_path / folder, "figure")
        assert [path.name for path in paths] == ["figure.png", "figure.pdf"]
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


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
