"""Sliders over the parameters of operators and networks: the board and its wiring."""

from __future__ import annotations

import asyncio
import base64
import html
import re
import time
from collections.abc import Callable, Mapping

import ipywidgets
import numpy as np

from ..data.sources import embedded_images
from ..images import to_numpy
from ..operators import Operator
from .explorer import Explorer, describe, encode, network_and_operators, read_upload, window
from .parts import LABELS, SHORT_LABELS, STYLE, choice, frame, parameter_slider, percent, row, swipe, with_parts

REST_SECONDS = 0.4  # a slider that has not moved for so long is at rest
SMALLEST_FRAME = 256  # smaller pictures are shown enlarged
ZOOMS = (1, 2, 4, 8)
SIDE_BY_SIDE, SWIPE = "side by side", "swipe"


def explore(
    network_or_operator: Callable | Operator | Mapping[str, Operator] | None,
    image: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    operator: Operator | Mapping[str, Operator] | None = None,
    longest_side: int | None = None,
    seed: int = 0,
) -> Board:
    """Sliders for an operator's parameters; its result and a network's answer, while they move.

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
    longest_side : int, optional
        The picture is reduced to this many pixels, to answer at once. Default 512 for a network that keeps its features
        (`SingleLayerTuner`), else 320.
    seed : int
        Of a degradation's noise.

    Returns
    -------
    Board

    Raises
    ------
    ValueError, TypeError
        No operator, or no image.
    """
    network, operators = network_and_operators(network_or_operator, operator)
    photos = embedded_images() if image is None else image if isinstance(image, Mapping) else {"image": image}
    if not photos:
        raise ValueError("explore needs at least one image, got none")
    return Board(Explorer(network, photos, longest_side=longest_side, seed=seed), operators)


