"""Compiled loops: what they give, when they are compiled, and where the machine code stays."""

import math
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest

from dpo_lib.compiled import compiled


@compiled
def mean_of_products(a, b):
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total / len(a)


def test_gives_what_python_gives():
    a, b = np.random.default_rng(0).random((2, 1000))
    assert mean_of_products(a, b) == pytest.approx((a * b).mean(), rel=1e-12)
    assert mean_of_products(a.astype(np.float32), b.astype(np.float32)) == pytest.approx((a * b).mean(), rel=1e-6)
    assert mean_of_products.__name__ == "mean_of_products"


def test_keeps_not_a_number_and_infinities():
    ones = np.ones(3)
    assert math.isnan(mean_of_products(np.array([1, math.nan, 2]), ones))
    assert mean_of_products(np.array([1, math.inf, 2]), ones) == math.inf


def test_threads_may_call_it():
    rows = np.random.default_rng(0).random((20, 300))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(mean_of_products, rows, rows)) == [mean_of_products(row, row) for row in rows]


def test_works_where_no_folder_can_be_written(monkeypatch):
    kinds = []
    njit = numba.njit

    def without_a_folder(**options):
        kinds.append(options.pop("cache", False))
        if kinds[-1]:
            raise RuntimeError("cannot cache function 'f': no locator available")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", without_a_folder)

    @compiled
    def double(x):
        return 2 * x

    assert (double(4), double(5)) == (8, 10)
    assert kinds == [True, False]  # once for both calls


def test_a_second_process_finds_the_machine_code(tmp_path):
    (tmp_path / "loops.py").write_text(
        textwrap.dedent(
            """
            from dpo_lib.compiled import compiled

            @compiled
            def total(values):
                result = 0.0
                for value in values:
                    result += value
                return result
            """
        )
    )
    program = "import loops, numpy; assert loops.total(numpy.ones(5)) == 5; import sys; print('numba' in sys.modules)"
    for _ in range(2):
        ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert ran.stdout.strip() == "True", ran.stderr
    assert len(list(tmp_path.rglob("*.nbc"))) == 1
