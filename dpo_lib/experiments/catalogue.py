"""Every network of the paper's tables as a plain list of runs.

An id such as ``table1/l0/0.02`` names one network; the beginning of ids (``table1``, ``table1/l0``) or a pattern
(``"*/wls/*"``) names all that fit.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple

from ..models.network_config import NetworkConfig
from ..operators import OPERATORS
from ..operators.operator import Operator
from ..training.config import SCALES, TrainConfig
from . import paper
from .paper import VALUES

FILTERS = tuple(name for name in VALUES if OPERATORS[name].kind == "filter")
RESTORATION = tuple(name for name in VALUES if OPERATORS[name].kind == "restoration")
RTV_PARAMETERS = ("lambda", "sigma", "sharpness", "iterations")  # Table 4, in this order

# test images, by name, see `dpo_lib.data.test_sets`
SET_OF = {"super_resolution": "bsd100", "denoise": "bsd68", "deblock": "live1", "derain": "rain"}
PHOTOGRAPHS = "photographs"

NETWORK_FIELDS = {form.name for form in fields(NetworkConfig)}
CHEAP = {"generated": "norm(last)", "depthwise": True}  # section 5, with twice the channels
JOINT_STEPS = 1.3  # the authors train joint networks for 130 epochs instead of 100
KERNELS_AT = 10  # WLS's lambda at which Table 11 compares kernels
MIXTURE = (64, 8)  # every kernel a mixture of eight, mixed by a network with 64 hidden units
HIDDEN = 16  # hidden units of Table 13's second layer; the paper does not say how many

# values between the paper's, which networks that were trained on some values have not seen
UNSEEN = {
    "l0": paper.TABLE14_VALUES,
    "wls": (0.147, 0.464, 2.15, 6.81),
    "rtv": (0.00299, 0.00669, 0.015, 0.0334),
    "rgf": (2.125, 4.375, 6.625, 8.875),
    "wmf": (2, 4, 7, 9),
    "llf": (2.5, 4, 6, 7.5),
}

TABLE12_IDS = {
    "norm1": "norm(1)", "norm7": "norm(7)", "norm14": "norm(14)", "norm19": "norm(19)", "conv19": "conv(19)",
    "conv19.in": "conv(19).in", "conv19.out": "conv(19).out", "norm_all": "norm(all)", "conv_all": "conv(all)",
}  # fmt: skip

INJECTIONS = {  # ways to hand the parameter to the same base network
    "generated": {},
    "single_layer": {"generated": "norm(last)"},
    "channels": {"model": "input_channels"},
    "film": {"model": "film"},
    "adafm": {"model": "adafm"},
    "interpolation": {"model": "interpolation"},
}


class Measure(NamedTuple):
    """What a network is measured on: an operator at some values (None: its default) on a set of test images.

    `told` is the operator's name that a joint network is told, where that is not the right one.
    """

    operator: str
    values: tuple[float | None, ...]
    images: str = PHOTOGRAPHS
    told: str = ""


class Cell(NamedTuple):
    """One number of a table, and the paper's."""

    table: str
    network: str
    operator: str
    value: float | None
    told: str
    paper_psnr_db: float | None
    paper_ssim: float | None


