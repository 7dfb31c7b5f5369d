"""What a board of sliders shows: pictures, numbers and times, as quickly as the network allows; no widgets here."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..images import load_image, shrink_image, to_tensor, to_uint8
from ..metrics import psnr
from ..models.base_network import MINIMUM_SIZE
from ..operators import Operator
from ..operators.own import operators_of
from ..parameters import Value

LIVE_SIDE, SIDE = 512, 320  # longest side of the pictures, with features that are kept and without
QUICK_MS, QUICK_SIDE = 100, 128  # what takes longer is halved while a slider moves, down to so many pixels
KEPT = 4  # how much larger than shown an added image is kept, so that reducing it again does not blur
LATE_LAYERS = 3  # features are kept when at most so many layers depend on the parameters


def encode(image: np.ndarray, *, lossless: bool = True) -> bytes:
    """An image (H, W, 3) in [0, 1] as PNG, or as JPEG (quicker to make and to send while a slider moves)."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "PNG", "compress_level": 1} if lossless else {"format": "JPEG", "quality": 90}
    Image.fromarray(to_uint8(image)).save(buffer, **options)
    return buffer.getvalue()


def read_upload(name: str, content: bytes) -> np.ndarray:
    """The bytes of an image file as an image (H, W, 3), uint8.

    Raises
    ------
    ValueError
        Not a picture, one too small for the networks, or one too large to be unpacked.
    """
    file = io.BytesIO(content)
    file.name = name  # for the reader's messages
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # white where it was transparent is seen at once
            image = load_image(file, dtype="uint8")
    except OSError as error:
        raise ValueError(f"{error}: choose a JPEG or PNG file") from error
    height, width = image.shape[:2]
    if min(height, width) < MINIMUM_SIZE:
        raise ValueError(f"{name} must have at least {MINIMUM_SIZE} pixels a side, got {width} x {height}")
    return image


