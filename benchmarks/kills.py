"""Kill a training again and again, and compare what it ends with with one that was left alone.

    python benchmarks/kills.py                 # 100 kills
    python benchmarks/kills.py --kills 1000 --seed 1
    python benchmarks/kills.py --kills 10 --scale laptop --steps 12 --phases 1,1,96,2

Options that are not its own go to the training.

Each training is a process of its own; SIGKILL, SIGTERM or Ctrl-C ends it at a random moment, and the same command goes
on. After each kill whatever is on disk must be whole: the checkpoint, the network, the log, the kept targets. In the
end the weights must be the same bytes, and the log the same but for its times. Prints the count, ends with 1 on any
difference.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import random
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from dpo_lib import files, load_image, load_network
from dpo_lib.commands import train as command
from dpo_lib.images import save_image
from dpo_lib.models.pretrained import checksum

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def start(words: Sequence[str]) -> int:
    """The training in a process of its own, with a checkpoint after every step; gives its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        files.SETTLED_S = 0  # what a killed process left is removed at once
        command.train = partial(command.train, checkpoint_every=0)
        code = command.main(words)
    except KeyboardInterrupt:  # it came before the command began
        code = 130
    finally:
        os._exit(code)


def result(out: Path) -> tuple[str, list[list[str]]]:
    """What must not differ: the tensors, and the log without its times."""
    with open(out / "log.csv", newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    return checksum(load_network(out / "network.safetensors").state_dict(), ""), rows


def check_whole(out: Path, targets: Path) -> None:
    """Raise an error if anything on disk is half-written."""
    with contextlib.suppress(FileNotFoundError), zipfile.ZipFile(out / "checkpoint.pt") as file:
        if file.testzip():
            raise ValueError("the checkpoint is damaged")
    if (out / "network.safetensors").exists():
        load_network(out / "network.safetensors")
    for path in targets.rglob("[!.]*.png"):
        load_image(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's own text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments and signals")
    given, more = parser.parse_known_args(arguments)
    draw, counts, wrong, runs = random.Random(given.seed), Counter(), [], 0
    torch.set_num_threads(1)  # threads do not come along into a fork
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(3):
            save_image(folder / "images" / f"{number}.png", np.random.default_rng(number).random((140, 170, 3)))
        words = ["--operator", "l0", "--images", str(folder / "images"), "--scale", "smoke", "--device", "cpu"]
        words += [*more, "--jobs", "1", "--targets", str(folder / "targets"), "--out"]
        began = time.monotonic()
        if os.waitstatus_to_exitcode(os.waitpid(start([*words, str(folder / "whole")]), 0)[1]):
            raise RuntimeError("the training that was left alone failed")
        duration, expected = time.monotonic() - began, result(folder / "whole")
        while sum(counts.values()) < given.kills:
            runs, code = runs + 1, None
            out, targets = folder / f"run{runs}", folder / f"targets{runs}"
            command_line = [*words[:-2], str(targets), "--out", str(out)]
            while code != 0:
                child, number = start(command_line), draw.choice(SIGNALS)
                if sum(counts.values()) < given.kills:
                    time.sleep(draw.uniform(0, duration / 3))
                    os.kill(child, number)
                code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                if code:  # it may have been done before the signal came
                    counts[number.name] += 1
                if code not in (0, -number, CODES.get(number)):
                    wrong.append(f"run {runs}: exit code {code} after {number.name}")
                    break
                check_whole(out, targets)
            if code == 0 and result(out) != expected:
                wrong.append(f"run {runs}: other weights, or another log")
            wrong += [f"run {runs}: left {path.name}" for path in out.glob(".*")]
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{sum(counts.values())} kills ({kinds}) of {runs} trainings: {len(wrong)} differences", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