@dataclass(frozen=True)
class Experiment:
    """One network: what it learns, how it differs from the scale's settings, what it is measured on.

    Parameters
    ----------
    id : str
    operators : tuple of str
        Several make a joint network.
    tests : tuple of Measure
    fills : tuple of (table, network) pairs
        Tables that its numbers go to, and what it is called there.
    changes : dict
        Changes to the scale's `TrainConfig`.
    parameters : tuple of str
        The operator's parameters by value, where these are not the usual ones (Table 4).
    trained_range : (low, high), optional
        Where its parameter is drawn from, if not from the operator's whole range.
    width_factor : int
        Times the scale's channels.
    steps_factor : float
        Times the scale's steps.
    seed_offset : int
        Added to the seed.
    same_as : str
        Id of the experiment whose network this is: only the tests differ.
    needs : tuple of str
        Ids of networks that have to be there first.
    measures : {"", "times", "kernels"}
        Nothing is trained; this is measured.
    """

    id: str
    operators: tuple[str, ...]
    tests: tuple[Measure, ...] = ()
    fills: tuple[tuple[str, str], ...] = ()
    changes: dict = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    trained_range: tuple[float, float] | None = None
    width_factor: int = 1
    steps_factor: float = 1.0
    seed_offset: int = 0
    same_as: str = ""
    needs: tuple[str, ...] = ()
    measures: str = ""

    @property
    def trains(self) -> bool:
        """Whether it is a network of its own."""
        return not self.measures and not self.same_as

    def config(self, scale: str = "cpu", *, steps: int | None = None, seed: int = 0) -> TrainConfig:
        """The settings at a scale; `steps` in place of the scale's own."""
        base = SCALES[scale]
        steps = round(self.steps_factor * (steps or base.steps))
        form = {name: value for name, value in self.changes.items() if name in NETWORK_FIELDS}
        training = {name: value for name, value in self.changes.items() if name not in NETWORK_FIELDS}
        config = replace(base, steps=steps, seed=seed + self.seed_offset, **training)
        return config.with_network(**{"width": self.width_factor * base.network.width, **form})

    def cells(self) -> list[Cell]:
        """The cells that it fills."""
        return [
            Cell(table, f"told {test.told or test.operator}" if table == "wrong_code" else network,
                 test.operator, value, test.told, *paper.number(table, network, test.operator, value))
            for table, network in self.fills
            for test in self.tests
            for value in test.values
        ]  # fmt: skip

    def training_operators(self, rain: Operator | None = None) -> list[Operator]:
        """What it is trained on; `rain` in place of the synthetic deraining operator."""
        found = [self.test_operator(name) for name in self.operators]
        if self.trained_range is not None:
            low, high = self.trained_range
            found = [
                replace(op, parameters=(replace(op.parameters[0], low=low, high=high, default=None, test_values=()),))
                for op in found
            ]
        return [rain if rain is not None and operator.name == "derain" else operator for operator in found]

    def test_operator(self, name: str) -> Operator:
        """An operator as the tests use it, over its whole range."""
        if name not in OPERATORS:
            raise ValueError(f"{self.id} needs the operator {name!r}, which is not among {', '.join(OPERATORS)}")
        operator = OPERATORS[name]
        return operator.with_parameters(*self.parameters) if self.parameters else operator


def _tests(operators: Iterable[str]) -> tuple[Measure, ...]:
    """At the paper's values, on the paper's kind of images."""
    return tuple(Measure(name, VALUES[name], SET_OF.get(name, PHOTOGRAPHS)) for name in operators)


def _table1_and_2() -> Iterator[Experiment]:
    """For every operator one network for all values, and one for each value."""
    for table, operators in (("table1", FILTERS), ("table2", RESTORATION[:3])):
        for name in operators:
            fills = ((table, "numerous"), ("table3", "1 operator"))
            single = ((table, "single"),)
            if name == "wls":
                fills, single = (*fills, ("table13", "numerous")), (*single, ("table13", "single"))
            yield Experiment(f"{table}/{name}/numerous", (name,), _tests([name]), fills)
            for value in VALUES[name]:
                test = Measure(name, (value,), SET_OF.get(name, PHOTOGRAPHS))
                is_end = name in FILTERS and value in (VALUES[name][0], VALUES[name][-1])
                fills = (*single, ("beyond", "at the value")) if is_end else single
                yield Experiment(f"{table}/{name}/{value:g}", (name,), (test,), fills, {"values": (float(value),)})


def _table3() -> Iterator[Experiment]:
    """One network for one, six or four, and ten operators."""
    ten = FILTERS + RESTORATION

    def joint(name, operators, network, **changes):
        fills = (("table3", network),)
        return Experiment(f"table3/{name}", operators, _tests(operators), fills, changes, steps_factor=JOINT_STEPS)

    yield Experiment("table3/derain", ("derain",), _tests(["derain"]), (("table3", "1 operator"),))
    yield joint("filters6", FILTERS, "6 or 4 operators")
    yield joint("restoration4", RESTORATION, "6 or 4 operators")
    yield joint("joint10", ten, "10 operators")
    for code in ("one_hot", "number", "embedding"):
        yield joint(f"joint10/{code}", ten, f"10 operators, {code}", operator_code=code)
    yield joint("joint10/mixture", ten, "10 operators, mixture of kernels", trunk=MIXTURE)
    yield joint("joint10/linear", ten, "10 operators, linear rescaling", rescaling="linear")
    yield joint("channels10", ten, "10 operators, input channels", model="input_channels")


