"""Signals wait for the end of a step, and children end with their parent."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from dpo_lib.processes import Interrupted, child_processes, interruptible, signals_wait

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def usual_signals():
    """What a shell's foreground has: in its background SIGINT is ignored."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@BOTH
def test_a_signal_is_an_exception_with_the_shells_exit_code(number):
    former = signal.getsignal(number)
    with pytest.raises(Interrupted) as interrupted, interruptible():
        signal.raise_signal(number)
    assert interrupted.value.code == 128 + number and signal.getsignal(number) is former


@BOTH
def test_a_signal_waits_for_the_end_of_the_block(number):
    done = []
    with pytest.raises(Interrupted), interruptible():
        with signals_wait():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("whole")
        done.append("never")
    assert done == ["whole"]


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interruptible(), signals_wait():
        signal.raise_signal(signal.SIGINT)


def test_other_threads_have_no_signals():
    def work():
        with interruptible(), signals_wait():
            done.append(signal.getsignal(signal.SIGINT))

    done = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.default_int_handler]


def test_children_end_with_an_exception_in_their_parent():
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError), child_processes(1, threads=1) as pool:
        child = pool.submit(os.getpid).result()
        pool.submit(time.sleep, 600)
        raise ZeroDivisionError
    assert not _is_alive(child) and time.monotonic() - start < 300


PROGRAM = """
import os, time
from dpo_lib.processes import child_processes
if __name__ == "__main__":
    with child_processes(1, threads=1) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_children_end_with_a_killed_parent(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def _is_alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().split()[2] != "Z"  # ended, and not asked after
    except FileNotFoundError:
        return False
