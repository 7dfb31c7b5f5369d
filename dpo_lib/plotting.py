"""Figures: arrays and rows in, a matplotlib Figure out; and figures as small PNG files."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .models.parameterized import ParameterizedNetwork

DOTS_PER_INCH = 110
PAGE_WIDTH = 10.0  # inches: the column of a README or a notebook, 1100 pixels
MAX_BYTES = 400_000  # of a figure's PNG
LABEL_PIXELS = (45, 16)  # width and height that a label takes
LABEL_PLACES = (  # offset in points, alignment, and how far its middle is from the point in pixels
    ((6, -3), "left", (30, 0)),
    ((-6, -3), "right", (-30, 0)),
    ((0, 9), "center", (0, 20)),
    ((0, -17), "center", (0, -20)),
)
BLUE, SKY, VERMILION = (0.0, 0.447, 0.698), (0.337, 0.706, 0.914), (0.835, 0.369, 0.0)
LINES = (  # colours that colour-blind readers tell apart (Okabe and Ito), markers and dashes for print
    (BLUE, "o", "-"),
    (VERMILION, "s", "--"),
    ((0.0, 0.620, 0.451), "^", "-."),
    ((0.8, 0.475, 0.655), "D", ":"),
    ((0.902, 0.624, 0.0), "v", (0, (5, 1))),
    (SKY, "x", (0, (1, 1))),
    ((0.0, 0.0, 0.0), "+", "-"),
)
MARKERS = "osD^v<>PX*"
ERROR_SCALE = 5  # error maps show five times the absolute difference


def error_map(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Absolute difference averaged over the channels, times `ERROR_SCALE`, clipped: (H, W) in [0, 1]."""
    return np.clip(ERROR_SCALE * np.abs(prediction - target).mean(-1), 0, 1)


def image_grid(
    rows: Mapping[str, Sequence[np.ndarray]],
    *,
    columns: Sequence[str] = (),
    notes: Mapping | None = None,
    width: float = PAGE_WIDTH,
) -> Figure:
    """Images in a grid, one labelled row after the other.

    Images larger than their cell are averaged down; the pixels of smaller ones stay sharp squares.

    Parameters
    ----------
    rows : mapping
        Row label to its images: (H, W, 3) in [0, 1], or (H, W) shown in gray levels with white for 0. All of one
        size. None leaves a cell empty.
    columns : sequence of str
        Titles above the first row.
    notes : mapping, optional
        (row label, column number) to a short text below that image.
    width : float
        Of the figure, in inches.
    """
    from matplotlib.figure import Figure

    notes = notes or {}
    count = max(len(images) for images in rows.values())
    first = next(image for images in rows.values() for image in images if image is not None)
    cell = width / (count + 0.25)
    height = cell * first.shape[0] / first.shape[1]
    gap, titles = 0.22 if notes else 0.04, 0.3 if columns else 0.04  # inches below each row, and above the first
    interpolation = "hanning" if cell * DOTS_PER_INCH < first.shape[1] else "nearest"
    figure = Figure(figsize=(width, len(rows) * (height + gap) + titles), dpi=DOTS_PER_INCH)
    axes = figure.subplots(len(rows), count, squeeze=False)
    for row, (label, images) in enumerate(rows.items()):
        for number, axis in enumerate(axes[row]):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if number >= len(images) or images[number] is None:
                continue
            image = images[number]
            if image.ndim == 2:
                axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation=interpolation)
            else:
                axis.imshow(np.clip(image, 0, 1), interpolation=interpolation)
            if row == 0 and number < len(columns):
                axis.set_title(columns[number], fontsize=9, pad=3)
            if (label, number) in notes:
                axis.set_xlabel(notes[label, number], fontsize=8, labelpad=2)
        axes[row, 0].set_ylabel(label, fontsize=9, labelpad=3)
    top, bottom = 1 - titles / figure.get_figheight(), gap / figure.get_figheight()
    figure.subplots_adjust(left=0.025, right=0.998, top=top, bottom=bottom, wspace=0.02, hspace=gap / height)
    return figure


