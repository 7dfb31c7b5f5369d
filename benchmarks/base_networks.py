"""The pyramid against the paper's base network: milliseconds per image, beside what this machine can convolve.

    python benchmarks/base_networks.py
    python benchmarks/base_networks.py --size 1920x1080 --out results/base_networks.csv

All take turns, in float32 and, where it pays on this machine, in bfloat16; medians. The machine's rate is that of the
quickest of a few plain 3x3 convolutions in float32. Networks have random weights, on which time does not depend, but
for the last table: what bfloat16 costs in the answers of a shipped network, on scikit-image's photographs.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Sequence

import numpy as np
import torch

from dpo_lib import OPERATORS, load_pretrained, psnr
from dpo_lib.data import embedded_images
from dpo_lib.images import to_tensor
from dpo_lib.models import DecoupledNetwork
from dpo_lib.records import device_name, provenance, write_rows
from dpo_lib.text import format_table
from dpo_lib.timing import multiply_adds, times_in_turns
from dpo_lib.training.config import SCALES
from dpo_lib.training.learner import bfloat16_pays

PLAIN = ((64, 1), (96, 2), (128, 3))  # channels, and how often the sides are halved
FORMS = {
    "paper, 32 channels": SCALES["cpu"].network,
    "paper, 64 channels": SCALES["paper"].network,
    "pyramid": SCALES["laptop"].network,
}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def answer(network, image: torch.Tensor, value, precision: str) -> torch.Tensor:
    """The network's answer in one of `PRECISIONS`."""
    with torch.no_grad(), torch.autocast(image.device.type, PRECISIONS[precision], enabled=precision != "float32"):
        return network(image, value)


def plain(size: tuple[int, int], channels: int, halvings: int, device: str):
    """A 3x3 convolution, ready to be called."""
    height, width = (side >> halvings for side in size)
    x = torch.rand(1, channels, height, width, device=device).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(channels, channels, 3, 3, device=device)
    return functools.partial(torch.conv2d, x, weight, padding=1)


def precisions(device: str) -> list[str]:
    """Those of `PRECISIONS` that are worth a measurement: processors without bfloat16 take minutes for one image."""
    return list(PRECISIONS) if bfloat16_pays(torch.device(device)) else ["float32"]


def measure(size: tuple[int, int], *, device: str, seconds: float, scale: int = 1) -> list[dict]:
    """A row per base network and precision; `scale` divides the channels."""
    image = torch.rand(1, 3, *size, device=device)
    parameters = OPERATORS["wls"].parameters
    calls = {("plain", str(channels)): plain(size, channels // scale, n, device) for channels, n in PLAIN}
    for name, form in FORMS.items():
        widths = {"width": form.width // scale, "widths": tuple(width // scale for width in form.widths)}
        network = DecoupledNetwork(parameters, form, operator="wls", **widths).to(device).eval()
        for precision in precisions(device):
            calls[name, precision] = functools.partial(answer, network, image, 1.0, precision)
    times = times_in_turns(calls, device=device, seconds=seconds)
    median = {key: statistics.median(found) for key, found in times.items()}
    rate = {key: 2 * multiply_adds(call) / median[key] / 1e6 for key, call in calls.items()}  # GFLOP/s
    best = max(rate[key] for key in calls if key[0] == "plain")
    first = median[next(iter(FORMS)), "float32"]
    return [
        {
            "base": name,
            "precision": precision,
            "size": f"{size[1]}x{size[0]}",
            "ms": median[name, precision],
            "of_paper32": median[name, precision] / first,
            "gflop_s": rate[name, precision],
            "machine_gflop_s": best,
            "share": rate[name, precision] / best,
        }
        for name in FORMS
        for precision in precisions(device)
    ]


def loss_db(name: str, images: Sequence[np.ndarray], *, device: str) -> list[dict]:
    """What the answers of a shipped network lose in bfloat16, against its operator: a row per value."""
    network = load_pretrained(name).to(device)
    operator = OPERATORS[network.operator]
    rows = []
    for value in operator.parameters[0].test_values:
        found: dict[str, list[float]] = {precision: [] for precision in precisions(device)}
        for image in map(to_tensor, images):
            target = operator(image, value)
            for precision, numbers in found.items():
                given = answer(network, image.to(device), value, precision).cpu()
                numbers.append(float(psnr(given[0], target[0])))
        means = {f"{precision}_db": statistics.mean(numbers) for precision, numbers in found.items()}
        rows.append({"network": name, "value": value, **means})
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the rows if asked."""
    parser = argparse.ArgumentParser(description="Time the base networks beside the machine's convolutions.")
    parser.add_argument("--size", default="512x512", help="WIDTHxHEIGHT")
    parser.add_argument("--network", default="l0", help="the shipped network of the last table")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="processor threads (default: PyTorch's choice)")
    parser.add_argument("--seconds", type=float, default=30.0, help="time for all rounds")
    parser.add_argument("--quick", action="store_true", help="a tiny image and networks, to see that it runs")
    parser.add_argument("--out", help="CSV file for the rows; a JSON with the settings goes beside it")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    width, height = (int(part) for part in ("40x32" if given.quick else given.size).split("x"))
    settings = {"seconds": 0.0, "scale": 8} if given.quick else {"seconds": given.seconds}
    rows = measure((height, width), device=given.device, **settings)
    images = list(embedded_images().values())
    losses = loss_db(given.network, [images[0][:64, :96]] if given.quick else images, device=given.device)
    print(f"{device_name(given.device)}\n{format_table(rows, significant=3)}\n")
    print(format_table(losses))
    if given.out:
        write_rows(given.out, rows, facts=provenance(device=device_name(given.device), losses=losses))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
