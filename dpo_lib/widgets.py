"""Sliders over an operator's parameters: wiring only, and the one module that imports ipywidgets."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable

import ipywidgets
import numpy as np
import torch
from PIL import Image

from .bank import shrink_image
from .images import to_numpy, to_tensor, to_uint8
from .metrics import psnr
from .operators.operator import Operator
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


def explore(
    network: Callable | None,
    image: np.ndarray,
    *,
    operator: Operator,
    longest_side: int = 320,
) -> ipywidgets.VBox:
    """Sliders for the operator's parameters; the network's answer and the operator's own, side by side.

    Parameters
    ----------
    network : callable or None
        ``network(image, value)`` on tensors; None shows the operator alone.
    image : ndarray (H, W, 3)
        uint8 or float in [0, 1].
    operator : Operator
    longest_side : int
        The picture is reduced to this many pixels, to answer at once.

    Returns
    -------
    VBox
        ``.refresh()`` recomputes and gives the numbers shown: a dict with ``psnr_db`` and ``time_ms``.
    """
    batch = to_tensor(image)
    batch = shrink_image(batch, min(1.0, longest_side / max(batch.shape[2:])))
    sliders = [parameter_slider(parameter) for parameter in operator.parameters]
    names = ["input", *(["network"] if network is not None else []), operator.title]
    pictures = {name: ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="360px")) for name in names}
    pictures["input"].value = encode(to_numpy(batch))
    text = ipywidgets.HTML()

    def clamped() -> list[float] | None:
        """A logarithmic slider's end may pass the range by a rounding error."""
        values = [
            min(max(slider.value, p.low), p.high) for slider, p in zip(sliders, operator.parameters, strict=True)
        ]
        return values or None

    def refresh(change=None) -> dict:
        try:
            value, numbers, shown = clamped(), {}, {}
            gamma = None if value is None else [value]
            start = time.perf_counter()
            if network is not None:
                with torch.no_grad():
                    shown["network"] = network(batch, gamma)
                numbers["time_ms"] = 1000 * (time.perf_counter() - start)
            start = time.perf_counter()
            shown[operator.title] = operator(batch, gamma)
            numbers["operator_time_ms"] = 1000 * (time.perf_counter() - start)
            for name, result in shown.items():
                pictures[name].value = encode(to_numpy(result))
            line = f"operator {numbers['operator_time_ms']:.0f} ms"
            if network is not None:
                numbers["psnr_db"] = psnr(shown["network"][0], shown[operator.title][0])
                line = f"network against operator <b>{numbers['psnr_db']:.2f} dB</b>, network {numbers['time_ms']:.0f} ms, {line}"
            text.value = line
            return numbers
        except (ValueError, TypeError) as error:  # an error in a callback would vanish into the log
            text.value = f"<b style='color:#b00'>{error}</b>"
            return {}

    for slider in sliders:
        slider.observe(refresh, names="value")
    refresh()
    titled = [ipywidgets.VBox([ipywidgets.HTML(f"<b>{name}</b>"), picture]) for name, picture in pictures.items()]
    box = ipywidgets.VBox([*sliders, text, ipywidgets.HBox(titled)])
    box.refresh = refresh
    box.sliders = sliders
    box.pictures = pictures
    return box
