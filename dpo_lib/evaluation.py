"""How close a network comes to its operator: predictions to rows, rows to tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from . import metrics
from .images import as_batch
from .operators.cached import kept_targets
from .operators.operator import Operator
from .progress import progress_bar
from .randomness import seeded
from .text import format_table

__all__ = ["evaluate", "format_table", "interval", "summarise"]

RESAMPLES = 2000


def evaluate(
    network: Callable,
    operator: Operator,
    images: Mapping[str, np.ndarray | tuple[np.ndarray, np.ndarray]],
    *,
    values: Sequence | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    check_range: bool = True,
    progress: bool = False,
    on: str | None = None,
    targets: str | os.PathLike | None = None,
) -> list[dict]:
    """Compare a network with its operator on every image at every value.

    Parameters
    ----------
    network : callable
        ``network(image, value)`` on tensors (1, 3, H, W). A joint network, one that has several `operators`, is told
        the operator's name, ``network(image, value, operator=name)``.
    operator : Operator
    images : mapping
        Name to ndarray (H, W, 3), uint8 or float in [0, 1], of which the operator makes what the network is shown and
        what it should answer; or to a tuple of these two, of one size.
    values : sequence, optional
        Default: the operator's test values.
    device, seed
        Where to compute; which noise the restoration operators draw.
    check_range : bool
        Refuse values outside the operator's range.
    progress : bool
    on : {"rgb", "luminance", "gray"}, optional
        What PSNR is measured on, see `metrics.psnr`. Default: RGB for filters and colour denoising; for restoration
        luminance, or, where the operator's target is a gray image already (`Operator.target`), that image as it is.
    targets : path, optional
        Folder that keeps the operator's answers for the next network, see `kept_targets`; the same rows.

    Returns
    -------
    list of dict
        One row per image and value: ``operator``, ``image``, ``value``, ``psnr_db``, ``ssim`` (prediction against
        target), ``input_psnr_db``, ``input_ssim`` (unprocessed input against target). Both images are rounded to
        8 bits first.

    Raises
    ------
    TypeError, ValueError
        No image, one that cannot be measured on (said by its name, before any work), or a value out of range.
    """
    if not isinstance(images, Mapping):
        raise TypeError(f"images must be a dictionary of names and arrays, got {type(images).__name__}")
    if not images:
        raise ValueError("no image to evaluate on: give at least one")
    for name, given in images.items():
        _as_tensors(name, given, operator)
    if values is None:
        values = operator.parameters[0].test_values if operator.parameters else (None,)
    if not isinstance(values, (Sequence, np.ndarray, torch.Tensor)) or not len(values):
        raise ValueError(f"values must be a sequence of parameter values, at least one, got {values!r}")
    if on is None:
        on = "rgb" if operator.kind == "filter" else "luminance"
        if operator.target is not None:
            on = "rgb" if operator.settings.get("on") == "rgb" else "gray"
    keywords: dict[str, Any] = {} if check_range else {"check_range": False}
    if len(getattr(network, "operators", ())) > 1:
        keywords["operator"] = operator.name
    operator, rows = kept_targets(operator, targets), []
    bar = progress_bar(total=len(images) * len(values), desc=operator.name, unit="image", progress=progress)
    for number, (name, given) in enumerate(images.items()):
        tensors = [tensor.to(device) for tensor in _as_tensors(name, given, operator)]
        for value in values:
            if len(tensors) == 2:
                inputs, target = tensors
            else:
                generator = seeded(seed, number)
                inputs, target = operator.make_pair(tensors[0], value, generator, check_range=check_range)
            with torch.no_grad():
                prediction = network(inputs, value, **keywords)
            rows.append(
                {
                    "operator": operator.name,
                    "image": name,
                    "value": "" if value is None else value,
                    "psnr_db": metrics.psnr(prediction[0], target[0], on=on),
                    "ssim": metrics.ssim(prediction[0], target[0]),
                    "input_psnr_db": metrics.psnr(inputs[0], target[0], on=on),
                    "input_ssim": metrics.ssim(inputs[0], target[0]),
                }
            )
            bar.update()
    bar.close()
    return rows


def _as_tensors(name: str, given: np.ndarray | tuple[np.ndarray, ...], operator: Operator) -> list[torch.Tensor]:
    """An image, or an (input, target) pair of them, as tensors (1, 3, H, W)."""
    arrays, smallest = given if isinstance(given, tuple) else (given,), max(metrics.SSIM_WINDOW, operator.minimum_size)
    try:
        tensors = [as_batch(array, minimum_size=smallest)[0].float() for array in arrays]
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name!r} cannot be measured on: {error}") from error
    shapes = [tuple(tensor.shape) for tensor in tensors]
    if len(shapes) not in (1, 2) or len(set(shapes)) > 1 or shapes[0][0] != 1:
        raise ValueError(
            f"{name!r} must be one image, or a tuple of input and target of one size, got shapes {shapes}: "
            "give each image a name of its own"
        )
    return tensors


def summarise(rows: Sequence[dict], *, by: str = "value") -> list[dict]:
    """Average rows over images: one row per `by`, then one over all, called "average".

    >>> rows = [{"value": 1, "psnr_db": 30.0, "ssim": 0.8, "input_psnr_db": 20.0, "input_ssim": 0.5},
    ...         {"value": 2, "psnr_db": 40.0, "ssim": 1.0, "input_psnr_db": 30.0, "input_ssim": 0.7}]
    >>> [(row["value"], row["psnr_db"]) for row in summarise(rows)]
    [(1, 30.0), (2, 40.0), ('average', 35.0)]
    """
    if not rows:
        raise ValueError("no row to summarise: nothing was measured")
    columns = [key for key in ("psnr_db", "ssim", "input_psnr_db", "input_ssim") if key in rows[0]]
    groups = list(dict.fromkeys(row[by] for row in rows))

    def mean(chosen, label):
        return {by: label, "images": len(chosen)} | {c: float(np.mean([row[c] for row in chosen])) for c in columns}

    table = [mean([row for row in rows if row[by] == group], group) for group in groups]
    return [*table, mean(rows, "average")]


def interval(rows: Sequence[dict]) -> tuple[float, float, float]:
    """Mean of ``psnr_db`` over the operators of their means over values, and where it lies with other test images.

    Parameters
    ----------
    rows : sequence of dict
        As `evaluate` gives them, or differences of two networks on the same images; an image's name stands for one
        image under all operators and values.

    Returns
    -------
    mean, low, high : float
        The ends of the 95 % interval: percentiles of the means of images drawn with replacement, 2,000 times (Efron's
        bootstrap); the images of each test set by themselves. NaN where a set has one image.

    Examples
    --------
    >>> rows = [{"operator": "l0", "value": 1, "image": k, "psnr_db": 30.0 + k % 2} for k in range(100)]
    >>> [round(number, 1) for number in interval(rows)]
    [30.5, 30.4, 30.6]
    """
    if not rows:
        raise ValueError("no row to average: nothing was measured")
    cells: dict[str, dict[Any, list[dict]]] = {}
    for row in rows:
        cells.setdefault(row["operator"], {}).setdefault(row["value"], []).append(row)
    shares: dict[Any, dict[str, float]] = {}  # of the mean, by test set and image
    for values in cells.values():
        for cell in values.values():
            for row in cell:
                images = shares.setdefault(row.get("test_set"), {})
                share = row["psnr_db"] / (len(cells) * len(values) * len(cell))
                images[row["image"]] = images.get(row["image"], 0.0) + share
    random, means = np.random.default_rng(0), np.zeros(RESAMPLES)
    for images in shares.values():
        drawn = random.integers(len(images), size=(RESAMPLES, len(images)))
        means += np.array(list(images.values()))[drawn].sum(1) if len(images) > 1 else np.nan
    low, high = np.percentile(means, [2.5, 97.5])
    return sum(sum(images.values()) for images in shares.values()), float(low), float(high)
