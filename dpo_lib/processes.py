"""Ctrl-C, SIGTERM and child processes: nothing is stopped halfway, and no child outlives its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

from .progress import Printed, is_printed, log

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM came; `code` is the exit code that shells expect, 130 or 143."""

    def __init__(self, number: int):
        super().__init__()
        self.code = 128 + number


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM within the block raise `Interrupted`."""

    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    with _handled_by(interrupt):
        yield


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Ctrl-C and SIGTERM that come within the block count when it has ended."""
    waiting: list[int] = []
    try:
        with _handled_by(lambda number, _: waiting.append(number)):
            yield
    finally:
        for number in waiting[:1]:
            signal.raise_signal(number)


@contextlib.contextmanager
def _handled_by(handler: Callable) -> Iterator[None]:
    """The signals go to `handler`, but those that are ignored (in the background of a shell); main thread only."""
    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.getsignal(number) for number in SIGNALS}
        former = {number: known for number, known in former.items() if known not in (signal.SIG_IGN, None)}
    for number in former:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in former.items():
            signal.signal(number, known)


@contextlib.contextmanager
def child_processes(jobs: int, *, threads: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of `jobs` processes with so many `threads` of torch each.

    They end with the block, at once if an exception ends it, and when the parent is killed.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads' locks
    pool = ProcessPoolExecutor(
        jobs, mp_context=context, initializer=_begin, initargs=(threads, log.level, is_printed())
    )
    try:
        yield pool
    except BaseException:
        children = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:
            child.terminate()
        for child in children:
            child.join()
        raise
    pool.shutdown()


def _begin(threads: int, level: int, prints: bool) -> None:
    """In a child: the parent alone answers Ctrl-C, and its end is the child's."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    log.setLevel(level)
    if prints:
        log.addHandler(Printed())
    sys.path.append(os.getcwd())  # where operators of your own lie


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
