"""Times and operation counts; no test looks at a clock."""

import pytest
import torch

from dpo_lib.timing import CLOCKS, once_ms, time_ms, times_in_turns


def test_calls_are_counted():
    calls = []
    assert time_ms(lambda: calls.append(1), device="cpu", repeats=5) >= 0 and len(calls) == 6  # one does not count
    assert once_ms(lambda: calls.append(1), device=torch.device("cpu")) >= 0 and len(calls) == 7
    found = times_in_turns({"a": list, "b": dict}, seconds=60, most=4, warm_up=False)
    assert {name: len(times) for name, times in found.items()} == {"a": 4, "b": 4}


@pytest.mark.parametrize("clock", CLOCKS)
def test_the_chosen_clock_is_read(monkeypatch, clock):
    ticks = iter([1.0, 3.5])
    monkeypatch.setitem(CLOCKS, clock, lambda: next(ticks))
    assert once_ms(list, clock=clock) == 2500
