"""Ranges, sampling, and the many ways to write a parameter value."""

import math

import numpy as np
import pytest
import torch

from dpo_lib.parameters import Parameter, as_gamma, distinct

LAMBDA = Parameter("lambda", 0.002, 0.2, sampling="log", test_values=(0.002, 0.02, 0.2))
RADIUS = Parameter("radius", 1, 10, sampling="integer", unit="px")
FACTOR = Parameter("factor", 2.0, 8.0)


def test_defaults():
    assert LAMBDA.default == pytest.approx(0.02)  # geometric middle
    assert FACTOR.default == 5.0
    assert RADIUS.default == round(5.5) and isinstance(RADIUS.default, float)
    assert Parameter("a", 0, 1, default=0.1).default == 0.1
    assert FACTOR.test_values == (2.0, 5.0, 8.0)
    assert LAMBDA.test_values == (0.002, 0.02, 0.2)
    with pytest.raises(AttributeError):
        LAMBDA.low = 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 0, "high": 1, "sampling": "normal"}, "sampling must be one of log, uniform, integer, got 'normal'"),
        ({"low": 1, "high": 1}, "p needs finite low < high, got 1 and 1"),
        ({"low": 2, "high": 1}, "p needs finite low < high"),
        ({"low": 0, "high": math.inf}, "p needs finite low < high"),
        ({"low": math.nan, "high": 1}, "p needs finite low < high"),
        ({"low": 0, "high": 1, "sampling": "log"}, "needs low > 0, got 0"),
        ({"low": 0, "high": 1, "default": 99}, r"p must lie in \[0, 1\] for its default and test values, got 99"),
        ({"low": 0, "high": 1, "default": math.nan}, "for its default and test values, got nan"),
        ({"low": 0, "high": 1, "test_values": (0.5, 2)}, "for its default and test values, got 2"),
        ({"low": 0.2, "high": 2.7, "sampling": "integer"}, "is sampled in whole numbers and needs whole ends, got 0.2"),
    ],
)
def test_a_parameter_checks_itself(arguments, message):
    with pytest.raises(ValueError, match=message):
        Parameter("p", **arguments)


def test_a_parameter_needs_a_name_and_numbers():
    for name in ("", None, 3):
        with pytest.raises(TypeError, match="a parameter's name must be a word"):
            Parameter(name, 0, 1)
    for wrong in ({"low": "0"}, {"high": None}, {"default": "0.5"}, {"default": True}, {"test_values": (1j,)}):
        with pytest.raises(TypeError, match="p needs numbers for its range, default and test values, got"):
            Parameter("p", **{"low": 0, "high": 1, **wrong})


def test_two_parameters_of_one_name_are_refused():
    assert distinct([LAMBDA, FACTOR], "it") == (LAMBDA, FACTOR)
    with pytest.raises(ValueError, match="it needs parameters of different names, got lambda, factor, lambda"):
        distinct([LAMBDA, FACTOR, LAMBDA], "it")


@pytest.mark.parametrize("parameter", [LAMBDA, RADIUS, FACTOR], ids=lambda p: p.sampling)
def test_samples_lie_in_the_range_and_repeat(parameter):
    values = parameter.sample(2000, torch.Generator().manual_seed(3))
    assert values.shape == (2000,) and values.dtype == torch.float64
    assert parameter.low <= values.min() and values.max() <= parameter.high
    torch.testing.assert_close(values, parameter.sample(2000, torch.Generator().manual_seed(3)), rtol=0, atol=0)
    parameter.check(values, "test")


def test_each_sampling_has_its_distribution():
    n, generator = 20000, torch.Generator().manual_seed(0)
    in_log = torch.log(LAMBDA.sample(n, generator) / 0.002) / math.log(100)
    in_uniform = (FACTOR.sample(n, generator) - 2) / 6
    for u in (in_log, in_uniform):
        assert u.mean() == pytest.approx(0.5, abs=0.01) and u.std() == pytest.approx(math.sqrt(1 / 12), abs=0.01)
    values, counts = RADIUS.sample(n, generator).unique(return_counts=True)
    assert values.tolist() == list(range(1, 11))
    assert counts.min() > 0.85 * n / 10


def test_check_names_parameter_range_and_owner():
    for wrong in (0.5, 0.0, math.nan):
        with pytest.raises(ValueError, match=rf"lambda must lie in \[0\.002, 0\.2\] for l0, got {wrong:g}"):
            LAMBDA.check(torch.tensor([0.02, wrong]), "l0")
    LAMBDA.check(torch.tensor([0.002, 0.2], dtype=torch.float32), "l0")  # float32 neighbours of the ends


