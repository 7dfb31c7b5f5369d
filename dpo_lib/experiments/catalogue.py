"""Every network of the paper's tables, and what else they measure, as a plain list.

An id such as ``table1/l0/0.02`` names one network; the beginning of ids (``table1``, ``table1/l0``) or a pattern
(``"*/wls/*"``) names all that fit.
"""

from __future__ import annotations

import difflib
import fnmatch
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ..operators import OPERATORS
from ..operators.operator import Operator
from ..training.config import SCALES, Phase, TrainConfig
from . import paper
from .paper import TABLE6_OPERATORS, VALUES
from .properties import KERNELS_AT, kernels, times

FILTERS = tuple(name for name in VALUES if OPERATORS[name].kind == "filter")
RESTORATION = tuple(name for name in VALUES if OPERATORS[name].kind == "restoration")
RTV_PARAMETERS = ("lambda", "sigma", "sharpness", "iterations")  # Table 4, in this order

# one budget for all networks of the tables, at least ten minutes of a thread each; what is shipped was trained longer
BUDGET = {"laptop": {"steps": 2200, "phases": (Phase(1.0, 1.0, 224, 4),), "entries_per_image": 1}}
JOINT_STEPS = 1.3  # the authors train joint networks for 130 epochs instead of 100
MIXTURE = (64, 8)  # every kernel a mixture of eight, mixed by a network with 64 hidden units
HIDDEN = 16  # hidden units of Table 13's second layer; the paper does not say how many
# section 5: depth-wise with twice the channels; the pyramid has a wide last layer but one instead
CHEAP = {"generated": "norm(last)", "depthwise": True, "tail": 64}
DILATED = {"base": "dilated", "normalisation": ""}  # Table 12 names layers of the paper's base network

# values between the paper's, which networks that were trained on some values have not seen
UNSEEN = {
    "l0": paper.TABLE14_VALUES,
    "wls": (0.147, 0.464, 2.15, 6.81),
    "rtv": (0.00299, 0.00669, 0.015, 0.0334),
    "rgf": (2.125, 4.375, 6.625, 8.875),
    "wmf": (2, 4, 7, 9),
    "llf": (2.5, 4, 6, 7.5),
}

INJECTIONS = {  # ways to hand the parameter to the same base network
    "generated": {},
    "single_layer": {"generated": "norm(last)"},
    "channels": {"model": "input_channels"},
    "film": {"model": "film"},
    "adafm": {"model": "adafm"},
    "interpolation": {"model": "interpolation"},
}


class Test(NamedTuple):
    """What a network is measured on: an operator at some values (None: its default), on its usual test images."""

    operator: str
    values: tuple[float | None, ...]
    told: str = ""  # the operator's name that a joint network is told, where that is not the right one


@dataclass(frozen=True)
class Experiment:
    """One network: what it learns, how it differs from the scale's settings, what it is measured on."""

    id: str
    operators: tuple[str, ...]  # several make a joint network
    tests: tuple[Test, ...]
    fills: tuple[tuple[str, str], ...] = ()  # tables that its numbers go to, and what it is called there
    network: dict = field(default_factory=dict)  # changes to the scale's `NetworkConfig`
    values: tuple[float, ...] | None = None  # trained on these only
    parameters: tuple[str, ...] = ()  # the operator's parameters by value, where these are not the usual ones (Table 4)
    trained_range: tuple[float, float] | None = None  # where its parameter is drawn from, if not the whole range
    seed_offset: int = 0
    same_as: str = ""  # id of the experiment whose network this is: only the tests differ

    @property
    def trains(self) -> bool:
        """Whether it is a network of its own."""
        return not self.same_as

    @property
    def networks(self) -> tuple[str, ...]:
        """Id of the experiment whose network is measured."""
        return (self.same_as or self.id,)

    def config(
        self, scale: str = "laptop", *, seed: int = 0, steps: int | None = None, **overrides: object
    ) -> TrainConfig:
        """The settings at a scale; overrides, those that are not None, take the places of the scale's own."""
        base = replace(SCALES[scale], **BUDGET.get(scale, {}))
        steps = round((steps or base.steps) * (JOINT_STEPS if len(self.operators) > 1 else 1))
        given = {name: value for name, value in overrides.items() if value is not None}
        config = replace(base, steps=steps, seed=seed + self.seed_offset, values=self.values, **given)
        width = base.network.width * (2 if self.network.get("depthwise") else 1)
        return config.with_network(**{"width": width, **self.network})

    def cells(self) -> list[tuple[str, str, str, float | None, str]]:
        """The cells that it fills: table, network, operator and value, see `paper.number`; and what a test is told."""
        return [
            (table, network or f"told {test.told or test.operator}", test.operator, value, test.told)
            for table, network in self.fills
            for test in self.tests
            for value in test.values
        ]

    def operator(self, name: str) -> Operator:
        """An operator as the tests use it, over its whole range."""
        return OPERATORS[name].with_parameters(*self.parameters) if self.parameters else OPERATORS[name]

    def training_operators(self, rain: Operator | None = None) -> list[Operator]:
        """What it is trained on; `rain` in place of the synthetic deraining operator."""
        found = [rain if rain and name == "derain" else self.operator(name) for name in self.operators]
        if self.trained_range is None:
            return found
        low, high = self.trained_range
        part = replace(found[0].parameters[0], low=low, high=high, default=None, test_values=())
        return [replace(found[0], parameters=(part,))]


