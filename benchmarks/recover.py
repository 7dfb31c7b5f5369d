"""Operator and value behind an edited photograph, found by `dpo_lib.analysis.recover`: how often, and how exactly.

    python benchmarks/recover.py
    python benchmarks/recover.py --images DIR --every 50 --out results/recover.csv

Each photograph is reduced, edited by each operator at values between those that starts lie at, and handed over with
nothing said about the edit. Columns of a row:

    first_by_network, value_by_network, error_by_network, psnr_by_network_db
        the operator whose network comes closest; for the operator that made the picture, the value that its network
        gives, |found / true - 1|, and how close the network's answer comes to the edited picture
    first, value_found, error, psnr_db
        the same after the best three operators have been run themselves
    cpu_s
        of the search
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from dpo_lib import OPERATORS, load_pretrained
from dpo_lib.analysis.recovery import NETWORKS, recover
from dpo_lib.commands.parser import at_least_one
from dpo_lib.data import embedded_images
from dpo_lib.data.sources import image_files, named_images
from dpo_lib.images import shrink_image, to_tensor
from dpo_lib.records import provenance, write_rows
from dpo_lib.text import format_table

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
PARTS = (0.15, 0.5, 0.85)  # of a parameter's range, in the scale that it is sampled in
SHRINK = 0.5
TRIES = 5


def summary(rows: Sequence[dict]) -> list[dict]:
    """A row per operator, and one over all; errors are medians."""
    names = list(dict.fromkeys(row["operator"] for row in rows))
    table = []
    for name in [*names, "all"]:
        own = [row for row in rows if name in (row["operator"], "all")]
        table.append(
            {
                "operator": name,
                "pictures": len(own),
                "first_by_network": sum(row["first_by_network"] == row["operator"] for row in own),
                "error_by_network": float(np.median([row["error_by_network"] for row in own])),
                "first": sum(row["first"] == row["operator"] for row in own),
                "error": float(np.median([row["error"] for row in own])),
                "cpu_s": float(np.mean([row["cpu_s"] for row in own])),
            }
        )
    return table


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print the table, and give back the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", metavar="DIR", help=f"folder of photographs (default: {', '.join(PHOTOGRAPHS)})")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th file in string order")
    parser.add_argument("--operators", nargs="+", choices=NETWORKS, default=NETWORKS, metavar="NAME")
    parser.add_argument("--parts", nargs="+", type=float, default=PARTS, help="values, as parts of the ranges")
    parser.add_argument("--side", type=at_least_one, default=96, help="of the window that is compared, in pixels")
    parser.add_argument("--out", metavar="CSV", help="write the rows here, and what made them to a JSON beside it")
    given = parser.parse_args(arguments)
    if given.images:
        images, files = named_images(image_files(given.images)[:: given.every], root=given.images)
    else:
        images, files = embedded_images(*PHOTOGRAPHS), []
    networks, rows = [load_pretrained(name) for name in NETWORKS], []
    cases = [(image, name, part) for image in images for name in given.operators for part in given.parts]
    facts = {"images": list(images), "every": given.every, "side": given.side, "tries": TRIES, "shrink": SHRINK}
    facts = provenance(command="benchmarks/recover.py", **facts, files=files)  # of the checkout before it has new rows
    for image, name, part in tqdm(cases, unit="picture"):
        operator = OPERATORS[name]
        photograph = shrink_image(to_tensor(images[image]).float(), SHRINK)
        value = float(f"{operator.parameters[0].at(torch.tensor(part, dtype=torch.float64)):.4g}")
        edited = operator(photograph, value)
        start = time.process_time()
        found = recover(photograph, edited, networks, side=given.side, tries=TRIES)
        own = next(one for one in found if one.operator == name)
        rows.append(
            {
                "image": image,
                "operator": name,
                "value": value,
                "first_by_network": max(found, key=lambda one: one.network_psnr_db).operator,
                "value_by_network": own.network_value[0],
                "error_by_network": abs(own.network_value[0] / value - 1),
                "psnr_by_network_db": own.network_psnr_db,
                "first": found[0].operator,
                "value_found": own.value[0],
                "error": abs(own.value[0] / value - 1),
                "psnr_db": own.psnr_db,
                "cpu_s": time.process_time() - start,
            }
        )
        if given.out:
            write_rows(given.out, rows, facts=facts)
    print(format_table(summary(rows), significant=3))
    return rows


if __name__ == "__main__":
    main()
