"""What counts as alike, figure by figure and table by table."""

import json

import numpy as np
import pytest
from PIL import Image

from dpo_lib.comparison import compare_figures, compare_tables, figure_difference, rows_difference
from dpo_lib.plotting import curves, image_grid, save_figure
from dpo_lib.records import write_rows

RNG = np.random.default_rng(0)
PHOTO = RNG.random((30, 40, 3)).repeat(4, 0).repeat(4, 1)


def chart(folder, last=4.0, name="01_chart"):
    lines = {"net": ([1, 2, 3], [1, 3, last]), "other": ([1, 2, 3], [1, 1.1, 1.2])}
    return save_figure(curves(lines, xlabel="x", ylabel="y"), folder, name)


def photographs(folder, photo, name="01_photo"):
    return save_figure(image_grid({"a": [photo, photo]}), folder, name)


def test_figures_that_are_alike(tmp_path):
    assert figure_difference(chart(tmp_path / "a"), chart(tmp_path / "b")) == ""
    noisy = np.clip(PHOTO + 0.004 * RNG.standard_normal(PHOTO.shape), 0, 1)
    committed = photographs(tmp_path / "a", PHOTO)
    assert figure_difference(photographs(tmp_path / "b", noisy), committed) == ""
    with Image.open(committed) as picture:  # the same in fewer dots per inch
        picture.convert("RGB").resize((picture.width * 9 // 10, picture.height * 9 // 10)).save(tmp_path / "small.png")
    assert "pixels" not in figure_difference(tmp_path / "small.png", committed)


def test_figures_that_differ(tmp_path):
    committed = chart(tmp_path / "a")
    assert "structural similarity 0." in figure_difference(chart(tmp_path / "b", last=3.9), committed)
    changed = PHOTO.copy()
    changed[:40, :40] = 0.5
    difference = figure_difference(photographs(tmp_path / "b", changed), photographs(tmp_path / "a", PHOTO))
    assert "structural similarity 0." in difference
    other = photographs(tmp_path / "c", PHOTO[:60])
    assert "pixels, committed" in figure_difference(other, committed)


def test_figures_are_counted_and_named(tmp_path):
    for folder, last in (("made", 4.0), ("committed", 4.0)):
        chart(tmp_path / folder, last)
        chart(tmp_path / folder, name="02_of_another_notebook")
    chart(tmp_path / "made", 2.0, name="01_changed")
    chart(tmp_path / "committed", name="01_changed")
    chart(tmp_path / "made", name="01_new")
    chart(tmp_path / "committed", name="01_gone")
    found = compare_figures(tmp_path / "made", tmp_path / "committed", ["01_first"])
    assert found.alike == 1
    assert found.different.pop("01_changed.png").startswith("structural similarity")
    assert found.different == {"01_new.png": "not committed", "01_gone.png": "not made"}


@pytest.mark.parametrize(
    ("key", "committed", "alike", "different"),
    [
        ("psnr_db", 31.0, 31.02, 31.03),
        ("ssim", 0.95, 0.955, 0.97),
        ("area", 40.0, 42.0, 43.0),
        ("share", 0.0, 0.002, 0.003),
        ("value", 0.002, 0.002, 0.0021),
        ("operator", "l0", "l0", "wls"),
    ],
)
def test_tolerances(key, committed, alike, different):
    assert rows_difference([{key: alike}], [{key: committed}]) == ""
    found = rows_difference([{key: different}], [{key: committed}])
    assert found == f"{key} in row 1 is {different}, committed {committed}"


def test_tables_of_another_shape_differ():
    row = {"psnr_db": 31.0}
    assert rows_difference([row], [row, row]) == "number of rows 1, committed 2"
    assert rows_difference([row], [{"ssim": 0.9}]) == "columns psnr_db, committed ssim"
    many = rows_difference([{"a_db": 1.0, "b_db": 1.0}] * 2, [{"a_db": 2.0, "b_db": 1.0}] * 2)
    assert many == "a_db in row 1 is 1.0, committed 2.0 (and 1 more)"


def test_tables_and_headline_numbers_are_counted_and_named(tmp_path):
    headline = {"name": "average", "ours": 33.0, "paper": None, "unit": "dB", "source": "01_first"}
    for folder, change in (("made", 0.0), ("committed", 0.0), ("changed", 0.5)):
        rows = [{"value": 0.02, "psnr_db": 30.0 + change}]
        write_rows(tmp_path / folder / "notebook_tables" / "01_first.csv", rows)
        everything = [headline | {"ours": 33.0 + change}, headline | {"source": "02_second", "ours": change}]
        (tmp_path / folder / "headline.json").write_text(json.dumps(everything))
    same = compare_tables(tmp_path / "made", tmp_path / "committed", ["01_first"])
    assert same.alike == 2 and not same.different
    other = compare_tables(tmp_path / "changed", tmp_path / "committed", ["01_first"])
    assert other.alike == 0 and other.different == {
        "01_first.csv": "psnr_db in row 1 is 30.5, committed 30.0",
        "headline.json (01_first)": "ours in row 1 is 33.5, committed 33.0",
    }