@dataclass(frozen=True)
class Measurement:
    """What a table says of networks besides their accuracy: ``measure(networks, config, device)`` gives its rows."""

    id: str
    measure: Callable[..., list[dict]]
    networks: tuple[str, ...] = ()  # ids of the experiments whose networks these are
    trains = False
    tests = ()

    @property
    def fills(self) -> tuple[tuple[str, str], ...]:
        """As an experiment's."""
        return ((self.id.partition("/")[0], ""),)

    def config(self, scale: str = "laptop", *, seed: int = 0, **_: object) -> TrainConfig:
        """The scale's settings: no override changes what is measured."""
        return replace(SCALES[scale], seed=seed)


Entry = Experiment | Measurement


def _one(table: str, name: str, label: str, values: Sequence = (), at: Sequence = (), **more) -> Experiment:
    """A network for one operator, on its whole range or on some values, which is called `label` in a table.

    A single value ends its id, in place of the label, and is what it is tested at, in place of the paper's values; `at`
    and `more`, parts of an `Experiment`, come before these.
    """
    single = tuple(values) if len(values) == 1 else ()
    id_ = f"{table}/{name}/{single[0]:g}" if single else f"{table}/{name}/{label.replace(' ', '_')}"
    more = {"id": id_, "fills": ((table, label),), "values": tuple(map(float, values)) or None, **more}
    return Experiment(operators=(name,), tests=(Test(name, tuple(at or single or VALUES[name])),), **more)


def _joint(id_: str, operators: tuple[str, ...], label: str, *, tests: tuple[Test, ...] = (), **network) -> Experiment:
    """A network for several operators, tested at the paper's values unless told otherwise."""
    table = id_.partition("/")[0].replace("table7", "table7_10")
    tests = tests or tuple(Test(name, VALUES[name]) for name in operators)
    return Experiment(id_, operators, tests, ((table, label),), network)


def _tables_1_to_4() -> Iterator[Experiment]:
    """A network for every operator, for every value of it, for several operators, for several parameters."""
    for name in (*FILTERS, *RESTORATION[:3]):
        table, values = "table1" if name in FILTERS else "table2", VALUES[name]
        tables = (table, "table13") if name == "wls" else (table,)
        numerous = (*((each, "numerous") for each in tables), ("table3", "1 operator"))
        yield _one(table, name, "numerous", fills=numerous)
        for value in values:
            is_end = name in FILTERS and value in (values[0], values[-1])
            beyond = (("beyond", "at the value"),) if is_end else ()
            yield _one(table, name, "single", [value], fills=(*((each, "single") for each in tables), *beyond))
    yield _one("table3", "derain", "1 operator", id="table3/derain")
    yield _joint("table3/filters6", FILTERS, "6 or 4 operators")
    yield _joint("table3/restoration4", RESTORATION, "6 or 4 operators")
    ten = FILTERS + RESTORATION
    yield _joint("table3/joint10", ten, "10 operators")
    for code in ("one_hot", "number", "embedding"):
        yield _joint(f"table3/joint10/{code}", ten, f"10 operators, {code}", operator_code=code)
    yield _joint("table3/joint10/mixture", ten, "10 operators, mixture of kernels", trunk=MIXTURE)
    yield _joint("table3/joint10/linear", ten, "10 operators, linear rescaling", rescaling="linear")
    yield _joint("table3/channels10", ten, "10 operators, input channels", model="input_channels")
    for count, label in enumerate(paper.TABLE4, start=1):  # tested at five lambdas and the other parameters' defaults
        parameters = RTV_PARAMETERS[:count] if count > 1 else ()
        yield _one("table4", "rtv", label, id=f"table4/rtv/{count}", parameters=parameters)


