"""The benchmark of the operators: its rows on a tiny image, and that the peers do the same work."""

import sys

import numpy as np
import pytest
from benchmark_scripts import load_script

from dpo_lib.data import embedded_images
from dpo_lib.images import to_uint8
from dpo_lib.operators import OPERATORS
from dpo_lib.records import read_rows


@pytest.fixture(scope="module")
def benchmark():
    return load_script("operators")


def test_rows_table_and_file(benchmark, tmp_path, capsys):
    out = tmp_path / "speed.csv"
    rows = benchmark.main(["--operators", "l0", "shock", "--repeats", "1", "--size", "37x26", "--out", str(out)])
    assert [row["value"] for row in rows] == [*OPERATORS["l0"].parameters[0].test_values, ""]
    for row in rows[:-1]:
        assert row["operator"] == "l0" and row["peer"] == "l0Smooth"
        assert row["ratio"] == pytest.approx(row["time_s"] / row["peer_time_s"])
        assert 0 < row["fastest_s"] <= row["time_s"] == pytest.approx(1 / row["images_per_s"])
    assert rows[-1]["operator"] == "shock" and rows[-1]["peer"] == rows[-1]["ratio"] == ""
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("37x26, 1 image(s), cpu")
    assert len(printed) == 2 + len(rows) and printed[2].split()[:2] == ["l0", "0.002"]
    assert [row["time_s"] for row in read_rows(out)] == [row["time_s"] for row in rows]
    assert out.with_suffix(".json").exists()


def test_images_of_a_folder(benchmark, tmp_path, capsys):
    from PIL import Image

    for index in range(2):
        Image.new("RGB", (50, 40 + index), (90 * index, 20, 200)).save(tmp_path / f"{index}.png")
    rows = benchmark.main(
        ["--operators", "denoise", "--repeats", "3", "--size", "20x16", "--images", str(tmp_path)]
    )  # a restoration operator
    assert [row["value"] for row in rows] == [15, 25, 50]
    assert capsys.readouterr().out.startswith("20x16, 2 image(s)")


def test_every_operator_has_its_cases(benchmark):
    found = list(benchmark.cases(list(OPERATORS)))
    assert {case.operator.name for case in found} == set(OPERATORS)
    wmf = [(case.value, case.settings, case.peer.title) for case in found if case.operator.name == "wmf"]
    assert len(wmf) == 10 and wmf[0] == (1, {}, "medianBlur") and wmf[9] == (10, {"sigma": 0.1}, "weightedMedianFilter")
    slow = [case for case in found if case.peer and case.peer.slow]
    assert all(case.value == case.operator.parameters[0].default and case.repeats(5) == 1 for case in slow)
    assert len(slow) == len({"wls", "rtv"} & set(OPERATORS))
    quick = list(benchmark.cases(list(OPERATORS), slow=False))
    assert len(quick) == len(found) and not any(case.peer and case.peer.slow for case in quick)


@pytest.mark.parametrize(
    ("name", "index", "value", "error"), [("l0", 0, 0.02, 0.15), ("rgf", 0, 3.25, 0.04), ("wmf", 1, 3.25, 1e-6)]
)
def test_peers_filter_alike(benchmark, name, index, value, error):
    image = embedded_images("coffee")["coffee"][100:190, 200:320].astype(np.float32) / 255
    peer = benchmark.PEERS[name][index]
    theirs, more = (peer.prepare(image, v)() for v in (value, 2 * value))
    ours = OPERATORS[name](image, value, **peer.settings)
    inside = np.s_[16:-16, 16:-16]  # borders differ
    assert np.sqrt(np.mean((ours - theirs)[inside] ** 2)) < error
    assert np.corrcoef(ours[inside].ravel(), theirs[inside].ravel())[0, 1] > 0.95
    variation = [np.abs(np.diff(x, axis=1)).sum() for x in (image, theirs, more)]
    assert variation[0] > variation[1] > variation[2]


def test_median_agrees_exactly(benchmark):
    image = embedded_images("coffee")["coffee"][100:150, 200:270].astype(np.float32) / 255
    theirs = benchmark.PEERS["wmf"][0].prepare(image, 3.25)()
    assert np.array_equal(to_uint8(theirs), to_uint8(OPERATORS["wmf"](image, 3.25)))


def test_direct_solver_solves_as_many_systems(benchmark):
    image = embedded_images("coffee")["coffee"][::20, ::20].astype(np.float32) / 255
    separate = benchmark.PEERS["wls"][0].prepare(image, 1.0)()
    assert len(separate) == 3 and separate[0].shape == (20 * 30,)
    together = benchmark.PEERS["rtv"][0].prepare(image, 1.0)()
    assert len(together) == 4 and together[0].shape == (20 * 30, 3)
    assert together[0].std() < image.std()  # a smoother, which keeps the mean
    assert np.allclose(together[0].mean(0), image.mean((0, 1)), atol=1e-6)


def test_missing_peer_is_named(benchmark, monkeypatch, capsys):
    for module in ("cv2", "cv2.ximgproc"):
        monkeypatch.setitem(sys.modules, module, None)
    rows = benchmark.main(["--operators", "rgf", "wmf", "--repeats", "1", "--size", "16x12"])
    assert {row["peer"] for row in rows} == {"no cv2", "no cv2.ximgproc"}
    assert all(row["ratio"] == "" and row["time_s"] > 0 for row in rows)
    assert "pip install opencv-contrib-python-headless" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "481"], "--size must be WIDTHxHEIGHT in pixels, such as 481x321, got 481"),
        (["--size", "0x10"], "--size must be WIDTHxHEIGHT"),
        (["--repeats", "0"], "--repeats must be at least 1, got 0"),
        (["--operators", "l1"], "invalid choice: 'l1'"),
    ],
)
def test_bad_arguments(benchmark, arguments, message, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert message in capsys.readouterr().err
