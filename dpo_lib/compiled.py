"""Loops over pixels, compiled to machine code by Numba when they are first called."""

from __future__ import annotations

import functools
from collections.abc import Callable

FAST = {"reassoc", "contract", "nsz", "arcp"}  # sums in any order, but not-a-number and infinities are kept


def compiled(function: Callable) -> Callable:
    """Compile a function of NumPy arrays and numbers (``numba.njit``), one version for each set of types.

    The machine code is kept on disk beside the source or, where that cannot be written, in the user's cache folder,
    so only the first process waits for the compiler, about a second a function. The function runs without Python's
    global lock: threads run it at the same time.
    """

    @functools.cache
    def machine_code() -> Callable:
        import numba

        try:
            return numba.njit(nogil=True, fastmath=FAST, cache=True)(function)
        except RuntimeError:  # no folder can be written: every process compiles for itself
            return numba.njit(nogil=True, fastmath=FAST)(function)

    @functools.wraps(function)
    def call(*args, **named):
        return machine_code()(*args, **named)

    return call
