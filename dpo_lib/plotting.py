"""Figures: arrays and rows in, a matplotlib Figure out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110
ERROR_SCALE = 5  # error maps show five times the absolute difference


def error_map(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Absolute difference averaged over the channels, times `ERROR_SCALE`, clipped: (H, W) in [0, 1]."""
    return np.clip(ERROR_SCALE * np.abs(prediction - target).mean(-1), 0, 1)


def image_grid(
    rows: Mapping[str, Sequence[np.ndarray]], *, columns: Sequence[str] = (), notes: Mapping | None = None,
    width: float = 12.0,
) -> Figure:
    """Images in a grid, one labelled row after the other.

    Parameters
    ----------
    rows : mapping
        Row label to its images: (H, W, 3) in [0, 1], or (H, W) shown in gray levels with white for 0. All of one
        size. None leaves a place empty.
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
    extra = 0.2 if notes else 0.04
    figure = Figure(figsize=(width, len(rows) * (cell * first.shape[0] / first.shape[1] + extra) + 0.3), dpi=DOTS_PER_INCH)
    axes = figure.subplots(len(rows), count, squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for number, axis in enumerate(line):
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if number >= len(images) or images[number] is None:
                continue
            image = images[number]
            if image.ndim == 2:
                axis.imshow(image, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
            else:
                axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
            if line is axes[0] and number < len(columns):
                axis.set_title(columns[number], fontsize=9, pad=3)
            if (label, number) in notes:
                axis.set_xlabel(notes[label, number], fontsize=8, labelpad=2)
        line[0].set_ylabel(label, fontsize=9, labelpad=3)
    figure.subplots_adjust(left=0.025, right=0.998, top=1 - 0.3 / figure.get_figheight(), bottom=0.02, wspace=0.02,
                           hspace=0.16 if notes else 0.03)
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
    from matplotlib.ticker import FormatStrFormatter

    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    axis = figure.subplots()
    for label, (x, y) in lines.items():
        axis.plot(x, y, label=label, marker=".", markersize=4, linewidth=1.5)
    for label, (x, y) in (marks or {}).items():
        axis.plot(x, y, "o", label=label, markersize=6, markerfacecolor="none", markeredgewidth=1.3, color="black")
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9)
    return figure


def save_figure(figure: Figure, folder: str | os.PathLike, name: str) -> list[Path]:
    """Write ``name.png`` and ``name.pdf`` without dates in them, so that the same figure gives the same bytes."""
    paths = []
    for ending, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None, "Producer": None})):
        path = Path(folder) / f"{name}.{ending}"
        with write_atomically(path) as temporary:
            figure.savefig(temporary, format=ending, dpi=200, metadata=metadata)
        paths.append(path)
    return paths
