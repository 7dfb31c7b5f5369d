"""The whole network against cheap tuning, and both against the classic operator, in milliseconds per image.

    python benchmarks/inference.py
    python benchmarks/inference.py --sizes 512x512 1920x1080 --operator l0 wmf
    python benchmarks/inference.py --device cuda --out results/inference_cuda.csv

Networks have random weights: time does not depend on them. Whole forward and operator take turns, then the tuner; the
median and the least of the repeats are shown, the ratio is of the medians. On a GPU every measurement waits until the
GPU has finished; what the paper's Table 5 states can only be times of calls that did not wait. On a machine that does
other things meanwhile, ``--threads 1 --clock processor`` counts this program's own processor time.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Sequence

import torch

from dpo_lib.experiments.properties import SIZES as OF_TABLE5
from dpo_lib.models import DecoupledNetwork
from dpo_lib.operators import OPERATORS, Operator
from dpo_lib.records import device_name, provenance, write_rows
from dpo_lib.text import format_table
from dpo_lib.timing import CLOCKS, multiply_adds, times_in_turns

SIZES = {"512x512": (512, 512), **OF_TABLE5}
BASES = {
    "64 channels": {"width": 64},
    "128 channels, depth-wise": {"width": 128, "depthwise": True},
}
FEATURES_AT_ONCE = 6  # features of the full size that a forward pass holds at its worst moment


def parse_size(text: str) -> tuple[int, int]:
    """A name of `SIZES`, or WIDTHxHEIGHT, to (height, width).

    >>> parse_size("1080p"), parse_size("96x64")
    ((1080, 1920), (64, 96))
    """
    if text in SIZES:
        return SIZES[text]
    try:
        width, height = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"size must be one of {', '.join(SIZES)} or WIDTHxHEIGHT, got {text!r}") from None
    return height, width


def memory_needed(size: tuple[int, int], *, width: int) -> float:
    """GiB that a forward pass needs, roughly."""
    return FEATURES_AT_ONCE * 4 * width * size[0] * size[1] / 2**30


def memory_there(device: str) -> float:
    """GiB of memory that are free."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**30
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


@torch.no_grad()
def measure(base: str, size: tuple[int, int], operator: Operator, *, device: str, scale: int = 1, **timing) -> dict:
    """One row: a base network (its channels divided by `scale`), an image size, an operator."""
    settings = {**BASES[base], "width": BASES[base]["width"] // scale, "generated": "norm(last)"}
    network = DecoupledNetwork(operator.parameters, operator=operator.name, **settings).to(device).eval()
    last = network.weight_learning_network.fixed[network.base_network.convolutions[-1].name]
    torch.nn.init.normal_(last, std=0.01)  # it starts at zero, which would hide a difference
    image = torch.rand(1, 3, *size).to(device)
    value = operator.parameters[0].default if operator.parameters else None
    tuner = network.tuner(image)
    difference = float((tuner(value) - network(image, value)).abs().max())
    functions = {"whole": lambda: network(image, value), "operator": lambda: operator(image, value)}
    slow = times_in_turns(functions, device=device, most=9, warm_up=False, **timing)
    fast = times_in_turns({"tuner": lambda: tuner(value)}, device=device, **timing)
    median = {name: statistics.median(found) for name, found in (slow | fast).items()}
    gflop = 2 * multiply_adds(lambda: network(image, value)) / 1e9
    return {
        "base": base,
        "size": f"{size[1]}x{size[0]}",
        "whole_ms": median["whole"],
        "whole_least_ms": min(slow["whole"]),
        "tuner_ms": median["tuner"],
        "tuner_least_ms": min(fast["tuner"]),
        "times_faster": median["whole"] / median["tuner"],
        "kept_mib": tuner.memory_bytes / 2**20,
        "whole_gflop": gflop,
        "whole_gflop_s": gflop / median["whole"] * 1000,
        "difference": difference,
        "operator": operator.name,
        "operator_ms": median["operator"],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the rows if asked."""
    parser = argparse.ArgumentParser(description="Time the whole network, cheap tuning and the classic operator.")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), help=f"{', '.join(SIZES)} or WIDTHxHEIGHT")
    parser.add_argument("--bases", nargs="+", default=list(BASES), choices=BASES)
    parser.add_argument("--operator", nargs="+", default=["l0"], choices=OPERATORS, metavar="NAME")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="processor threads (default: PyTorch's choice)")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="wall, or this program's processor time")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each measurement")
    parser.add_argument("--least", type=int, default=3, help="repeats even if that takes longer")
    parser.add_argument("--quick", action="store_true", help="tiny image and networks, to see that it runs")
    parser.add_argument("--out", help="CSV file for the rows; a JSON with the settings goes beside it")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    sizes = [parse_size(text) for text in (["40x32"] if given.quick else given.sizes)]
    rows = []
    for size in sizes:
        for base in given.bases:
            needed, there = memory_needed(size, width=BASES[base]["width"]), memory_there(given.device)
            if needed > there:
                print(f"left out: {base} at {size[1]}x{size[0]} needs about {needed:.1f} GiB, {there:.1f} GiB are free")
                continue
            for name in given.operator:
                timing = {"seconds": given.seconds, "least": given.least, "clock": given.clock}
                settings = {"seconds": 0.05, "scale": 16} if given.quick else {}
                rows.append(measure(base, size, OPERATORS[name], device=given.device, **(timing | settings)))
                print(format_table(rows[-1:], significant=3), flush=True)
    if not rows:
        return 1
    print(f"\n{device_name(given.device)}\n{format_table(rows, significant=3)}")
    if given.out:
        write_rows(given.out, rows, facts=provenance(device=device_name(given.device), clock=given.clock))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
