"""Shipped networks beside the operators that they imitate, in milliseconds per image, and a new value by cheap tuning.

    python benchmarks/inference.py
    python benchmarks/inference.py --sizes 512x512 1080p --networks l0 single_layer --out results/inference.csv
    python benchmarks/inference.py --device cuda

The network and a few plain 3x3 convolutions take turns on one photograph, at default values; medians. A filter that a
network imitates alone is run once. The machine's rate is that of the quickest plain convolution. Also timed: the
paper's base network, with random weights, on which time does not depend. On a machine that does other things meanwhile,
``--threads 1 --clock processor`` counts this program's own processor time.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
import torch
from base_networks import PLAIN, plain
from PIL import Image, ImageOps

from dpo_lib import OPERATORS, SCALES, load_pretrained
from dpo_lib.data import embedded_images
from dpo_lib.experiments.properties import SIZES as OF_TABLE5
from dpo_lib.images import to_tensor
from dpo_lib.models import DecoupledNetwork
from dpo_lib.models.pretrained import pretrained_names
from dpo_lib.models.single_layer import first_generated
from dpo_lib.records import device_name, provenance, write_rows
from dpo_lib.text import format_table
from dpo_lib.timing import CLOCKS, multiply_adds, once_ms, times_in_turns

SIZES = {"512x512": (512, 512), **OF_TABLE5}
PAPER = "paper, 64 channels"


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


def photograph(size: tuple[int, int], device: str) -> torch.Tensor:
    """One of scikit-image's, scaled and cropped: times of operators depend on what there is to see."""
    shown = ImageOps.fit(Image.fromarray(embedded_images("coffee")["coffee"]), size[::-1])
    return to_tensor(np.asarray(shown)).to(device)


def network_named(name: str, device: str) -> DecoupledNetwork:
    """A shipped network, or the paper's for L0 with random weights."""
    if name != PAPER:
        return load_pretrained(name, device=device)
    parameters = OPERATORS["l0"].parameters
    return DecoupledNetwork(parameters, SCALES["paper"].network, operator="l0").to(device).eval()


@torch.no_grad()
def measure(name: str, size: tuple[int, int], *, device: str, **timing) -> dict:
    """One row: a network and a size; `timing` goes to `times_in_turns`."""
    network, image = network_named(name, device), photograph(size, device)
    first, *others = network.operators
    operator = None if others or name == PAPER or OPERATORS[first].kind != "filter" else OPERATORS[first]
    calls = {"network": lambda: network(image, operator=first)}
    calls |= {str(channels): plain(size, channels, halvings, device) for channels, halvings in PLAIN}
    generated = network.weight_learning_network.generated
    if generated and first_generated(generated)[0]:
        tuner = network.tuner(image)
        calls["tuner"] = lambda: tuner(operator=first)
    median = {key: statistics.median(found) for key, found in times_in_turns(calls, device=device, **timing).items()}
    operator_ms = None
    if operator:
        operator(image[..., :64, :64])  # what is set up at the first call does not count
        operator_ms = once_ms(lambda: operator(image), device=device, clock=timing["clock"])
    rate = {key: 2 * multiply_adds(calls[key]) / median[key] / 1e6 for key in calls}  # GFLOP/s
    machine = max(rate[str(channels)] for channels, _ in PLAIN)
    return {
        "network": name,
        "size": f"{size[1]}x{size[0]}",
        "network_ms": median["network"],
        "tuner_ms": median.get("tuner"),
        "operator_ms": operator_ms,
        "operator_by_network": operator_ms and operator_ms / median["network"],
        "gflop": 2 * multiply_adds(calls["network"]) / 1e9,
        "tuner_gflop": 2 * multiply_adds(calls["tuner"]) / 1e9 if "tuner" in calls else None,
        "gflop_s": rate["network"],
        "machine_gflop_s": machine,
        "share": rate["network"] / machine,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the rows if asked."""
    names = [PAPER, *pretrained_names()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=names, choices=names, metavar="NAME")
    parser.add_argument("--sizes", nargs="+", default=["512x512"], help=f"{', '.join(SIZES)} or WIDTHxHEIGHT")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="processor threads (default: PyTorch's choice)")
    parser.add_argument("--clock", default="wall", choices=CLOCKS, help="wall, or this program's processor time")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each network's rounds")
    parser.add_argument("--quick", action="store_true", help="a tiny image, to see that it runs")
    parser.add_argument("--out", help="CSV file for the rows; a JSON with the settings goes beside it")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    timing = {"seconds": 0.05 if given.quick else given.seconds, "clock": given.clock}
    rows = []
    for size in [parse_size(text) for text in (["40x32"] if given.quick else given.sizes)]:
        for name in given.networks:
            rows.append(measure(name, size, device=given.device, **timing))
            print(format_table(rows[-1:], significant=3), flush=True)
    where = device_name(given.device)
    print(f"\n{where}\n{format_table(rows, significant=3)}")
    if given.out:
        write_rows(given.out, rows, facts=provenance(device=where, clock=given.clock))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
