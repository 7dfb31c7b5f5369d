"""How well each operator's answer agrees with itself on mirrored, transposed, shifted and cropped photographs.

    python benchmarks/self_agreement.py
    python benchmarks/self_agreement.py --operators llf --size 481x321 --images photographs
    python benchmarks/self_agreement.py --out results/self_agreement.csv

A network answers alike wherever it stands, or nearly so. Where an operator's answer depends on a pixel's place, such a
network can at best stand halfway between two answers, 6 dB above the figure printed here; where every place has an
answer of its own, at their mean, 3 dB above it. Figures are PSNR in dB, not rounded to 8 bits, averaged over the
photographs; 100 stands for 100 and more. Of a degradation they say nothing about a network, which is shown the
degraded picture.

    left_right_db, up_down_db, transposed_db
        the changed photograph, filtered and changed back, against the filtered photograph (a network can learn an
        answer that is not symmetric, but not from answers that were mirrored along with their photographs)
    shifted_db
        the first row and the first column cropped away, without a rim of 32 pixels
    cropped_db
        the first 96 rows and columns cropped away, without a rim of 32 pixels: how much the answer depends on what is
        far away (grids of 2, 3, 4, 8, 16 and 32 pixels stay in their place)
    border_db
        the same crop, in the 8 pixels along the two borders that stay: how much the answer beside a border depends on
        the opposite side
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from tqdm import tqdm

from dpo_lib.data import embedded_images, load_folder
from dpo_lib.images import to_tensor
from dpo_lib.operators import OPERATORS, Operator
from dpo_lib.records import provenance, write_rows

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
DRAWS = ("denoise", "derain")  # what they add is drawn anew for every picture
RIM = 32
CROP = 96
SMALLEST = 192
BORDER = 8
EQUAL_DB = 100.0


def psnr_db(a: torch.Tensor, b: torch.Tensor) -> float:
    """Without rounding to 8 bits, EQUAL_DB at most."""
    error = float((a.double() - b.double()).square().mean())
    return min(EQUAL_DB, -10 * np.log10(error)) if error > 0 else EQUAL_DB


def agreement(operator: Operator, image: torch.Tensor, value: float | None) -> dict[str, float]:
    """The six figures of one photograph, tensor (1, 3, H, W) with sides of at least SMALLEST pixels."""
    usual = operator(image, value)
    inside = np.s_[..., RIM:-RIM, RIM:-RIM]

    def changed(change) -> torch.Tensor:
        return operator(change(image).contiguous(), value)

    shifted = changed(lambda x: x[..., 1:, 1:])
    cropped, kept = changed(lambda x: x[..., CROP:, CROP:]), usual[..., CROP:, CROP:]
    # along the two old borders, away from the new ones
    bottom, right = np.s_[..., -BORDER:, RIM:-BORDER], np.s_[..., RIM:, -BORDER:]
    return {
        "left_right_db": psnr_db(changed(lambda x: x.flip(3)).flip(3), usual),
        "up_down_db": psnr_db(changed(lambda x: x.flip(2)).flip(2), usual),
        "transposed_db": psnr_db(changed(lambda x: x.transpose(2, 3)).transpose(2, 3), usual),
        "shifted_db": psnr_db(shifted[inside], usual[..., 1:, 1:][inside]),
        "cropped_db": psnr_db(cropped[inside], kept[inside]),
        "border_db": psnr_db(
            torch.cat([cropped[part].flatten() for part in (bottom, right)]),
            torch.cat([kept[part].flatten() for part in (bottom, right)]),
        ),
    }


def table(rows: Sequence[dict]) -> str:
    """The rows as aligned text."""
    lines = [list(rows[0])] + [[f"{v:.1f}" if k.endswith("_db") else str(v) for k, v in row.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def main(arguments: Sequence[str] | None = None) -> list[dict]:
    """Measure, print the table, and give back its rows."""
    names = [name for name in OPERATORS if name not in DRAWS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", metavar="DIR", help=f"folder of photographs (default: {', '.join(PHOTOGRAPHS)})")
    parser.add_argument("--operators", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--size", default="320x240", metavar="WxH", help="images are scaled and cropped to this size")
    parser.add_argument("--out", metavar="CSV", help="write the rows here, and what made them to a JSON beside it")
    options = parser.parse_args(arguments)
    width, _, height = options.size.partition("x")
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= SMALLEST):
        parser.error(
            f"--size must be WIDTHxHEIGHT, at least {SMALLEST} pixels each, such as 320x240, got {options.size}"
        )
    photographs = load_folder(options.images) if options.images else list(embedded_images(*PHOTOGRAPHS).values())
    images = [to_tensor(np.array(ImageOps.fit(Image.fromarray(p), (int(width), int(height))))) for p in photographs]

    rows = []
    cases = [
        (OPERATORS[name], value)
        for name in options.operators
        for value in (OPERATORS[name].parameters[0].test_values if OPERATORS[name].parameters else (None,))
    ]
    for operator, value in tqdm(cases, unit="value"):
        found = [agreement(operator, image, value) for image in images]
        means = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
        rows.append({"operator": operator.name, "value": "" if value is None else value, **means})
    print(f"{options.size}, {len(images)} image(s)")
    print(table(rows))
    if options.out:
        facts = {
            "size": options.size,
            "images": options.images or list(PHOTOGRAPHS),
            "rim": RIM,
            "crop": CROP,
            "border": BORDER,
        }
        write_rows(options.out, rows, facts=provenance(**facts))
    return rows


if __name__ == "__main__":
    main()
