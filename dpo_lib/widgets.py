"""Sliders over the parameters of operators and networks: wiring, and the one module that imports ipywidgets."""

from __future__ import annotations

import functools
import html
import io
import math
import time
from collections.abc import Callable, Mapping

import ipywidgets
import numpy as np
import torch
from PIL import Image

from .bank import shrink_image
from .data import embedded_images
from .images import to_numpy, to_tensor, to_uint8
from .metrics import psnr
from .operators import OPERATORS, Operator
from .parameters import Parameter


def encode(image: np.ndarray, *, lossless: bool = True) -> bytes:
    """An image (H, W, 3) in [0, 1] as PNG, or as JPEG (quicker to make and to send while a slider moves)."""
    buffer = io.BytesIO()
    options = {"format": "PNG", "compress_level": 1} if lossless else {"format": "JPEG", "quality": 90}
    Image.fromarray(to_uint8(image)).save(buffer, **options)
    return buffer.getvalue()


def parameter_slider(parameter: Parameter) -> ipywidgets.ValueWidget:
    """The slider that fits a parameter: logarithmic, linear, or over whole numbers."""
    label = f"{parameter.name} [{parameter.unit}]" if parameter.unit else parameter.name
    common = {"description": label, "continuous_update": True, "layout": ipywidgets.Layout(width="420px")}
    low, high = parameter.low, parameter.high
    if parameter.sampling == "log":
        return ipywidgets.FloatLogSlider(
            value=parameter.default, base=10, min=math.log10(low), max=math.log10(high),
            step=(math.log10(high) - math.log10(low)) / 100, readout_format=".4f", **common,
        )
    if parameter.sampling == "integer":
        return ipywidgets.IntSlider(value=int(parameter.default), min=int(low), max=int(high), **common)
    return ipywidgets.FloatSlider(
        value=parameter.default, min=low, max=high, step=(high - low) / 100, readout_format=".2f", **common
    )