def _table4() -> Iterator[Experiment]:
    """RTV with one to four parameters by value, tested at five lambdas and the others' defaults."""
    for count in range(1, len(RTV_PARAMETERS) + 1):
        parameters = RTV_PARAMETERS[:count] if count > 1 else ()
        fills = (("table4", f"{count} parameter{'s' if count > 1 else ''}"),)
        yield Experiment(f"table4/rtv/{count}", ("rtv",), _tests(["rtv"]), fills, parameters=parameters)


def _table5_and_11() -> Iterator[Experiment]:
    """Times, and a comparison of two networks' kernels.

    Networks of the same seed start from the same weights, and their kernels stay alike for that reason alone: the
    single network of Table 11 starts from others.
    """
    yield Experiment("table5/times", ("l0",), measures="times", fills=(("table5", ""),))
    single = Measure("wls", (KERNELS_AT,))
    changes = {"values": (float(KERNELS_AT),)}
    yield Experiment(f"table11/wls/{KERNELS_AT:g}", ("wls",), (single,), (), changes, seed_offset=1000)
    needs = ("table1/wls/numerous", f"table11/wls/{KERNELS_AT:g}", f"table1/wls/{KERNELS_AT:g}")
    yield Experiment("table11/kernels", ("wls",), measures="kernels", needs=needs, fills=(("table11", ""),))


def _table6_and_12() -> Iterator[Experiment]:
    """Ten operators in one network, at their default values: cheap tuning, and what is best generated."""
    ten = paper.TABLE6_OPERATORS
    tests = tuple(Measure(name, (None,)) for name in ten)
    fills = (("table6", "single layer"),)
    yield Experiment("table6/single_layer", ten, tests, fills, CHEAP, width_factor=2, steps_factor=JOINT_STEPS)
    for name, generated in TABLE12_IDS.items():
        fills, changes = (("table12", generated),), {"generated": generated}
        yield Experiment(f"table12/{name}", ten, tests, fills, changes, steps_factor=JOINT_STEPS)


def _table7() -> Iterator[Experiment]:
    """Tables 7 to 10: cheap tuning, one network for all restoration tasks."""
    yield Experiment(
        "table7/restoration_single_layer",
        RESTORATION,
        _tests(RESTORATION),
        (("table7_10", "single layer"),),
        CHEAP,
        width_factor=2,
        steps_factor=JOINT_STEPS,
    )


def _table13() -> Iterator[Experiment]:
    """Without a weight learning network, and with a deeper one."""
    for value in VALUES["wls"]:
        changes = {"model": "base_only", "values": (float(value),)}
        fills = (("table13", "base only"),)
        yield Experiment(f"table13/wls/base_only/{value:g}", ("wls",), (Measure("wls", (value,)),), fills, changes)
    for name, network, relu in (("hidden_relu", "hidden, ReLU", True), ("hidden_linear", "hidden, linear", False)):
        changes = {"hidden": HIDDEN, "relu": relu}
        yield Experiment(f"table13/wls/{name}", ("wls",), _tests(["wls"]), (("table13", network),), changes)


def _unseen(table: str, name: str, network: str, id_: str, values: Sequence[float] | None) -> Experiment:
    """A network trained on some values (None: the range), tested at others."""
    changes = {} if values is None else {"values": tuple(map(float, values))}
    return Experiment(f"{table}/{id_}", (name,), (Measure(name, UNSEEN[name]),), ((table, network),), changes)


def _table14() -> Iterator[Experiment]:
    """L0 at values that five fixed ones lie around."""
    yield _unseen("table14", "l0", "numerous", "l0/numerous", None)
    yield _unseen("table14", "l0", "five values", "l0/five_values", VALUES["l0"])
    for value in UNSEEN["l0"]:
        fills = (("table14", "at the value"), ("beyond", "at the value"))
        changes = {"values": (value,)}
        yield Experiment(f"table14/l0/{value:g}", ("l0",), (Measure("l0", (value,)),), fills, changes)


def _wrong_code() -> Iterator[Experiment]:
    """What the operator's code is worth: L0 with a network that is told WLS."""
    tests = (Measure("l0", VALUES["l0"]), Measure("l0", VALUES["l0"], told="wls"))
    fills = (("wrong_code", ""),)
    yield Experiment("wrong_code/l0+wls", ("l0", "wls"), tests, fills, steps_factor=JOINT_STEPS)


