"""The pieces that a board of sliders is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import ipywidgets

from ..parameters import Parameter

STYLE = """<style>.dpo-crisp {image-rendering: pixelated}
.dpo-board .widget-toggle-buttons {display: flex; align-items: center}
.dpo-board .widget-toggle-buttons .widget-label {text-align: right; margin-right: 8px}
.dpo-board .widget-toggle-button {padding: 0 8px}
.dpo-board .widget-toggle-buttons > div {display: flex}</style>"""
LABELS = {"description_width": "90px"}
SHORT_LABELS = {"description_width": "auto"}


def parameter_slider(parameter: Parameter) -> ipywidgets.ValueWidget:
    """The slider that fits a parameter: logarithmic, linear, or over whole numbers."""
    layout = ipywidgets.Layout(width="520px")
    common = {"description": parameter.label, "continuous_update": True, "layout": layout, "style": LABELS}
    low, high = parameter.low, parameter.high
    if parameter.sampling == "log":
        return ipywidgets.FloatLogSlider(
            value=parameter.default,
            base=10,
            min=math.log10(low),
            max=math.log10(high),
            step=(math.log10(high) - math.log10(low)) / 100,
            readout_format=".4f",
            **common,
        )
    if parameter.sampling == "integer":
        return ipywidgets.IntSlider(value=int(parameter.default), min=int(low), max=int(high), **common)
    return ipywidgets.FloatSlider(
        value=parameter.default, min=low, max=high, step=(high - low) / 100, readout_format=".2f", **common
    )


def choice(options: list, label: str, *, style: dict[str, str] = LABELS) -> ipywidgets.ToggleButtons:
    """Buttons of which one is chosen."""
    style = {"button_width": "auto", **style}
    return ipywidgets.ToggleButtons(options=options, description=label, style=style)


def percent(label: str) -> ipywidgets.IntSlider:
    """A slider from 0 to 100 that begins in the middle."""
    return ipywidgets.IntSlider(50, description=label, readout=False, style=LABELS)


def row() -> ipywidgets.Layout:
    """Side by side, in a new line where there is no room."""
    return ipywidgets.Layout(flex_flow="row wrap", align_items="center", grid_gap="0 12px")


def frame(caption: ipywidgets.HTML, picture: ipywidgets.Image, width: int) -> ipywidgets.VBox:
    """A picture under its caption, `width` pixels wide at most."""
    picture.layout = ipywidgets.Layout(width="100%", height="auto", margin="0")
    layout = ipywidgets.Layout(width=f"{width}px", flex="0 1 auto", min_width="0")
    return ipywidgets.VBox([caption, picture], layout=layout)


def swipe(
    before: str, after: str, pictures: Mapping[str, ipywidgets.Image], position: ipywidgets.IntSlider, width: int
) -> tuple[ipywidgets.VBox, ipywidgets.Box]:
    """Two pictures in one place with a slider below, and the box whose width says how much of the first one shows."""
    for name in (before, after):
        fixed = {"width": f"{width}px", "max_width": "none", "min_width": f"{width}px"}
        pictures[name].layout = ipywidgets.Layout(height="auto", margin="0", flex="none", **fixed)
    place = {"grid_area": "1 / 1 / 2 / 2", "margin": "0"}
    pictures[after].layout.grid_area = place["grid_area"]
    layout = ipywidgets.Layout(overflow="hidden", border_right="2px solid white", **place)
    left = ipywidgets.Box([pictures[before]], layout=layout)
    stack = ipywidgets.GridBox(
        [pictures[after], left],
        layout=ipywidgets.Layout(width=f"{width}px", grid_template_columns=f"{width}px", overflow="hidden"),
    )
    caption = f"<div style='display:flex;justify-content:space-between'><b>{before}</b><b>{after}</b></div>"
    titles = ipywidgets.HTML(caption, layout=ipywidgets.Layout(width=f"{width}px"))
    position.layout.width = f"{width}px"
    return ipywidgets.VBox([titles, stack, position], layout=ipywidgets.Layout(flex="none")), left


def with_parts(widgets: Iterable[ipywidgets.Widget]) -> set[ipywidgets.Widget]:
    """Widgets with all that they hold: children, layouts, styles."""
    found, waiting = set(), list(widgets)
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            held = (*getattr(one, "children", ()), getattr(one, "layout", None), getattr(one, "style", None))
            waiting += [part for part in held if isinstance(part, ipywidgets.Widget)]
    return found