def _tables_5_to_14() -> Iterator[Entry]:
    """Times, kernels, cheap tuning, what is best generated, other weight learning networks, values in between."""
    yield Measurement("table5/times", times)
    # networks of the same seed start from the same weights, and their kernels stay alike for that reason alone
    yield _one("table11", "wls", "single", [KERNELS_AT], fills=(), seed_offset=1000)
    ids = ("table1/wls/numerous", f"table11/wls/{KERNELS_AT:g}", f"table1/wls/{KERNELS_AT:g}")
    yield Measurement("table11/kernels", kernels, ids)
    at_defaults = tuple(Test(name, (None,)) for name in TABLE6_OPERATORS)
    yield _joint("table6/single_layer", TABLE6_OPERATORS, "single layer", tests=at_defaults, **CHEAP)
    for generated in paper.TABLE12:
        id_ = "table12/" + generated.replace("(all)", "_all").replace("(", "").replace(")", "")
        yield _joint(id_, TABLE6_OPERATORS, generated, tests=at_defaults, **DILATED, generated=generated)
    yield _joint("table7/restoration_single_layer", RESTORATION, "single layer", **CHEAP)
    for value in VALUES["wls"]:
        id_ = f"table13/wls/base_only/{value:g}"
        yield _one("table13", "wls", "base only", [value], id=id_, network={"model": "base_only"})
    for relu, name in ((True, "ReLU"), (False, "linear")):
        id_, network = f"table13/wls/hidden_{name.lower()}", {"hidden": HIDDEN, "relu": relu}
        yield _one("table13", "wls", f"hidden, {name}", id=id_, network=network)
    yield _one("table14", "l0", "numerous", at=UNSEEN["l0"])
    yield _one("table14", "l0", "five values", VALUES["l0"], at=UNSEEN["l0"])
    for value in UNSEEN["l0"]:
        fills = tuple((table, "at the value") for table in ("table14", "beyond"))
        yield _one("table14", "l0", "at the value", [value], fills=fills)


def middle_half(name: str) -> tuple[float, float]:
    """The middle half of a filter's range, in the scale in which its values are drawn.

    >>> middle_half("rgf"), middle_half("l0")
    ((3.25, 7.75), (0.006325, 0.06325))
    """
    space = np.geomspace if OPERATORS[name].parameters[0].sampling == "log" else np.linspace
    _, low, _, high, _ = space(VALUES[name][0], VALUES[name][-1], 5)
    return float(f"{low:.4g}"), float(f"{high:.4g}")


def _other_questions() -> Iterator[Experiment]:
    """The worth of the operator's code, how far a network carries, ways to hand it the parameter."""
    told = (Test("l0", VALUES["l0"]), Test("l0", VALUES["l0"], told="wls"))
    yield _joint("wrong_code/l0+wls", ("l0", "wls"), "", tests=told)
    for name in FILTERS:
        # the whole range's ends lie half of the trained range beyond the trained ends
        unseen, inner, (low, *_, high) = UNSEEN[name], middle_half(name), VALUES[name]
        yield _one("beyond", name, "three values", VALUES[name][::2], at=unseen)
        yield _one("beyond", name, "five values", VALUES[name], at=unseen)
        yield _one("beyond", name, "half range", at=(low, *inner, high), trained_range=inner)
        yield _one("beyond", name, "numerous", at=sorted({*unseen, low, *inner, high}))
        for value in () if name == "l0" else unseen:  # L0's are Table 14's, and the ends Table 1's
            yield _one("beyond", name, "at the value", [value])
    for label, network in INJECTIONS.items():
        yield _one("inject", "l0", label, at=sorted({*VALUES["l0"], *UNSEEN["l0"]}), network=network)


def _without_repeats(entries: Iterable[Entry]) -> dict[str, Entry]:
    """By id; whatever equals an earlier network becomes `same_as` it, so that none is trained twice."""
    first: dict[tuple, str] = {}
    found: dict[str, Entry] = {}
    for entry in entries:
        if isinstance(entry, Experiment):
            owner = first.setdefault((entry.operators, entry.parameters, entry.trained_range, entry.config()), entry.id)
            entry = replace(entry, same_as="" if owner == entry.id else owner)
        found[entry.id] = entry
    return found


EXPERIMENTS: dict[str, Entry] = _without_repeats(
    itertools.chain(_tables_1_to_4(), _tables_5_to_14(), _other_questions())
)


def find(patterns: Sequence[str]) -> list[Entry]:
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
        fits = fnmatch.filter(EXPERIMENTS, pattern)
        fits += [] if pattern in fits else fnmatch.filter(EXPERIMENTS, pattern.rstrip("/") + "/*")
        if not fits:
            names = [*EXPERIMENTS, *dict.fromkeys(id_.rpartition("/")[0] for id_ in EXPERIMENTS)]
            near = difflib.get_close_matches(pattern, names, n=4, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "python -m dpo_lib experiments list names all"
            raise ValueError(f"there is no experiment {pattern!r}: {hint}")
        chosen.update(fits)
    return [experiment for id_, experiment in EXPERIMENTS.items() if id_ in chosen]


def with_owners(entries: Iterable[Entry]) -> list[Entry]:
    """Before each experiment those whose networks it measures: what is trained gets a record of its own.

    >>> [entry.id for entry in with_owners(find(["table14/l0/numerous"]))]
    ['table1/l0/numerous', 'table14/l0/numerous']
    """
    return list({id_: EXPERIMENTS[id_] for entry in entries for id_ in (*entry.networks, entry.id)}.values())