def window(shape: tuple[int, int], *, zoom: int = 1, across: float = 0.5, down: float = 0.5) -> tuple[slice, slice]:
    """The part of a picture of shape (H, W) that is seen `zoom` times enlarged; 0 is left or top, 1 right or bottom.

    >>> window((60, 80), zoom=4, across=1.0, down=0.0)
    (slice(0, 15, None), slice(60, 80, None))
    """
    sizes = [max(1, round(side / zoom)) for side in shape]
    starts = [round(place * (side - size)) for side, size, place in zip(shape, sizes, (down, across), strict=True)]
    top, left = (slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    return top, left


def keeps_features(network: Any) -> bool:
    """Whether a new parameter value changes only the last layers, so that `SingleLayerTuner` makes it cheap."""
    if not hasattr(network, "tuner"):
        return False
    try:
        tuner = network.tuner(torch.zeros(1, 3, MINIMUM_SIZE, MINIMUM_SIZE, device=_device(network)))
    except ValueError:  # nothing to share
        return False
    return len(network.base_network.convolutions) - tuner.layer <= LATE_LAYERS


def compare(
    network: Callable | None,
    operator: Operator,
    image: torch.Tensor,
    value: Value = None,
    *,
    seed: int = 0,
    tuner: Callable | None = None,
    with_operator: bool = True,
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
    tuner : callable, optional
        Answers in the network's place, ``network.tuner(image)``; for filters, whose input does not depend on the value.
    with_operator : bool
        False leaves out a filter's own result, which may take long, where there is a network's.

    Returns
    -------
    pictures : dict
        For a filter ``input``, ``network``, and the operator's title; for a restoration operator ``clean``,
        ``degraded`` and ``network``. Tensors (1, 3, H, W).
    numbers : dict
        ``operator_time_ms``, and with a network ``time_ms`` and ``psnr_db`` (network against the operator's result, or
        against the clean image).
    """
    shown, target, numbers = image, None, {}
    if with_operator or network is None or operator.kind != "filter":
        start = time.perf_counter()
        shown, target = operator.make_pair(image, value, seed)
        numbers["operator_time_ms"] = 1000 * (time.perf_counter() - start)
    answer = {}
    if network is not None:
        which = {"operator": operator.name} if len(getattr(network, "operators", ())) > 1 else {}
        start = time.perf_counter()
        with torch.no_grad():
            result = network(shown, value, **which) if tuner is None else tuner(value, **which)
        answer["network"] = result
        numbers["time_ms"] = 1000 * (time.perf_counter() - start)
        if target is not None:
            numbers["psnr_db"] = float(psnr(result[0], target[0]))
    if operator.kind != "filter":
        return {"clean": target, "degraded": shown, **answer}, numbers
    return {"input": shown, **answer, **({} if target is None else {operator.title: target})}, numbers


def network_and_operators(first: Any, operator: Any) -> tuple[Callable | None, dict[str, Operator]]:
    """Which of the two `explore` was given, and the operators to choose from, by name."""
    if isinstance(first, (Operator, Mapping)):
        if operator is not None:
            raise TypeError("give explore a network and its operator, or an operator alone, got two operators")
        network, operator = None, first
    else:
        network = first
        if operator is None:
            operator = operators_of(network)
    operators = {operator.name: operator} if isinstance(operator, Operator) else dict(operator)
    if not operators:
        raise ValueError("explore needs an operator: give operator=OPERATORS[...]")
    return network, operators


def describe(numbers: Mapping[str, float], operator: Operator, *, shape: tuple[int, ...], took_ms: float) -> str:
    """The line of numbers below the sliders, as HTML."""
    is_filter = operator.kind == "filter"
    parts = []
    if "psnr_db" in numbers:
        against = "operator" if is_filter else "clean picture"
        parts.append(f"network against {against} <b>{numbers['psnr_db']:.2f} dB</b>")
    if "time_ms" in numbers:
        parts.append(f"network {numbers['time_ms']:.0f} ms")
    if "operator_time_ms" in numbers:
        parts.append(f"{'operator' if is_filter else 'degradation'} {numbers['operator_time_ms']:.0f} ms")
    return ", ".join([*parts, f"last update {took_ms:.0f} ms, {shape[-1]} x {shape[-2]} pixels"])


class Explorer:
    """`compare` for one image and value after the other; remembers what the next call can use.

    Parameters
    ----------
    network : callable or None
    images : mapping of str to ndarray (H, W, 3)
    longest_side : int, optional
        Images are reduced to so many pixels. Default 512 for a filter and a network that keeps its features, else 320.
    seed : int
        Of a degradation's noise.

    Attributes
    ----------
    features_time_ms : float
        What keeping the image's features took, once.
    """

    def __init__(
        self,
        network: Callable | None,
        images: Mapping[str, np.ndarray],
        *,
        longest_side: int | None = None,
        seed: int = 0,
    ):
        self.network, self.images, self.longest_side, self.seed = network, dict(images), longest_side, seed
        self.is_live = keeps_features(network)
        self.features_time_ms = 0.0
        self._reduced: dict[tuple[str, int], torch.Tensor] = {}
        self._tuner: tuple = (None, None)
        self._last: tuple = (None, {}, {})
        self._cost_ms: dict[str, float] = {}

    def add(self, name: str, image: np.ndarray) -> None:
        """Another image, uint8; one of the same name is replaced.

        A large one is kept reduced, at `KEPT` times the size that is shown or a little more.
        """
        self.images[name] = self._shrink(image)
        self._reduced = {key: reduced for key, reduced in self._reduced.items() if key[0] != name}
        self._tuner, self._last = (None, None), (None, {}, {})

    def _shrink(self, image: np.ndarray) -> np.ndarray:
        longest, shortest = max(image.shape[:2]), min(image.shape[:2])
        factor = min(longest // (KEPT * (self.longest_side or LIVE_SIDE)), shortest // MINIMUM_SIZE)
        return image if factor < 2 else np.asarray(Image.fromarray(image).reduce(factor))

    def side(self, operator: Operator, *, quick: bool = False) -> int:
        """Longest side of the pictures; for a `quick` update, what the last update allows in `QUICK_MS`."""
        live = self.is_live and operator.kind == "filter"
        side = self.longest_side or (LIVE_SIDE if live else SIDE)
        cost = self._cost_ms.get(operator.name, 0)
        while quick and not live and cost > QUICK_MS and side >= 2 * QUICK_SIDE:
            side, cost = side // 2, cost / 4
        return side

    def image(self, name: str, side: int) -> torch.Tensor:
        """An image reduced to a longest side (but not below what networks need): tensor (1, 3, H, W), float32."""
        if (name, side) not in self._reduced:
            batch = to_tensor(self.images[name]).float()
            longest, shortest = max(batch.shape[2:]), min(batch.shape[2:])
            reduced = shrink_image(batch, min(1.0, max(side / longest, MINIMUM_SIZE / shortest)))
            self._reduced[name, side] = reduced.to(_device(self.network))
        return self._reduced[name, side]

    def __call__(
        self,
        operator: Operator,
        name: str,
        value: Value = None,
        *,
        quick: bool = False,
        with_operator: bool = True,
        again: bool = False,
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Pictures and numbers, see `compare`.

        Parameters
        ----------
        operator : Operator
        name : str
            Of the image.
        value : sequence, optional
        quick : bool
            A smaller picture rather than a late one, and of a filter only the network's answer.
        with_operator : bool
            A filter's own result, too.
        again : bool
            Compute even what is known from the last call.
        """
        key, (last, pictures, numbers) = (operator, name, value), self._last
        with_operator = with_operator and not quick
        if not again and key == last and ("operator_time_ms" in numbers or not with_operator):
            return pictures, numbers
        if again:
            self._tuner = None, None  # the network's weights may have changed
        side = self.side(operator, quick=quick)
        image = self.image(name, side)
        tuner = self._tuner_of(name, side) if self.is_live and operator.kind == "filter" else None
        pictures, numbers = compare(
            self.network, operator, image, value, seed=self.seed, tuner=tuner, with_operator=with_operator
        )
        if side == self.side(operator):
            self._last = key, pictures, numbers
            moving = self.network is None or operator.kind != "filter"
            self._cost_ms[operator.name] = numbers.get("time_ms", 0) + moving * numbers.get("operator_time_ms", 0)
        return pictures, numbers

    def _tuner_of(self, name: str, side: int) -> Callable:
        owner, tuner = self._tuner
        if owner != (name, side):
            self._tuner = None, None  # frees its memory first
            start = time.perf_counter()
            tuner = self.network.tuner(self.image(name, side))  # type: ignore[union-attr]  # it has one
            self.features_time_ms = 1000 * (time.perf_counter() - start)
            self._tuner = (name, side), tuner
        return tuner


def _device(network) -> torch.device:
    parameters = network.parameters() if isinstance(network, torch.nn.Module) else ()
    return next((p.device for p in parameters), torch.device("cpu"))
