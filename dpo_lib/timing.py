"""Times and operation counts of calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

REPEATS = 3
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def once_ms(function: Callable[[], object], *, device: str | torch.device = "cpu", clock: str = "wall") -> float:
    """Time of one call in milliseconds; waits for the GPU.

    `clock` is "wall", or "processor" for this program's own processor time.
    """

    def now() -> float:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)
        return CLOCKS[clock]()

    start = now()
    function()
    return 1000 * (now() - start)


def times_in_turns(
    functions: Mapping[str, Callable[[], object]],
    *,
    device: str | torch.device = "cpu",
    seconds: float = 10.0,
    least: int = 3,
    most: int = 50,
    clock: str = "wall",
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Milliseconds of each function, called in turns, so that what else the machine does meets all of them.

    Parameters
    ----------
    functions : mapping
    device, clock
        See `once_ms`.
    seconds : float
        For all rounds; at least `least` and at most `most` of them are run.
    warm_up : bool
        Call each once before, which does not count.

    Examples
    --------
    >>> calls = []
    >>> found = times_in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, seconds=0, least=2)
    >>> "".join(calls), {name: len(times) for name, times in found.items()}
    ('ababab', {'a': 2, 'b': 2})
    """
    found: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values() if warm_up else ():
        function()
    end, rounds = time.perf_counter() + seconds, 0
    while rounds < least or (rounds < most and time.perf_counter() < end):
        for name, function in functions.items():
            found[name].append(once_ms(function, device=device, clock=clock))
        rounds += 1
    return found


def time_ms(function: Callable[[], object], *, device: str | torch.device, repeats: int = REPEATS) -> float:
    """Median time of a call in milliseconds, after one that does not count; waits for the GPU."""
    return statistics.median(times_in_turns({"": function}, device=device, seconds=0, least=repeats)[""])


def multiply_adds(function: Callable[[], object]) -> int:
    """Multiplications of the convolutions and matrix products in a call (two floating-point operations each).

    >>> multiply_adds(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    30
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() // 2