class Board(ipywidgets.VBox):
    """What `explore` shows.

    While a slider moves, a quick picture is drawn at every step (JPEG; smaller, where the network is slow), and a
    faithful one (PNG) once it rests. What goes wrong in a callback is written into `text`, in red. Use a board from one
    thread; networks, tuners and operators may be called from several.

    Parameters
    ----------
    explorer : Explorer
    operators : mapping of str to Operator

    Attributes
    ----------
    operator_list, image_list : Dropdown
    upload : FileUpload
    sliders : list
        One for each parameter of the chosen operator.
    view, zoom : ToggleButtons
    position, across, down : IntSlider
        Where the swipe divides the picture, and where the enlarged window lies, in percent.
    with_operator : Checkbox
        Show a filter's own result beside the network's, computed when the sliders rest.
    save : Button
        Puts a link to the answer's PNG into `link`.
    pictures : dict of str to Image
    text : HTML
    """

    def __init__(self, explorer: Explorer, operators: Mapping[str, Operator]):
        super().__init__()
        self.add_class("dpo-board")
        self.explorer, self.operators = explorer, operators
        titles = [(one.title, name) for name, one in operators.items()]
        self.operator_list = ipywidgets.Dropdown(options=titles, description="operator", style=LABELS)
        self.image_list = ipywidgets.Dropdown(options=list(explorer.images), description="image", style=LABELS)
        self.upload = ipywidgets.FileUpload(accept="image/*", description="your picture")
        self.view = choice([SIDE_BY_SIDE, SWIPE], "view")
        self.zoom = choice([(f"{z}x", z) for z in ZOOMS], "zoom", style=SHORT_LABELS)
        self.across, self.down = (percent(name) for name in ("across", "down"))
        self.position = ipywidgets.IntSlider(50, readout=False)
        self.with_operator = ipywidgets.Checkbox(description="operator's result, too", indent=False)
        self.with_operator.layout.width = "170px"
        self.save = ipywidgets.Button(description="PNG", icon="download", tooltip="a link to the answer as shown")
        self.save.layout.width = "80px"
        self.text, self.link = ipywidgets.HTML(), ipywidgets.HTML()
        self.sliders: list[ipywidgets.Widget] = []
        self.pictures: dict[str, ipywidgets.Image] = {}
        self._line, self._took_ms, self._left = "", 0.0, None
        self._timer: asyncio.TimerHandle | None = None
        self._sent: dict[str, tuple] = {}
        self._numbers: dict[str, float] = {}
        self._parts: set[ipywidgets.Widget] = set()
        for part, action in (
            (self.operator_list, self._change_operator),
            (self.upload, self._take_upload),
            (self.view, self._show),
            (self.zoom, self._show),
            (self.with_operator, self._change),
            (self.across, self._move),
            (self.down, self._move),
            (self.position, self._divide),
        ):
            part.observe(self._callback(action), names="value")
        self._on_image = self._callback(self._change)
        self.image_list.observe(self._on_image, names="value")
        self.save.on_click(self._callback(self._offer))
        self._make_parts()
        self._draw()
        self._arrange()

    @property
    def operator(self) -> Operator:
        """The chosen one."""
        return self.operators[self.operator_list.value]

    def refresh(self) -> dict[str, float]:
        """Compute everything anew, the operator's result too.

        Returns
        -------
        dict
            The numbers, see `compare`.

        Raises
        ------
        Exception
            Whatever goes wrong, where a moved slider writes it into `text`.
        """
        self._stop_waiting()
        return self._draw(with_operator=True, again=True)

    def _callback(self, action: Callable[[], object]) -> Callable:
        """The action with its errors written into the board: from a callback they would vanish into the log."""

        def callback(*_) -> None:
            try:
                action()
                self.text.value = self._line
            except Exception as error:
                message = html.escape(f"{type(error).__name__}: {error}")
                self.text.value = f"<b style='color:#b00'>{message}</b>"

        return callback

    def _change_operator(self) -> None:
        self._make_parts()
        self._change()

    def _change(self) -> None:
        self.text.value = "computing ..."  # may take seconds
        self._show()

    def _show(self) -> None:
        self._stop_waiting()
        try:
            self._draw()
        finally:  # a new operator's sliders are shown even where its defaults fail
            self._arrange()

    def _move(self) -> None:
        """A quick picture now, and a faithful one when the slider rests; where no event loop runs, only the latter."""
        self._stop_waiting()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._draw()
            return
        self._draw(quick=True)
        self._timer = loop.call_later(REST_SECONDS, self._callback(self._draw))

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_upload(self) -> None:
        files = self.upload.value
        if not files:
            return
        self.upload.value = ()  # the same file may come again
        name = str(files[0]["name"])
        self.explorer.add(name, read_upload(name, bytes(files[0]["content"])))
        self._sent = {}
        self.image_list.unobserve(self._on_image, names="value")  # new options choose the first one for a moment
        self.image_list.options = list(self.explorer.images)
        self.image_list.value = name
        self.image_list.observe(self._on_image, names="value")
        self._change()

    def _divide(self) -> None:
        if self._left is not None:
            self._left.layout.width = f"{self.position.value}%"

    def _offer(self) -> None:
        name, operator = self.image_list.value, self.operator
        pictures, _ = self.explorer(operator, name, self._value(), with_operator=self.with_operator.value)
        values = [f"{p.name}_{s.value:.4g}" for p, s in zip(operator.parameters, self.sliders, strict=True)]
        file = re.sub(r"[^\w.-]+", "_", "_".join([re.sub(r"\.\w+$", "", name), operator.name, *values])) + ".png"
        content = encode(to_numpy(pictures[self._answer]))
        address = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        self.link.value = f"<a download='{file}' href='{address}'><u>{file}</u></a> ({len(content) / 1000:.0f} kB)"

    def _value(self) -> list[list[float]] | None:
        # browsers send a slider's value back a little changed, and a logarithmic one's end may pass the range by it
        pairs = zip(self.sliders, self.operator.parameters, strict=True)
        values = [min(max(float(f"{slider.value:.6g}"), parameter.low), parameter.high) for slider, parameter in pairs]
        return [values] if values else None

    def _make_parts(self) -> None:
        """Sliders and pictures of the chosen operator."""
        self.sliders = [parameter_slider(parameter) for parameter in self.operator.parameters]
        for slider in self.sliders:
            slider.observe(self._callback(self._move), names="value")
        names = ["input", self.operator.title] if self.operator.kind == "filter" else ["clean", "degraded"]
        if self.explorer.network is not None:
            names.insert(1 if self.operator.kind == "filter" else 2, "network")
        self.pictures = {name: ipywidgets.Image(format="png") for name in names}
        self._captions = {name: ipywidgets.HTML(f"<b>{name}</b>") for name in names}
        self._sent = {}
        self._answer = "network" if "network" in names else names[-1]
        self._parts |= with_parts(self.pictures.values())  # their first layouts are replaced before they are shown

    def _arrange(self) -> None:
        """Lay the parts out, with the frames as large as the image asks for."""
        choices = [one for one in (self.operator_list, self.image_list) if len(one.options) > 1]
        optional = self.explorer.network is not None and self.operator.kind == "filter"
        hidden = {self.operator.title} if optional and not self.with_operator.value else set()
        names = [name for name in self.pictures if name not in hidden]
        height, width = self.explorer.image(self.image_list.value, self.explorer.side(self.operator)).shape[2:]
        width = round(width * max(1, SMALLEST_FRAME / max(height, width)))
        if self.view.value == SWIPE:
            before = "degraded" if "degraded" in names and "network" in names else names[0]
            both, self._left = swipe(before, self._answer, self.pictures, self.position, width)
            self._divide()
            frames = [both, *(self._frame(name, width) for name in names if name not in (before, self._answer))]
        else:
            self._left = None
            frames = [self._frame(name, width) for name in names]
        for picture in self.pictures.values():
            (picture.add_class if self.zoom.value > 1 else picture.remove_class)("dpo-crisp")
        tools = [self.view, self.zoom, *([self.with_operator] if optional else []), self.save]
        place = [ipywidgets.HBox([self.across, self.down])] if self.zoom.value > 1 else []
        self.children = [
            ipywidgets.HBox([*choices, self.upload], layout=row()),
            *self.sliders,
            ipywidgets.HBox(tools, layout=row()),
            *place,
            ipywidgets.HBox([self.text, self.link], layout=row()),
            ipywidgets.HBox(frames, layout=ipywidgets.Layout(grid_gap="8px", align_items="flex-start")),
            ipywidgets.HTML(STYLE, layout=ipywidgets.Layout(display="none")),
        ]
        own = [one for one in vars(self).values() if isinstance(one, ipywidgets.Widget)]
        former, kept = self._parts, [*own, *self.sliders, *self.pictures.values(), *self._captions.values()]
        self._parts = with_parts([self, *kept])
        for one in former - self._parts:  # else the page and the kernel keep them for ever
            one.close()

    def _frame(self, name: str, width: int) -> ipywidgets.VBox:
        return frame(self._captions[name], self.pictures[name], width)

    def _draw(self, *, quick: bool = False, with_operator: bool = False, again: bool = False) -> dict[str, float]:
        """Compute, and send the pictures that have changed."""
        start = time.perf_counter()
        name, operator = self.image_list.value, self.operator
        with_operator = with_operator or self.with_operator.value
        pictures, numbers = self.explorer(
            operator, name, self._value(), quick=quick, with_operator=with_operator, again=again
        )
        first, whole = next(iter(pictures)), self.explorer.image(name, self.explorer.side(operator)).shape
        place = {"zoom": self.zoom.value, "across": self.across.value / 100, "down": self.down.value / 100}
        for title, picture in self.pictures.items():
            result = pictures.get(title)
            self._captions[title].value = f"<b>{title}</b>" if result is not None else f"<b>{title}</b> ..."
            if result is None or (title == first and result.shape != whole):
                continue
            # the input does not follow the parameters: it is sent once, without loss
            source, lossless = (name, True) if title == first else (result, not quick)
            sent, where, was_lossless = self._sent.get(title, (None, None, False))
            if again or sent is not source or where != place or (lossless and not was_lossless):
                part = to_numpy(result)[window((result.shape[2], result.shape[3]), **place)]
                with picture.hold_sync():
                    picture.format = "png" if lossless else "jpeg"
                    picture.value = encode(part, lossless=lossless)
                self._sent[title] = source, place, lossless
        self.link.value = ""
        if numbers is not self._numbers:  # something was computed
            self._numbers, self._took_ms = numbers, 1000 * (time.perf_counter() - start)
        self._line = describe(numbers, operator, shape=pictures[self._answer].shape, took_ms=self._took_ms)
        if self.explorer.is_live and operator.kind == "filter":
            self._line += f", features once {self.explorer.features_time_ms:.0f} ms"
        if with_operator and "operator_time_ms" not in numbers:
            self._line += f", {html.escape(operator.title)} when the slider rests"
        self.text.value = self._line
        return numbers
