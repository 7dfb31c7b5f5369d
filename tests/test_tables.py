"""Tables for the notebooks."""

import pytest

from dpo_lib.evaluation import format_table
from dpo_lib.experiments.store import Store
from dpo_lib.experiments.tables import collected_table, gains, over_seeds, pivot, shipped_table
from dpo_lib.records import read_rows, write_rows


def test_shipped_and_collected_tables_for_the_notebooks(tmp_path):
    numbers = {"ssim": 0.9, "input_psnr_db": 20.0, "input_ssim": 0.5}
    rows = [
        {"operator": "l0", "image": image, "value": value, "psnr_db": 30.0 + k, **numbers}
        for k, image in enumerate("ab")
        for value in (0.02, 0.2)
    ]
    write_rows(tmp_path / "l0.csv", rows, facts={"model": {"scale": "laptop"}})
    found = shipped_table(tmp_path, ["l0", "wls"])  # wls has none
    assert {row["scale"] for row in found} == {"laptop"}
    assert [(row["value"], row["psnr_db"], row["paper_psnr_db"]) for row in found] == [
        (0.02, 30.5, 35.71), (0.2, 30.5, 30.43), ("average", 30.5, 35.25)
    ]  # fmt: skip
    assert collected_table(tmp_path, "table1") == []
    cell = {"operator": "l0", "value": 0.2}
    rows = [{"network": "numerous", **cell, "psnr_db": 31.0}, {"network": "single", **cell, "psnr_db": ""}]
    write_rows(tmp_path / "table1.csv", rows)
    assert collected_table(tmp_path, "table1") == [rows[0] | {"scale": tmp_path.name}]


def test_older_rows_stand_in_until_all_are_measured(tmp_path):
    def row(network, operator, psnr_db):
        return {"network": network, "operator": operator, "value": 1.0, "psnr_db": psnr_db}

    def shown(table):
        return [(r["network"], r["operator"], r["psnr_db"], r["scale"]) for r in collected_table(laptop, table)]

    laptop, old = tmp_path / "laptop", [row("a", "l0", 1.0), row("b", "l0", 2.0), row("a", "wls", 3.0)]
    for table in ("table1", "table3"):
        write_rows(tmp_path / "cpu" / f"{table}.csv", [*old, row("BGU (paper)", "average", "")])
    assert shown("table1") == [("a", "l0", 1.0, "cpu"), ("b", "l0", 2.0, "cpu"), ("a", "wls", 3.0, "cpu")]
    for table in ("table1", "table3"):
        write_rows(laptop / f"{table}.csv", [row("a", "l0", 4.0), row("b", "l0", ""), row("a", "wls", 5.0)])
    assert shown("table1") == [("a", "l0", 1.0, "cpu"), ("b", "l0", 2.0, "cpu"), ("a", "wls", 5.0, "laptop")]
    assert {scale for *_, scale in shown("table3")} == {"cpu"}  # its rows are networks for several operators
    for table in ("table1", "table3"):
        write_rows(laptop / f"{table}.csv", [row("a", "l0", 4.0), row("b", "l0", 6.0), row("a", "wls", 5.0)])
        assert shown(table) == [("a", "l0", 4.0, "laptop"), ("b", "l0", 6.0, "laptop"), ("a", "wls", 5.0, "laptop")]
    write_rows(tmp_path / "cpu" / "table11.csv", [{"layer": "conv1", "correlation": 0.1}])
    assert collected_table(laptop, "table11") == [{"layer": "conv1", "correlation": 0.1, "scale": "cpu"}]
    write_rows(laptop / "table11.csv", [{"layer": "conv1", "correlation": 0.2}])
    assert collected_table(laptop, "table11") == [{"layer": "conv1", "correlation": 0.2, "scale": "laptop"}]
    assert collected_table(tmp_path / "paper", "table1") == []  # what was trained longest is not mixed with others


def test_the_spread_over_seeds(tmp_path):
    def row(network, psnr_db):
        return {"network": network, "operator": "l0", "value": 0.02, "psnr_db": psnr_db, "paper_psnr_db": "",
                "input_psnr_db": 20.0}  # fmt: skip

    write_rows(tmp_path / "cpu" / "table3.csv", [row("one", 30.0), row("two", 29.0), row("three", "")])
    for seed, psnr_db in ((1, 31.0), (2, 32.0)):
        write_rows(tmp_path / f"cpu-seed{seed}" / "table3.csv", [row("one", psnr_db), row("three", 28.0)])
    one, two = over_seeds(tmp_path / "cpu", "table3")  # what seed 0 has not measured is left out
    assert (one["psnr_db"], one["spread_db"], one["seeds"]) == (31.0, 1.0, 3)
    assert (two["psnr_db"], two["spread_db"], two["seeds"]) == (29.0, None, 1)
    assert pivot([one, two], lines=["operator"], columns="network") == [
        {"operator": "l0", "untouched": "20.00", "one": "31.00 ± 1.00", "two": "29.00"}
    ]


def test_gains_on_the_same_images(tmp_path):
    """Two images, of which the second gains more: the interval goes from one to the other."""
    store, rows = Store(tmp_path), []
    for operator, base, many in (("l0", 30.0, 5), ("derain", 20.0, 1)):
        for network, run, gain in (("1 operator", f"table1/{operator}/numerous" if many > 1 else "table3/derain", 0),
                                   ("10 operators", "table3/joint10", -1)):  # fmt: skip
            facts = {"operator": operator, "told": ""}
            of_images = [facts | {"image": name, "value": value, "psnr_db": base + k + gain * k}
                         for value in range(many) for k, name in enumerate("ab")]  # fmt: skip
            path = store.rows(run)
            write_rows(path, [*(read_rows(path) if path.exists() else []), *of_images])
            for value in range(many):
                rows.append({"network": network, "operator": operator, "value": float(value), "run": run,
                             "psnr_db": base + 0.5 + gain * 0.5, "paper_psnr_db": ""})  # fmt: skip
            rows.append(rows[-1] | {"value": "average", "run": ""})
    write_rows(store.results / "table3.csv", rows)
    l0, derain, average = gains(store.results, "table3", "10 operators", "1 operator")
    for row, values, paper_db in ((l0, 5, 32.67 - 35.25), (derain, 1, 30.45 - 29.86), (average, 6, 32.18 - 34.40)):
        assert (row["values"], row["scale"], row["gain_db"]) == (values, "laptop", -0.5)
        assert (row["low_db"], row["high_db"]) == (-1.0, 0.0) and row["paper_gain_db"] == pytest.approx(paper_db)
    assert [row["operator"] for row in (l0, derain, average)] == ["l0", "derain", "average"]
    store.rows("table3/derain").unlink()
    *_, derain, average = gains(store.results, "table3", "10 operators", "1 operator")
    assert derain["low_db"] is average["high_db"] is None and average["gain_db"] == -0.5
    assert gains(store.results, "table3", "1 operator", "channels") == []
    assert format_table([derain]).split()[-3:] == ["-", "-", "0.59"]
