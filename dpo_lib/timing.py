"""Times and operation counts of calls."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 3


def time_ms(function: Callable[[], object], *, device: torch.device, repeats: int = REPEATS) -> float:
    """Median time of a call in milliseconds, after one that does not count; waits for the GPU.

    >>> 9 < time_ms(lambda: time.sleep(0.01), device=torch.device("cpu")) < 1000
    True
    """

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    function()
    durations = []
    for _ in range(repeats):
        start = wait()
        function()
        durations.append(wait() - start)
    return 1000 * statistics.median(durations)


def multiply_adds(function: Callable[[], object]) -> int:
    """Multiplications of the convolutions and matrix products in a call (two floating-point operations each).

    >>> multiply_adds(lambda: torch.ones(2, 3) @ torch.ones(3, 5))
    30
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() // 2
