"""What was this picture made with? Operator and value behind an edited photograph, by gradient through networks."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..images import AnyImage, as_batch
from ..models.base_network import INPUT_RANGE, MINIMUM_SIZE
from ..models.parameterized import ParameterizedNetwork
from ..models.pretrained import load_pretrained
from ..operators.own import operators_of
from ..progress import progress_bar

NETWORKS = ("l0", "wls", "rtv", "rgf", "wmf", "llf")
RIM = 8  # pixels of the window that are not compared: what lies beyond it is unknown
INSIDE = np.s_[..., RIM:-RIM, RIM:-RIM]
STRIDE = 16  # between the places that the window is tried at
PER_LOG = -10 / math.log(10)  # dB per logarithm of the squared error
LEAST = 1e-12  # squared error that counts as none
STARTS = 5  # per parameter, evenly over its range in the scale that it is sampled in
SEARCH = {"maxiter": 8, "maxfun": 16, "ftol": 1e-4}  # L-BFGS-B
CANDIDATES = 3  # are refined; the others stay at their best start
NEAR = 0.04  # of a range: the first step of an operator's own search


@dataclass(frozen=True)
class Recovered:
    """An operator that may have made a picture, and its parameters' values.

    Parameters
    ----------
    operator, value
    psnr_db : float
        How close the operator itself comes to the edited picture; its network, where the operator was not run.
    network_value, network_psnr_db
        What the gradient through the network has found, and how close the network comes there.
    """

    operator: str
    value: tuple[float, ...]
    psnr_db: float
    network_value: tuple[float, ...]
    network_psnr_db: float


def recover(
    image: AnyImage,
    edited: AnyImage,
    networks: Sequence[ParameterizedNetwork] | None = None,
    *,
    side: int = 160,
    tries: int = 8,
    progress: bool = False,
) -> list[Recovered]:
    """Find the operator, and its value gamma, that turned a photograph into its edited version.

    Minimises log |f(image; gamma) - edited|^2; the gradient goes through the network f and its generated weights.

    Parameters
    ----------
    image, edited : ndarray (H, W, 3) or tensor (1, 3, H, W), floating in [0, 1]; arrays may be uint8
        Of one size, pixel on pixel.
    networks : sequence of networks, optional
        Whose operators come into question (default: the shipped ones of `NETWORKS`); others are not recognised.
        Of several for one operator the first is taken.
    side : int
        Compare a window of so many pixels a side, where the two pictures differ most.
    tries : int
        How often each of the best `CANDIDATES` operators is then run itself, near the value found (Nelder-Mead):
        networks differ in how well they imitate. 0 leaves that out.
    progress : bool

    Returns
    -------
    list of Recovered
        One per operator: the refined ones, the best first, then the others.

    Raises
    ------
    TypeError, ValueError
        Pictures that are none, or of two sizes; a filter of your own that is not found.
    """
    from scipy.optimize import minimize

    shown, target = _window(image, edited, side)
    networks = [load_pretrained(name) for name in NETWORKS] if networks is None else networks
    owners = {name: network for network in reversed(networks) for name in network.operators}

    def values(name: str, u: Any) -> list[torch.Tensor]:  # not rounded, or there would be no slope
        smooth = [replace(p, sampling=p.sampling.replace("integer", "uniform")) for p in owners[name].operators[name]]
        return [p.at(torch.as_tensor(part)) for p, part in zip(smooth, u, strict=True)]

    def error(u: Any, name: str, function: Callable) -> torch.Tensor:
        answer = function(shown, torch.stack(values(name, u)) if len(u) else None, check_range=False)
        return (answer - target)[INSIDE].square().mean().clamp(min=LEAST).log()

    def with_slope(u: np.ndarray, *given) -> tuple[float, np.ndarray]:
        parts = torch.tensor(u, requires_grad=True)
        found = error(parts, *given)
        return float(found.detach()), torch.autograd.grad(found, parts)[0].numpy()

    through = {name: functools.partial(network, operator=name) for name, network in owners.items()}
    first = {}
    for name, network in progress_bar(through.items(), desc="recover", unit="operator", progress=progress):
        grid = itertools.product(np.linspace(0, 1, STARTS).tolist(), repeat=len(owners[name].operators[name]))
        with torch.no_grad():
            first[name] = min((float(error(u, name, network)), u) for u in grid)
    rows: list[Recovered] = []
    nearest = sorted(first, key=first.__getitem__)
    for name in progress_bar(nearest, desc="refine", unit="operator", progress=progress):
        (least, u), refined, bounds = first[name], len(rows) < CANDIDATES, [(0, 1)] * len(first[name][1])
        if refined and u:
            best = minimize(with_slope, u, (name, through[name]), jac=True, bounds=bounds, options=SEARCH)
            least, u = min((least, u), (float(best.fun), best.x.tolist()), key=lambda one: one[0])
        row = Recovered(name, found := tuple(map(float, values(name, u))), PER_LOG * least, found, PER_LOG * least)
        if refined and tries and (operator := operators_of(owners[name])[name]).kind == "filter":
            least = float(error(u, name, operator))
            if u:
                ways = [[v + NEAR * (k == i) * (1 if v < 0.5 else -1) for k, v in enumerate(u)] for i in range(len(u))]
                options = {"maxfev": tries, "initial_simplex": [u, *ways]}
                own = minimize(error, u, (name, operator), "Nelder-Mead", bounds=bounds, options=options)
                least, u = float(own.fun), own.x
            row = replace(row, value=tuple(map(float, values(name, u))), psnr_db=PER_LOG * least)
        rows.append(row)
    return sorted(rows[:CANDIDATES], key=lambda one: -one.psnr_db) + rows[CANDIDATES:]


def _window(image: AnyImage, edited: AnyImage, side: int) -> list[torch.Tensor]:
    """The part of both, `side` pixels a side at most, in which they differ most, of those every `STRIDE` pixels."""
    (low, high), size = INPUT_RANGE, MINIMUM_SIZE + 2 * RIM
    a, b = (as_batch(given, minimum_size=size, low=low, high=high)[0].float() for given in (image, edited))
    if a.shape != b.shape or len(a) != 1:
        raise ValueError(f"expected two pictures of one size, got {tuple(a.shape)} and {tuple(b.shape)}")
    height, width = (min(side, size) for size in a.shape[2:])
    means = torch.nn.functional.avg_pool2d((b - a).square().mean(1, keepdim=True), (height, width), stride=STRIDE)
    top, left = (STRIDE * place for place in divmod(int(means.argmax()), means.shape[3]))
    return [one[..., top : top + height, left : left + width] for one in (a, b)]