def curves(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    marks: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    size: tuple[float, float] = (7.0, 4.0),
) -> Figure:
    """Lines (and, in `marks`, single points) against a parameter, on a logarithmic axis if asked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axis = figure.subplots()
    _draw_lines(axis, lines, log=log)
    for label, (x, y) in (marks or {}).items():
        axis.plot(x, y, "o", label=label, markersize=6, markerfacecolor="none", markeredgewidth=1.3, color="black")
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.legend(frameon=False, fontsize=9)
    return figure


def panels(
    plots: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    *,
    xlabels: Sequence[str],
    logs: Sequence[bool],
    ylabel: str,
    columns: int = 3,
) -> Figure:
    """Small plots of lines, one per title, in a grid; one legend for all."""
    from matplotlib.figure import Figure

    rows = -(-len(plots) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.5 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (title, lines), xlabel, log in zip(axes, plots.items(), xlabels, logs, strict=False):
        _draw_lines(axis, lines, log=log)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(xlabel, fontsize=8)
        axis.tick_params(labelsize=8, which="both")
    for number, axis in enumerate(figure.axes):
        axis.set_visible(number < len(plots))
        if number % columns == 0:
            axis.set_ylabel(ylabel, fontsize=8)
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def quartile_curves(
    plots: Mapping[str, Mapping[str, np.ndarray]],
    x: Sequence[float],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    levels: Mapping[str, float] | None = None,
    size: tuple[float, float] = (10.0, 4.0),
) -> Figure:
    """Medians as lines and quartiles as bands on a logarithmic axis, a plot per title, side by side.

    Parameters
    ----------
    plots : mapping
        Title to a mapping of labels to ndarrays (len(x), n): n samples at each x, positive.
    x : sequence of float
    xlabel, ylabel : str
    log : bool
        x is logarithmic, too.
    levels : mapping, optional
        Label to a height at which a dashed line is drawn in every plot.
    size : (width, height)
        In inches.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, len(plots), sharey=True, squeeze=False)[0]
    for axis, (title, samples) in zip(axes, plots.items(), strict=True):
        quartiles = {label: np.quantile(values, (0.25, 0.5, 0.75), axis=1) for label, values in samples.items()}
        _draw_lines(axis, {label: (x, median) for label, (_, median, _) in quartiles.items()}, log=log)
        for line, (low, _, high) in zip(axis.lines, quartiles.values(), strict=True):
            axis.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        for label, level in (levels or {}).items():
            axis.axhline(level, color="0.4", linestyle="--", linewidth=1.2, label=label)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(xlabel)
    axes[0].set_ylabel(ylabel)
    axes[-1].legend(frameon=False, fontsize=9)
    return figure


def coloured_points(
    plots: Mapping[str, np.ndarray],
    values: np.ndarray,
    *,
    label: str,
    log: bool = False,
    size: tuple[float, float] = (10.0, 4.5),
) -> Figure:
    """Points (N, 2) in one plot per title, coloured by a value.

    Parameters
    ----------
    plots : mapping
        Title to an ndarray (N, 2).
    values : ndarray (N,)
        One for each point, the same in all plots.
    label : str
        Of the colour bar.
    log : bool
        Colours follow the logarithm of the value.
    size : (width, height)
        In inches.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, NullFormatter

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, len(plots), squeeze=False)[0]
    colours = (LogNorm if log else Normalize)(values.min(), values.max())
    for axis, (title, points) in zip(axes, plots.items(), strict=True):
        drawn = axis.scatter(*points.T, c=values, norm=colours, cmap="viridis", s=14, linewidth=0)
        axis.set_aspect("equal", adjustable="datalim")
        _quiet(axis, title)
    bar = figure.colorbar(drawn, ax=axes, label=label)
    if log:
        bar.ax.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    return figure


def grouped_points(
    plots: Mapping[str, np.ndarray], groups: Sequence[str], *, size: tuple[float, float] = (10.0, 4.0)
) -> Figure:
    """Points (N, 2) in one plot per title, a colour and a marker for each group, in one legend.

    Parameters
    ----------
    plots : mapping
        Title to an ndarray (N, 2).
    groups : sequence of str
        The name of each point's group, N of them, the same in all plots.
    size : (width, height)
        In inches.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(groups))
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(1, len(plots), squeeze=False)[0]
    for axis, (title, points) in zip(axes, plots.items(), strict=True):
        for k, name in enumerate(names):
            chosen = points[[group == name for group in groups]]
            look = {"color": colormaps["tab10"](k % 10), "marker": MARKERS[k % len(MARKERS)]}
            axis.scatter(*chosen.T, s=14, linewidth=0, label=name, **look)
        _quiet(axis, title)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    return figure


