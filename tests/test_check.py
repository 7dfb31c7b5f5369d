"""Cells of tables against the rows of the images; `test_experiments` has the networks."""

from dpo_lib.experiments.check import Checked, check
from dpo_lib.experiments.run import Runner
from dpo_lib.experiments.store import Store
from dpo_lib.records import write_rows


def test_a_cell_is_compared_with_the_mean_of_its_images(tmp_path):
    store = Store(tmp_path)
    assert list(check(Runner(store))) == []  # nothing was collected

    def image(name, value, psnr_db):
        return {"operator": "l0", "image": name, "value": value, "told": "", "psnr_db": psnr_db}

    write_rows(store.rows("table1/l0/numerous"), [image("a", 0.02, 30.0), image("b", 0.02, 32.0), image("a", 0.2, 9.0)])
    cell = {"network": "numerous", "operator": "l0", "value": 0.02, "run": "table1/l0/numerous"}
    rows = [
        cell | {"psnr_db": 31.0},
        cell | {"psnr_db": 9.01, "value": 0.2},
        cell | {"psnr_db": 5.0, "value": 0.002},
        cell | {"psnr_db": 20.0, "value": "average", "run": ""},
        cell | {"psnr_db": "", "network": "single", "run": "table1/l0/0.02"},
    ]
    write_rows(store.results / "table1.csv", rows)
    found = {each.cell: each for each in check(Runner(store), cells=9)}
    assert set(found) == {f"table1: numerous, l0, {value}" for value in (0.02, 0.2, 0.002)}
    right, wrong, unknown = (found[f"table1: numerous, l0, {value}"] for value in (0.02, 0.2, 0.002))
    assert (right.against, right.difference_db, right.is_wrong) == ("2 images", 0.0, False)
    assert wrong.is_wrong and abs(wrong.difference_db + 0.01) < 1e-9
    assert unknown.difference_db is None and not unknown.is_wrong
    assert Checked("", "", float("nan")).is_wrong
    chosen = [[each.cell for each in check(Runner(store), cells=1, seed=seed)] for seed in range(9)]
    assert {len(each) for each in chosen} == {1} and len({each[0] for each in chosen}) > 1