def compare(
    network: Callable | None, operator: Operator, image: torch.Tensor, value=None, *, seed: int = 0
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The pictures that `explore` shows, and the numbers below them.

    Parameters
    ----------
    network : callable or None
        ``network(image, value)``; a network that knows several operators is told which, ``operator=name``.
    operator : Operator
    image : tensor (1, 3, H, W)
    value
        As in ``operator(image, value)``; None for the defaults.
    seed : int
        Of a degradation's noise.

    Returns
    -------
    pictures : dict
        For a filter ``input``, ``network``, and the operator's title; for a restoration operator ``clean``,
        ``degraded`` and ``network``. Tensors (1, 3, H, W).
    numbers : dict
        ``operator_time_ms``, and with a network ``time_ms`` and ``psnr_db`` (network against the operator's result, or
        against the clean image).
    """
    start = time.perf_counter()
    shown, target = operator.make_pair(image, value, seed)
    numbers = {"operator_time_ms": 1000 * (time.perf_counter() - start)}
    answer = {}
    if network is not None:
        which = {"operator": operator.name} if len(getattr(network, "operators", ())) > 1 else {}
        start = time.perf_counter()
        with torch.no_grad():
            answer["network"] = network(shown, value, **which)
        numbers["time_ms"] = 1000 * (time.perf_counter() - start)
        numbers["psnr_db"] = psnr(answer["network"][0], target[0])
    if operator.kind == "filter":
        return {"input": shown, **answer, operator.title: target}, numbers
    return {"clean": target, "degraded": shown, **answer}, numbers


def explore(
    network_or_operator: Callable | Operator | Mapping[str, Operator] | None,
    image: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    operator: Operator | Mapping[str, Operator] | None = None,
    longest_side: int = 320,
    seed: int = 0,
) -> ipywidgets.VBox:
    """Sliders for an operator's parameters; its result and a network's answer, side by side.

    Parameters
    ----------
    network_or_operator : network, Operator, mapping, or None
        A network, callable as ``network(image, value)``; or an operator (or name to operator) to see alone. None shows
        `operator` alone.
    image : ndarray (H, W, 3), or mapping of name to such, optional
        uint8 or float in [0, 1]. Several come with a list to choose from; None for the embedded photographs.
    operator : Operator, or mapping of name to Operator, optional
        What the network imitates or undoes; several come with a list to choose from. None for the operators that the
        network names itself.
    longest_side : int
        The picture is reduced to this many pixels, to answer at once.
    seed : int
        Of a degradation's noise.

    Returns
    -------
    VBox
        ``.refresh()`` recomputes and gives the numbers shown, see `compare`; it raises what goes wrong, where a moved
        slider writes it below the sliders. ``.operator_list``, ``.image_list``, ``.sliders``, ``.pictures``, ``.text``
        are the parts.

    Raises
    ------
    ValueError, TypeError
        No operator, or no image.
    """
    network, operators = _network_and_operators(network_or_operator, operator)
    photos = embedded_images() if image is None else image if isinstance(image, Mapping) else {"image": image}
    if not photos:
        raise ValueError("explore needs at least one image, got none")
    box = ipywidgets.VBox()
    titles = [(one.title, name) for name, one in operators.items()]
    box.operator_list = ipywidgets.Dropdown(options=titles, description="operator")
    box.image_list = ipywidgets.Dropdown(options=list(photos), description="image")
    box.sliders, box.pictures, box.text = [], {}, ipywidgets.HTML()
    lists = [part for part, choices in ((box.operator_list, operators), (box.image_list, photos)) if len(choices) > 1]

    @functools.cache
    def reduced(name: str) -> torch.Tensor:
        batch = to_tensor(photos[name]).float()
        return shrink_image(batch, min(1.0, longest_side / max(batch.shape[2:])))

    def refresh() -> dict[str, float]:
        chosen = operators[box.operator_list.value]
        # a logarithmic slider's end may pass the range by a rounding error
        pairs = zip(box.sliders, chosen.parameters, strict=True)
        values = [min(max(slider.value, parameter.low), parameter.high) for slider, parameter in pairs]
        value = [values] if values else None
        shown, numbers = compare(network, chosen, reduced(box.image_list.value), value, seed=seed)
        for name, result in shown.items():
            box.pictures[name].value = encode(to_numpy(result))
        line = f"operator {numbers['operator_time_ms']:.0f} ms"
        if network is not None:
            against = "operator" if chosen.kind == "filter" else "clean image"
            line = (
                f"network against {against} <b>{numbers['psnr_db']:.2f} dB</b>, "
                f"network {numbers['time_ms']:.0f} ms, {line}"
            )
        box.text.value = line
        return numbers

    def show(change=None) -> None:
        try:
            refresh()
        except Exception as error:  # from a callback it would vanish into the log
            message = html.escape(f"{type(error).__name__}: {error}")
            box.text.value = f"<b style='color:#b00'>{message}</b>"

    def lay_out() -> None:
        """Sliders and pictures of the chosen operator."""
        chosen = operators[box.operator_list.value]
        box.sliders = [parameter_slider(parameter) for parameter in chosen.parameters]
        for slider in box.sliders:
            slider.observe(show, names="value")
        names = ["input", chosen.title] if chosen.kind == "filter" else ["clean", "degraded"]
        if network is not None:
            names.insert(1 if chosen.kind == "filter" else 2, "network")
        layout = ipywidgets.Layout(max_width="360px")
        box.pictures = {name: ipywidgets.Image(format="png", layout=layout) for name in names}
        titled = [ipywidgets.VBox([ipywidgets.HTML(f"<b>{name}</b>"), p]) for name, p in box.pictures.items()]
        box.children = [*lists, *box.sliders, box.text, ipywidgets.HBox(titled)]

    def change_operator(change) -> None:
        lay_out()
        show()

    box.operator_list.observe(change_operator, names="value")
    box.image_list.observe(show, names="value")
    box.refresh = refresh
    lay_out()
    refresh()
    return box


def _network_and_operators(first, operator) -> tuple[Callable | None, dict[str, Operator]]:
    """Which of the two `explore` was given, and the operators to choose from, by name."""
    if isinstance(first, (Operator, Mapping)):
        if operator is not None:
            raise TypeError("give explore a network and its operator, or an operator alone, got two operators")
        network, operator = None, first
    else:
        network = first
        if operator is None:
            operator = {name: OPERATORS[name] for name in getattr(network, "operators", ()) if name in OPERATORS}
    operators = {operator.name: operator} if isinstance(operator, Operator) else dict(operator)
    if not operators:
        raise ValueError("explore needs an operator: give operator=OPERATORS[...]")
    return network, operators
