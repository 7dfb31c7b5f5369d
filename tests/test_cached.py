"""Kept targets: the same numbers, computed once."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from dpo_lib import OPERATORS, evaluate
from dpo_lib.operators import cached
from dpo_lib.operators.cached import kept_targets

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


def test_the_key_follows_the_source_of_every_operator_and_of_what_they_share(tmp_path):
    folder = tmp_path / "operators"
    shutil.copytree(Path(cached.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__", "cached.py"))
    seen = {cached._source(Path(cached.__file__).parent)}
    cached._source.cache_clear()
    assert {cached._source(folder)} == seen
    for file in ("l0.py", "shared/five_point.py", "shared/new.py"):
        with open(folder / file, "a") as source:
            source.write("# changed\n")
        cached._source.cache_clear()
        seen.add(cached._source(folder))
    assert len(seen) == 4