def _quiet(axis, title: str) -> None:
    """A faint grid, no frame, small tick labels."""
    axis.set_title(title, fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def signed_map(values: np.ndarray, *, scale: float) -> np.ndarray:
    """Numbers in colour: white for 0, red for `scale` and above, blue for -`scale` and below.

    Parameters
    ----------
    values : ndarray (H, W)
    scale : float
        Positive.

    Returns
    -------
    ndarray (H, W, 3)
        In [0, 1].

    Examples
    --------
    >>> signed_map(np.array([[0.0, 2.0, -1.0]]), scale=2).tolist()
    [[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0], [0.5, 0.5, 1.0]]]
    """
    share = np.clip(values / scale, -1, 1)
    return np.stack([1 - np.clip(-share, 0, 1), 1 - np.abs(share), 1 - np.clip(share, 0, 1)], axis=-1)


def network_diagram(networks: Mapping[str, ParameterizedNetwork], *, width: float = PAGE_WIDTH) -> Figure:
    """Both networks of the framework, drawn from their layers: the paper's Figure 1.

    Every convolution is a bar in run order from left to right, the higher the finer its pixels, with its channels
    (xD: dilation D) written on it; orange where the weight learning network produces its kernel, or, outlined in
    orange, its scale and shift only. Arcs are additions: below the bars of a block's input, above them of a level's.

    Parameters
    ----------
    networks : mapping
        Title to network, a row each.
    width : float
        Inches.

    Raises
    ------
    ValueError
        No network.
    """
    from matplotlib.figure import Figure

    if not networks:
        raise ValueError("expected at least one network to draw, got none")
    figure = Figure(figsize=(width, 2.6 * len(networks)), dpi=DOTS_PER_INCH, layout="constrained")
    for axis, (title, net) in zip(np.atleast_1d(figure.subplots(len(networks))), networks.items(), strict=True):
        base, heads = net.base_network, net.weight_learning_network.heads
        level, opened, saved = int(base.unshuffles), (0.0, 0.0), list[tuple[float, float]]()
        centres, fed = [], []
        for x, layer in enumerate(base.convolutions, 1):
            level += (layer.stride == 2) * (-1 if layer.transposed else 1)
            centres.append((x, -level))
            kernel, norm = layer.name in heads, f"norm{x}" in heads
            colour, outline = "tab:orange" if kernel else "lightsteelblue", 2 * (norm and not kernel)
            axis.bar(x, 0.7, 0.84, -level - 0.35, color=colour, edgecolor="tab:orange", linewidth=outline)
            text = f"{layer.out_channels}" + (f" x{layer.dilation}" if layer.dilation > 1 else "")
            axis.text(x, -level, text, rotation=90, ha="center", va="center", fontsize=6.5)
            if kernel or norm:
                axis.plot([x, x], [-level + 0.35, 1.0], color="tab:orange", linewidth=0.5, zorder=0)
                fed += [x]
            if layer.opens_block:
                opened = (x - 0.5, -level - 0.35)
            if layer.closes_block:
                _arc(axis, opened, (x + 0.5, -level - 0.35), bend=0.35)
            if layer.joins:
                _arc(axis, saved.pop(), (x + 0.5, -level + 1.35), bend=-0.12)
            if layer.saves:
                saved.append((x + 0.5, -level + 0.35))
            level -= layer.shuffles
        last, middle = len(centres) + 1, (len(centres) + 1) / 2
        entry = "image" + (" as\n2x2 pixels" if base.unshuffles else "\nand edges")
        entry += "\nand ranks" if base.equalised else ""
        answer = {
            "residual": "\n+ image",
            "direct": "",
            "gain": "\n+ image x (1 + gain)",
            "gate": "\n+ image x (1 + gate)",
        }[base.output]
        axis.text(0, centres[0][1], entry, ha="right", va="center", fontsize=8)
        axis.text(last, 0, "answer" + answer, ha="left", va="center", fontsize=8)
        axis.plot(*zip(*centres, strict=True), color="0.7", linewidth=0.8, zorder=0)
        axis.plot(
            [min(fed, default=middle), max(fed, default=middle), middle], [1.0] * 3, color="tab:orange", linewidth=0.8
        )
        what = "kernels" if any(layer.name in heads for layer in base.convolutions) else "scale and shift"
        text = f"weight learning network: code of $\\gamma$ to {what}"
        box = {"boxstyle": "round", "facecolor": "moccasin", "edgecolor": "tab:orange"}
        axis.text(middle, 1.0, text, ha="center", va="center", fontsize=8, bbox=box)
        lowest = min(y for _, y in centres)
        axis.set(xlim=(-0.12 * last, 1.12 * last), ylim=(lowest - 0.9, 1.4), title=title)
        axis.set_yticks(range(0, lowest - 1, -1), ["1", *(f"1/{2**k}" for k in range(1, 1 - lowest))], fontsize=7)
        axis.set_ylabel("resolution", fontsize=8)
        axis.set_xticks([])
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def _arc(axis, start: tuple[float, float], end: tuple[float, float], *, bend: float) -> None:
    style = {"arrowstyle": "->", "connectionstyle": f"arc3,rad={bend}", "color": "tab:blue", "linewidth": 0.8}
    axis.annotate("", end, start, arrowprops={**style, "shrinkA": 0, "shrinkB": 0})


def scatter(
    groups: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    size: tuple[float, float] = (7.0, 4.0),
) -> Figure:
    """Points (x, y, label), a colour for each group; a label is right of its point, or where no other one is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axis = figure.subplots()
    for (label, points), (colour, marker, _) in zip(groups.items(), itertools.cycle(LINES), strict=False):
        places = [x for x, _, _ in points], [y for _, y, _ in points]
        axis.plot(*places, marker, color=colour, label=label, markersize=6)
    _draw_lines(axis, {}, log=log)
    axis.margins(x=0.15)
    axis.autoscale_view()  # the labels need the limits
    taken: list = []
    for x, y, text in (point for points in groups.values() for point in points):
        place = axis.transData.transform((x, y))
        free = [
            side
            for side in LABEL_PLACES
            if not any((np.abs(place + side[2] - other) < LABEL_PIXELS).all() for other in taken)
        ]
        offset, align, middle = (free or LABEL_PLACES)[0]
        axis.annotate(text, (x, y), xytext=offset, textcoords="offset points", fontsize=8, ha=align)
        taken.append(place + middle)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.legend(frameon=False, fontsize=9)
    return figure


def _draw_lines(axis, lines: Mapping, *, log: bool) -> None:
    """Lines with markers on a faint grid."""
    from matplotlib.ticker import FormatStrFormatter, NullFormatter

    for (label, (x, y)), (colour, marker, dashes) in zip(lines.items(), itertools.cycle(LINES), strict=False):
        axis.plot(x, y, color=colour, marker=marker, linestyle=dashes, label=label, markersize=4, linewidth=1.5)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def to_png(figure: Figure, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A figure as PNG at its own size, so small that it can be kept in a repository.

    Lossless where that is small enough, else in 256 colours, else with fewer dots per inch. The same figure gives the
    same bytes: neither date nor software is written.

    Parameters
    ----------
    figure : Figure
    max_bytes : int
        The file is at most as long.

    Raises
    ------
    ValueError
        It cannot be made so small at half its size.
    """
    for shrink in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", dpi=shrink * figure.dpi)
        picture = Image.open(drawn).convert("RGB")
        for colours in (picture, picture.quantize(256)):
            written = io.BytesIO()
            colours.save(written, format="PNG", optimize=True)
            if written.tell() <= max_bytes:
                return written.getvalue()
    raise ValueError(f"a figure may have {max_bytes} bytes, got {written.tell()} at half its resolution: draw less")


def save_figure(figure: Figure, folder: str | os.PathLike, name: str) -> Path:
    """Write ``name.png`` as `to_png` makes it, and ``name.pdf`` beside it if the environment has DPO_LIB_PDF=1."""
    path = Path(folder) / f"{name}.png"
    with write_atomically(path) as temporary:
        temporary.write_bytes(to_png(figure))
    if os.environ.get("DPO_LIB_PDF") == "1":
        with write_atomically(path.with_suffix(".pdf")) as temporary:
            figure.savefig(temporary, format="pdf", dpi=200, metadata={"CreationDate": None, "Producer": None})
    return path


def save_animation(figures: Sequence[Figure], folder: str | os.PathLike, name: str, *, frame_ms: int = 250) -> Path:
    """Write figures of one size as an animated WebP that runs forth and back, and return its path.

    Parameters
    ----------
    figures : sequence of Figure
    folder, name : path and str
        Goes to ``folder/name.webp``; the folder is made if missing.
    frame_ms : int
        Milliseconds that a figure is shown, the first and the last four times as long.
    """
    frames = [Image.open(io.BytesIO(to_png(figure))).convert("RGB") for figure in figures]
    frames += frames[-2:0:-1]
    times = [frame_ms * (4 if number in (0, len(figures) - 1) else 1) for number in range(len(frames))]
    path = Path(folder) / f"{name}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        options = {"save_all": True, "append_images": frames[1:], "duration": times, "loop": 0, "quality": 75}
        frames[0].save(temporary, format="WEBP", **options)
    return path


def use_style() -> None:
    """In a notebook: show figures as `to_png` makes them, so that what is seen is what `save_figure` writes."""
    from IPython import get_ipython
    from matplotlib.figure import Figure

    if (shell := get_ipython()) is not None:
        shell.display_formatter.formatters["image/png"].for_type(Figure, to_png)


# Receptive fields


def receptive_field_overlay(
    image: np.ndarray, mask: np.ndarray, point: Sequence[int], *, opacity: float = 0.75, arm: int = 5
) -> np.ndarray:
    """An image with a receptive field in sky blue and an orange-red cross on the point it belongs to.

    Parameters
    ----------
    image : ndarray (H, W, 3)
        In [0, 1]; not changed.
    mask : ndarray (H, W), bool
    point : (row, column)
    opacity : float
        Of the blue, in [0, 1]; 1 hides the image below.
    arm : int
        Length of the cross's arms in pixels; the point itself is not covered. 0: no cross.

    Returns
    -------
    ndarray (H, W, 3), float64

    Examples
    --------
    >>> painted = receptive_field_overlay(np.zeros((5, 6, 3)), np.eye(5, 6, dtype=bool), (1, 2), opacity=1, arm=0)
    >>> painted[2, 2].tolist(), painted[2, 3].tolist()
    ([0.337, 0.706, 0.914], [0.0, 0.0, 0.0])
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask must have the image's shape {image.shape[:2]}, got {mask.shape}")
    painted = np.array(image, dtype=np.float64)
    painted[mask] = (1 - opacity) * painted[mask] + opacity * np.array(SKY)
    row, column = point
    for step in range(2, arm + 2):
        for r, c in ((row - step, column), (row + step, column), (row, column - step), (row, column + step)):
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                painted[r, c] = VERMILION
    return painted


def cutout(size: Sequence[int], point: Sequence[int], *, side: int = 96) -> tuple[slice, slice]:
    """Rows and columns of a square cutout around a point, moved inwards at the image's border.

    Parameters
    ----------
    size : (rows, columns)
        Of the image.
    point : (row, column)
    side : int
        In pixels; cut to the image's sides.

    Examples
    --------
    >>> cutout((90, 120), (45, 3), side=30)
    (slice(30, 60, None), slice(0, 30, None))
    """
    sides = [min(side, length) for length in size]
    starts = [int(np.clip(p - s // 2, 0, n - s)) for p, s, n in zip(point, sides, size, strict=True)]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])
