"""What one would use in place of a network: the operator on a reduced image, its answer carried over to the full one.

    python benchmarks/peers.py
    python benchmarks/peers.py --images BSDS500/test --every 5 --targets runs/targets --out results/peers.csv

Ten filters at their default values. Bilinear enlargement, the guided filter and a bilateral grid
(`dpo_lib.models.upsampling`) are given the image at a quarter of its width and height and what the operator makes of
it; the shipped network with one layer that changes sees the image alone. PSNR against the operator on the full image,
with 95 % intervals over the images; milliseconds are medians, without the operator's own on the reduced image, which
has a column.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from dpo_lib import OPERATORS, evaluate, load_pretrained
from dpo_lib.commands.parser import at_least_one
from dpo_lib.data import load_images
from dpo_lib.experiments.paper import TABLE6_OPERATORS
from dpo_lib.images import shrink_image
from dpo_lib.models.upsampling import bilateral_guided_upsample, guided_upsample
from dpo_lib.operators import Operator
from dpo_lib.records import device_name, provenance, write_rows
from dpo_lib.text import format_table

NETWORK = "single_layer"
RESAMPLES = 1000


def bilinear(image: torch.Tensor, small: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """The reduced answer, enlarged."""
    return interpolate(answer, image.shape[2:], mode="bilinear", align_corners=False)


METHODS = {"bilinear": bilinear, "guided filter": guided_upsample, "bilateral grid": bilateral_guided_upsample}


def carried_over(method: Callable, operator: Operator, factor: int) -> Callable:
    """The operator on a reduced image, carried over by a method: the answer, and the operator's own seconds."""

    def answer(image: torch.Tensor, value: object) -> tuple[torch.Tensor, float]:
        start = time.perf_counter()
        small = shrink_image(image, 1 / factor)
        given = operator(small, value)
        seconds = time.perf_counter() - start
        return method(image, small, given).clamp(0, 1), seconds

    return answer


def by_network(network: Callable, operator: Operator) -> Callable:
    """The network's answer, for which the operator is not needed."""
    return lambda image, value: (network(image, value, operator=operator.name), 0.0)


def timed(answer: Callable, times: list[dict]) -> Callable:
    """An answer as `evaluate` calls a network, whose milliseconds go to a list."""

    def call(image: torch.Tensor, value: object) -> torch.Tensor:
        start = time.perf_counter()
        result, seconds = answer(image, value)
        times.append({"reduced_ms": 1000 * seconds, "ms": 1000 * (time.perf_counter() - start - seconds)})
        return result

    return call


def measure(images: dict[str, np.ndarray], *, factor: int, targets: str | None, progress: bool) -> list[dict]:
    """A row per operator, method and image."""
    network, found = load_pretrained(NETWORK), []
    for operator in (OPERATORS[name] for name in TABLE6_OPERATORS):
        answers = {name: carried_over(method, operator, factor) for name, method in METHODS.items()}
        answers[f"network {NETWORK}"] = by_network(network, operator)
        for name, answer in answers.items():
            times: list[dict] = []
            call = timed(answer, times)
            rows = evaluate(call, operator, images, values=(None,), targets=targets, progress=progress)
            found += [{"method": name, **row, **took} for row, took in zip(rows, times, strict=True)]
    return found


def interval(numbers: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean, from resampled sets of the same size."""
    drawn = np.random.default_rng(seed).choice(np.asarray(numbers), (RESAMPLES, len(numbers)))
    low, high = np.quantile(drawn.mean(1), (0.025, 0.975))
    return float(low), float(high)


def table(rows: Sequence[dict]) -> list[dict]:
    """A row per method: the mean over the operators, with an interval over the images."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        chosen = [row for row in rows if row["method"] == method]
        by_image = [
            statistics.mean(row["psnr_db"] for row in chosen if row["image"] == image)
            for image in dict.fromkeys(row["image"] for row in chosen)
        ]
        low, high = interval(by_image)
        lines.append(
            {
                "method": method,
                "psnr_db": statistics.mean(by_image),
                "interval": f"{low:.2f} to {high:.2f}",
                "ssim": statistics.mean(row["ssim"] for row in chosen),
                "ms": statistics.median(row["ms"] for row in chosen),
                "reduced_ms": statistics.median(row["reduced_ms"] for row in chosen),
                **{
                    name: statistics.mean(row["psnr_db"] for row in chosen if row["operator"] == name)
                    for name in TABLE6_OPERATORS
                },
            }
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the rows if asked."""
    about = "Compare carrying over a reduced image's answer with a network."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--images", default="", help="folder of test images (default: scikit-image's photographs)")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th image in string order")
    parser.add_argument("--factor", type=int, default=4, help="that width and height are divided by")
    parser.add_argument("--targets", help="folder that keeps the operators' answers")
    parser.add_argument("--quick", action="store_true", help="one tiny image, to see that it runs")
    parser.add_argument("--out", type=Path, help="CSV file for the rows; a JSON with the settings goes beside it")
    given = parser.parse_args(arguments)
    images = load_images(given.images, every=given.every)
    if given.quick:
        images = {name: image[:48, :64] for name, image in list(images.items())[:1]}
    rows = measure(images, factor=given.factor, targets=given.targets, progress=not given.quick)
    print(f"{len(images)} images, {device_name('cpu')}")
    print(format_table(table(rows)))
    if given.out:
        facts = {"command": "benchmarks/peers.py", "factor": given.factor, "images": sorted(images)}
        write_rows(given.out, rows, facts=provenance(device=device_name("cpu"), **facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