def middle_half(name: str) -> tuple[float, float]:
    """The middle half of a filter's range, in the scale in which its values are drawn.

    >>> middle_half("rgf"), [round(value, 5) for value in middle_half("l0")]
    ((3.25, 7.75), [0.00632, 0.06325])
    """
    low, high = VALUES[name][0], VALUES[name][-1]
    if OPERATORS[name].parameters[0].sampling == "log":
        return low * (high / low) ** 0.25, low * (high / low) ** 0.75
    return low + (high - low) / 4, high - (high - low) / 4


def _beyond() -> Iterator[Experiment]:
    """How far a network carries: values between the trained ones, and half the trained range beyond both its ends.

    A network trained on the middle half of a range is tested at the whole range's ends, which lie half of the trained
    range beyond the trained ends, and at the trained ends themselves.
    """
    for name in FILTERS:
        low, *_, high = VALUES[name]
        inner = tuple(float(f"{value:.4g}") for value in middle_half(name))
        ends = Measure(name, (low, *inner, high))
        yield _unseen("beyond", name, "three values", f"{name}/three_values", VALUES[name][::2])
        yield _unseen("beyond", name, "five values", f"{name}/five_values", VALUES[name])
        fills = (("beyond", "half range"),)
        yield Experiment(f"beyond/{name}/half_range", (name,), (ends,), fills, trained_range=inner)
        tests = (Measure(name, tuple(sorted({*UNSEEN[name], *ends.values}))),)
        yield Experiment(f"beyond/{name}/numerous", (name,), tests, (("beyond", "numerous"),))
        for value in () if name == "l0" else UNSEEN[name]:  # L0's are Table 14's, and the ends Table 1's
            fills, changes = (("beyond", "at the value"),), {"values": (float(value),)}
            yield Experiment(f"beyond/{name}/{value:g}", (name,), (Measure(name, (value,)),), fills, changes)


def _inject() -> Iterator[Experiment]:
    """The same base network, told its parameter in different ways."""
    values = tuple(sorted({*VALUES["l0"], *UNSEEN["l0"]}))
    for name, changes in INJECTIONS.items():
        yield Experiment(f"inject/l0/{name}", ("l0",), (Measure("l0", values),), (("inject", name),), changes)


def _without_repeats(experiments: Iterable[Experiment]) -> dict[str, Experiment]:
    """By id; whatever equals an earlier network becomes `same_as` it, so that none is trained twice."""
    first: dict[tuple, str] = {}
    found: dict[str, Experiment] = {}
    for experiment in experiments:
        if not experiment.measures:
            parts = (experiment.operators, experiment.parameters, experiment.trained_range, experiment.config())
            owner = first.setdefault(parts, experiment.id)
            if owner != experiment.id:
                experiment = replace(experiment, same_as=owner)
        found[experiment.id] = experiment
    return found


PARTS = (
    _table1_and_2, _table3, _table4, _table5_and_11, _table6_and_12, _table7, _table13, _table14, _wrong_code, _beyond,
    _inject,
)  # fmt: skip
EXPERIMENTS: dict[str, Experiment] = _without_repeats(experiment for part in PARTS for experiment in part())


def find(patterns: Sequence[str]) -> list[Experiment]:
    """The experiments that ids, beginnings of ids or patterns name, in the list's order.

    Raises
    ------
    ValueError
        One that fits nothing; names the nearest.

    Examples
    --------
    >>> [experiment.id for experiment in find(["table1/l0/0.2", "table4", "*/number"])]
    ['table1/l0/0.2', 'table3/joint10/number', 'table4/rtv/1', 'table4/rtv/2', 'table4/rtv/3', 'table4/rtv/4']
    """
    chosen = set()
    for pattern in patterns:
        begins = pattern.rstrip("/") + "/"
        fits = [id_ for id_ in EXPERIMENTS if fnmatch.fnmatchcase(id_, pattern) or id_.startswith(begins)]
        fits = [pattern] if pattern in EXPERIMENTS else fits
        if not fits:
            names = [*EXPERIMENTS, *dict.fromkeys(id_.rpartition("/")[0] for id_ in EXPERIMENTS)]
            near = difflib.get_close_matches(pattern, names, n=4, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "python -m dpo_lib experiments list names all"
            raise ValueError(f"there is no experiment {pattern!r}: {hint}")
        chosen.update(fits)
    return [experiment for id_, experiment in EXPERIMENTS.items() if id_ in chosen]