def gamma(value, *, parameters=(LAMBDA,), batch=2, check_range=True):
    result = as_gamma(value, parameters=parameters, batch=batch, owner="it", check_range=check_range)
    assert result.dtype == torch.float64 and result.shape == (batch, len(parameters))
    return result.tolist()


def test_one_parameter_in_every_spelling():
    assert gamma(None) == [[pytest.approx(0.02)]] * 2
    for same in (0.1, [0.1], torch.tensor(0.1, dtype=torch.float64), [[0.1]]):
        assert gamma(same) == [[0.1], [0.1]]
    for different in ([0.1, 0.2], (0.1, 0.2), [[0.1], [0.2]], torch.tensor([0.1, 0.2], dtype=torch.float64)):
        assert gamma(different) == [[0.1], [0.2]]


def test_two_parameters_in_every_spelling():
    two = (LAMBDA, FACTOR)
    assert gamma(0.1, parameters=two) == [[0.1, 5.0]] * 2  # the first; the other at its default
    assert gamma([0.1, 3.0], parameters=two) == [[0.1, 3.0]] * 2
    assert gamma([[0.1, 3.0], [0.2, 4.0]], parameters=two) == [[0.1, 3.0], [0.2, 4.0]]
    assert gamma([[0.1, 3.0]], parameters=two) == [[0.1, 3.0]] * 2


def test_no_parameter():
    assert gamma(None, parameters=()) == [[], []]
    with pytest.raises(ValueError, match=r"it has no parameter, got the value 0\.1: call it with the image alone"):
        gamma(0.1, parameters=())


@pytest.mark.parametrize("value", [[0.1, 0.1, 0.1], [[0.1, 0.2]], [[[0.1]]], []])
def test_a_wrong_shape_is_refused(value):
    with pytest.raises(ValueError, match=r"it takes lambda: a number, or one row of 1 per image for 2 image\(s\), got"):
        gamma(value)


def test_range_and_finiteness():
    with pytest.raises(ValueError, match=r"lambda must lie in \[0\.002, 0\.2\] for it, got 0\.5"):
        gamma([0.1, 0.5])
    with pytest.raises(ValueError, match=r"factor must lie in \[2, 8\] for it, got 9"):
        gamma([0.1, 9.0], parameters=(LAMBDA, FACTOR))
    assert gamma(0.5, check_range=False) == [[0.5], [0.5]]
    for check_range in (True, False):
        with pytest.raises(ValueError, match="parameters of it must be finite, got nan"):
            gamma(math.nan, check_range=check_range)


def test_the_callers_tensor_is_not_changed_or_shared():
    given = torch.tensor([0.1, 0.2], dtype=torch.float64, requires_grad=True)
    result = as_gamma(given, parameters=(LAMBDA,), batch=2, owner="it")
    assert not result.requires_grad
    result.zero_()
    assert given.tolist() == [0.1, 0.2]


@pytest.mark.parametrize(
    ("sampling", "expected"), [("log", [1, 10, 100]), ("uniform", [1, 50.5, 100]), ("integer", [1, 51, 100])]
)
def test_levels_are_equal_steps_with_both_ends(sampling, expected):
    parameter = Parameter("p", 1, 100, sampling=sampling)
    values = parameter.sample(300, torch.Generator().manual_seed(0), levels=3)
    found, counts = values.unique(return_counts=True)
    assert found.tolist() == pytest.approx(expected) and counts.min() > 70


@pytest.mark.parametrize(
    "wrong",
    ["0.02", b"1", True, 0.02 + 1j, 10**30, [0.1, [0.2]], [0.1, None], torch.tensor(0.02, device="meta"), object(),
     torch.tensor([0.02]).to_sparse(), torch.tensor(0.02 + 0j), [torch.tensor(0.1), torch.tensor([0.1])]],
)  # fmt: skip
def test_what_is_no_number_is_said(wrong):
    with pytest.raises(TypeError, match="lambda of l0 must be a number, or numbers in rows of one length, got"):
        as_gamma(wrong, parameters=[LAMBDA], batch=1, owner="l0")


def test_numbers_in_every_form():
    expected = torch.tensor([[0.02], [0.1]], dtype=torch.float64)
    array = np.array([0.1, 9, 0.02])[::-2]  # a negative stride
    for given in (array, list(array), torch.from_numpy(array.copy()), [torch.tensor(v) for v in array.tolist()]):
        got = as_gamma(given, parameters=[LAMBDA], batch=2, owner="l0")
        assert torch.allclose(got, expected, atol=1e-8) and got.dtype == torch.float64
    assert as_gamma(np.float16(0.1), parameters=[LAMBDA], batch=1, owner="l0").shape == (1, 1)
