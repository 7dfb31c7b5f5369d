"""The paper's numbers against the operators and the list of experiments."""

import numpy as np
import pytest

from dpo_lib.experiments import paper
from dpo_lib.experiments.catalogue import EXPERIMENTS, FILTERS, UNSEEN, VALUES, Experiment
from dpo_lib.operators import OPERATORS
from dpo_lib.records import read_rows, write_rows

CELLS = [cell for entry in EXPERIMENTS.values() if isinstance(entry, Experiment) for cell in entry.cells()]


def test_values_span_the_ranges():
    for name in FILTERS:
        parameter = OPERATORS[name].parameters[0]
        assert (parameter.low, parameter.high) == (VALUES[name][0], VALUES[name][-1])
        assert all(parameter.low < value < parameter.high for value in UNSEEN[name])
        assert not set(UNSEEN[name]) & set(VALUES[name])


def test_the_papers_averages_are_averages():
    """Slips of the pen: the paper's averages, to their last digit, are those of its numbers."""
    for *row, average, _ in (*paper.TABLE1.values(), *paper.TABLE3.values(), paper.TABLE6):
        assert np.mean(row) == pytest.approx(average, abs=0.0101)
    for (name, network), (*row, _) in paper.TABLE2.items():
        if network == "numerous":
            of_table3 = paper.number("table3", "1 operator", name, "average")[0]
            assert np.mean(row) == pytest.approx(of_table3, abs=0.0101)


def test_every_number_of_the_paper_has_a_place():
    filled = {fill for entry in EXPERIMENTS.values() for fill in entry.fills}
    cells = {cell[:4] for cell in CELLS}
    filled |= {cell[:2] for cell in CELLS}
    others = {"BGU", "HDRNet", "JPEG", "DnCNN", "MemNet", "bicubic", "BM3D", "DerainNet"}
    for table, network, operator, value in paper.NUMBERS:
        if network not in others:
            assert (table, network) in filled
            assert value == "average" or (table, network, operator, value) in cells
    assert paper.number(*EXPERIMENTS["table1/wls/numerous"].cells()[1][:4])[0] == 42.64


def test_tables_call_networks_by_words(tmp_path):
    # a file of comma-separated values does not say whether "2" is a name or a number
    labels = {network for _, network, *_ in CELLS}
    path = write_rows(tmp_path / "rows.csv", [{"network": label} for label in sorted(labels)])
    assert [row["network"] for row in read_rows(path)] == sorted(labels)
    of_table4 = {network for count in "1234" for _, network, *_ in EXPERIMENTS[f"table4/rtv/{count}"].cells()}
    assert of_table4 == set(paper.TABLE4)
