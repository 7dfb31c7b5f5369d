"""Kept targets: the same numbers, computed once."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dpo_lib import OPERATORS, Operator, evaluate
from dpo_lib.images import save_image
from dpo_lib.operators import cached
from dpo_lib.operators.cached import kept_targets, source_of

RNG = np.random.default_rng(0)
IMAGES = {"a": RNG.random((24, 31, 3)), "b": np.uint8(255 * RNG.random((20, 26, 3)))}


def identity(image, value=None, **_):
    return image


def counting(operator, calls):
    def function(image, *values, **settings):
        calls.append(tuple(float(value) for value in values))
        return operator.function(image, *values, **settings)

    return replace(operator, function=function)


def test_same_rows_and_computed_once(tmp_path):
    calls = []
    l0 = counting(OPERATORS["l0"], calls)
    plain = evaluate(identity, l0, IMAGES, values=(0.002, 0.2))
    assert len(calls) == 4
    first = evaluate(identity, l0, IMAGES, values=(0.002, 0.2), targets=tmp_path)
    assert len(calls) == 8 and first == plain
    assert evaluate(identity, l0, IMAGES, values=(0.002, 0.2), targets=tmp_path) == plain and len(calls) == 8
    evaluate(identity, l0, IMAGES, values=(0.02,), targets=tmp_path)
    assert len(calls) == 10


def test_a_damaged_file_is_computed_again(tmp_path):
    calls = []
    l0 = counting(OPERATORS["l0"], calls)
    plain = evaluate(identity, l0, IMAGES, values=(0.02,), targets=tmp_path)
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    assert evaluate(identity, l0, IMAGES, values=(0.02,), targets=tmp_path) == plain and len(calls) == 4
    assert evaluate(identity, l0, IMAGES, values=(0.02,), targets=tmp_path) == plain and len(calls) == 4


def test_settings_and_parameters_are_told_apart(tmp_path):
    image = next(iter(IMAGES.values())).astype(np.float32)
    rtv = OPERATORS["rtv"].with_parameters("lambda", "sigma")
    one, other = (kept_targets(operator, tmp_path) for operator in (OPERATORS["rtv"], rtv))
    values = (0.01, [0.01, 1.0], [0.01, 5.0])
    answers = [one(image, values[0]), other(image, values[1]), other(image, values[2])]
    for answer, operator, value in zip(answers, (OPERATORS["rtv"], rtv, rtv), values, strict=True):
        assert np.abs(answer - operator(image, value)).max() <= 0.5 / 255 + 1e-6
    assert np.abs(answers[1] - answers[2]).max() > 0.01


def test_noise_is_not_kept(tmp_path):
    assert kept_targets(OPERATORS["denoise"], tmp_path) is OPERATORS["denoise"]
    assert kept_targets(OPERATORS["l0"], None) is OPERATORS["l0"]


def test_the_key_follows_the_source_of_an_operator_and_of_what_it_imports(tmp_path, monkeypatch):
    (tmp_path / "small" / "shared").mkdir(parents=True)
    files = {"__init__": "", "a": "from .shared.b import c\n", "d": "", "shared/__init__": "", "shared/b": "c = 1\n"}
    for name, text in files.items():
        (tmp_path / "small" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cached, "PACKAGE", "small")

    def source():
        cached._source_of_module.cache_clear()
        return cached._source_of_module("small.a")

    first = source()
    (tmp_path / "small" / "d.py").write_text("# another operator\n")
    assert source() == first
    (tmp_path / "small" / "shared" / "b.py").write_text("c = 2\n")
    second = source()
    (tmp_path / "small" / "a.py").write_text('"""Words."""\n\nfrom .shared.b import c  # and more\n')
    assert source() == second != first  # words do not count
    (tmp_path / "small" / "a.py").write_text("from .shared.b import c\n\nd = 1\n")
    assert len({first, second, source()}) == 3
    cached._source_of_module.cache_clear()


def test_a_kept_answer_of_another_shape_is_computed_again(tmp_path):
    evaluate(identity, OPERATORS["shock"], IMAGES, targets=tmp_path)
    for file in tmp_path.rglob("*.png"):
        save_image(file, np.zeros((17, 16, 3)))
    assert evaluate(identity, OPERATORS["shock"], IMAGES, targets=tmp_path) == evaluate(
        identity, OPERATORS["shock"], IMAGES
    )


def scaled(image, factor=0.5, *, shift=0.0):
    return image * factor + shift


def test_what_a_function_holds_is_part_of_its_source():
    def made(factor):
        return lambda image: image * factor

    functions = [scaled, made(0.5), made(0.6), *(partial(scaled, factor=factor) for factor in (0.1, 0.2))]
    functions += [partial(OPERATORS["l0"].function, kappa=kappa) for kappa in (2, 4)]
    found = {source_of(Operator.from_function(function, name="own")) for function in functions}
    assert None not in found and len(found) == len(functions)
    assert source_of(Operator("own", "Own", made(0.5))) == source_of(Operator.from_function(made(0.5), name="own"))


def test_more_parameters_leave_the_source_behind_an_operator_in_sight():
    rtv = OPERATORS["rtv"]
    assert source_of(rtv.with_parameters("lambda", "sigma")) == source_of(rtv)


def test_a_source_that_cannot_be_seen_is_said_once():
    operator = Operator(name="root", title="Root", function=torch.sqrt)
    with pytest.warns(UserWarning, match="the source behind root cannot be seen") as notes:
        assert source_of(operator) is source_of(operator) is None
    assert len(notes) == 1


def test_the_source_behind_an_operator():
    sources = {name: source_of(operator) for name, operator in OPERATORS.items()}
    assert sources["denoise_color"] == sources["denoise"]  # one function with two settings
    assert None not in sources.values() and len(set(sources.values())) == len(sources) - 1

    def one(image, strength):
        return image * strength

    def two(image, strength):
        return image * strength**2

    first, second = (Operator.from_function(function, name="own") for function in (one, two))
    assert source_of(first) != source_of(second) and source_of(first) == source_of(replace(first, name="other"))
