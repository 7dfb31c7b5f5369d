"""The measurement of self-agreement: operators whose figures are known by hand, and its rows."""

import math

import numpy as np
import pytest
import torch
from benchmark_scripts import load_script

from dpo_lib.operators import Operator
from dpo_lib.records import read_rows


@pytest.fixture(scope="module")
def script():
    return load_script("self_agreement")


def picture(height=192, width=200):
    return torch.rand(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2


def found(script, function):
    figures = script.agreement(Operator.from_function(function, name="own"), picture(), None)
    return {key.removesuffix("_db"): round(value, 2) for key, value in figures.items()}


def test_pointwise_operator_agrees_with_itself(script):
    assert set(found(script, lambda image: image**2).values()) == {100.0}


def test_operator_that_adds_a_tenth_to_every_second_column(script):
    def stripes(image):
        return image + 0.1 * (np.arange(image.shape[1]) % 2)[:, None]

    figures = found(script, stripes)  # stripes move by one column, or become rows that meet them at every second pixel
    assert figures["left_right"] == figures["shifted"] == 20
    assert figures["transposed"] == round(20 + 10 * math.log10(2), 2)
    assert figures["up_down"] == figures["cropped"] == figures["border"] == 100


def test_operator_with_a_periodic_border(script):
    figures = found(script, lambda image: (image + np.roll(image, -1, axis=0)) / 2)
    assert figures["left_right"] == figures["shifted"] == figures["cropped"] == 100
    assert figures["border"] < 40  # the last row holds half of the first one


def test_rows_table_and_file(script, tmp_path, capsys):
    out = tmp_path / "agreement.csv"
    rows = script.main(["--operators", "shock", "llf", "--size", "200x192", "--out", str(out)])
    assert [(row["operator"], row["value"]) for row in rows] == [("shock", ""), *(("llf", v) for v in (2, 3, 5, 7, 8))]
    assert all(value == 100 for key, value in rows[0].items() if key.endswith("_db") and key != "border_db")
    less = [row["shifted_db"] for row in rows[1:]]
    assert less == sorted(less, reverse=True) and less[0] < 60
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "200x192, 3 image(s)" and len(printed) == 2 + len(rows)
    assert [row["shifted_db"] for row in read_rows(out)] == pytest.approx([r["shifted_db"] for r in rows], abs=1e-4)
    assert out.with_suffix(".json").exists()


def test_bad_arguments(script, capsys):
    for arguments, message in (
        (["--size", "100x300"], "--size must be WIDTHxHEIGHT, at least 192 pixels each"),
        (["--operators", "denoise"], "invalid choice: 'denoise'"),
    ):
        with pytest.raises(SystemExit):
            script.main(arguments)
        assert message in capsys.readouterr().err
