"""The benchmark that kills a training: a few kills leave no difference."""

import subprocess
import sys

import pytest
from benchmark_scripts import FOLDER


@pytest.mark.slow
def test_a_few_kills_leave_no_difference():
    command = [sys.executable, str(FOLDER / "kills.py"), "--kills", "3", "--steps", "10"]  # which the training is told
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("3 kills (") and "0 differences" in done.stdout
