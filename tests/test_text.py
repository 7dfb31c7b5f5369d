"""Rows as text."""

from dpo_lib.evaluation import format_table as of_evaluation
from dpo_lib.text import format_table


def test_digits():
    rows = [{"name": "a", "psnr_db": 31.256, "ssim": 0.98765, "time_ms": 1234.5678, "n": 3}]
    assert format_table(rows).splitlines()[1].split() == ["a", "31.26", "0.9877", "1234.57", "3"]
    assert format_table(rows, db_digits=1, ssim_digits=2).splitlines()[1].split()[1:3] == ["31.3", "0.99"]
    assert format_table(rows, significant=3).splitlines()[1].split() == ["a", "31.3", "0.988", "1230", "3"]
    assert format_table([]) == "(nothing)" and of_evaluation is format_table
