"""Effective receptive fields of many points: of a differentiable operator, and of networks that imitate it.

    python benchmarks/receptive_fields.py --out results/receptive_fields.csv
    python benchmarks/receptive_fields.py --images BSDS500/test --every 20 --operator rgf --networks rgf

Points on no edge, on moderate and on strong edges (`dpo_lib.analysis.receptive_field.pick_points`) in each photograph,
at seven values across the parameter's range. Prints medians and quartiles of the area at the paper's threshold.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from dpo_lib import OPERATORS, load_pretrained
from dpo_lib.analysis.receptive_field import KINDS, measure_fields
from dpo_lib.commands.parser import at_least_one
from dpo_lib.data import load_images
from dpo_lib.images import shrink_image, to_tensor
from dpo_lib.records import device_name, provenance, write_rows
from dpo_lib.text import format_table

VALUES = 7


def quartiles(rows: Sequence[dict], key: str = "area") -> list[dict]:
    """A row per source and value: median and quartiles of each kind of point."""
    lines = []
    for source, value in dict.fromkeys((row["source"], row["value"]) for row in rows):
        line = {"source": source, "value": value}
        for kind in KINDS:
            found = [row[key] for row in rows if (row["source"], row["value"], row["kind"]) == (source, value, kind)]
            middle, low, high = np.quantile(found, (0.5, 0.25, 0.75))
            line[kind] = f"{middle:.0f} ({low:.0f}, {high:.0f})"
        lines.append(line)
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the rows if asked."""
    parser = argparse.ArgumentParser(description="Measure effective receptive fields of an operator and its networks.")
    parser.add_argument("--operator", default="l0", help="a differentiable operator with one parameter")
    parser.add_argument("--networks", nargs="*", default=["l0", "l0_paper"], help="shipped networks")
    parser.add_argument("--images", default="", help="folder of photographs (default: scikit-image's)")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th image in string order")
    parser.add_argument("--points", type=int, default=8, help="of each kind in each photograph")
    parser.add_argument("--side", type=int, default=256, help="pixels that the longer side is reduced to")
    parser.add_argument("--quick", action="store_true", help="one tiny image, to see that it runs")
    parser.add_argument("--out", type=Path, help="CSV file for the rows; a JSON with the settings goes beside it")
    given = parser.parse_args(arguments)
    images = load_images(given.images, every=given.every)
    if given.quick:
        images, given.points, given.side = dict(list(images.items())[:1]), 1, 96
    operator = OPERATORS[given.operator]
    parameter = operator.parameters[0]
    spread = np.geomspace if parameter.sampling == "log" else np.linspace
    values = [float(f"{value:.3g}") for value in spread(parameter.low, parameter.high, VALUES)]
    sources = {"operator": operator, **{name: load_pretrained(name).requires_grad_(False) for name in given.networks}}
    rows = []
    with tqdm(total=len(sources) * len(images), unit="image", disable=given.quick) as bar:
        for source, net in sources.items():
            for name, photograph in images.items():
                small = shrink_image(to_tensor(photograph), min(1, given.side / max(photograph.shape[:2])))
                found = measure_fields(net, {name: small}, values, n=given.points, border=16)
                rows += [{"source": source, **row} for row in found]
                bar.update()
    print(f"{len(rows)} fields, {operator.title}")
    print(format_table(quartiles(rows)))
    if given.out:
        facts = {"command": "benchmarks/receptive_fields.py", "operator": given.operator, "images": sorted(images)}
        settings = {"points": given.points, "side": given.side}
        write_rows(given.out, rows, facts=provenance(device=device_name("cpu"), **facts, **settings))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
