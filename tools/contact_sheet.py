"""Draw what a network does, to be looked at before it is shipped: input, operator, network and their difference.

    python tools/contact_sheet.py l0 joint10_best                 # shipped networks; none: all of them
    python tools/contact_sheet.py runs/l0                         # one of yours

``output/sheets/NAME.png`` shows three photographs at five values of the parameter; of a network for several operators,
each operator at its default value, five in a row.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from dpo_lib.data import load_images
from dpo_lib.files import write_atomically
from dpo_lib.images import to_numpy, to_tensor
from dpo_lib.metrics import psnr
from dpo_lib.models.parameterized import ParameterizedNetwork
from dpo_lib.models.pretrained import load_any, pretrained_names
from dpo_lib.operators.own import operators_of
from dpo_lib.plotting import error_map, image_grid, to_png
from dpo_lib.progress import progress_bar

SIDE, PHOTOGRAPHS, COLUMNS = 300, 3, 5


@torch.no_grad()
def contact_sheet(network: ParameterizedNetwork, photographs: dict[str, np.ndarray]):
    """The figure."""
    operators = list(operators_of(network).values())
    if len(operators) == 1 and operators[0].parameters:
        cases = [(operators[0], value) for value in operators[0].parameters[0].test_values]
    else:
        cases = [(operator, None) for operator in operators]
    rows, notes = {}, {}
    for photograph in photographs.values():
        image = to_tensor(photograph)
        for start in range(0, len(cases), COLUMNS):
            mark = " " * len(rows)  # rows are told apart by their labels
            labels = [f"{kind}{mark}" for kind in ("input", "operator", "network", "difference")]
            rows |= {label: [] for label in labels}
            for column, (operator, value) in enumerate(cases[start : start + COLUMNS]):
                shown, target = operator.make_pair(image, value, torch.Generator().manual_seed(0))
                answer = network(shown, value, operator=operator.name)
                pictures = [to_numpy(part.clamp(0, 1)) for part in (shown, target, answer)]
                for label, picture in zip(labels, [*pictures, error_map(pictures[2], pictures[1])], strict=True):
                    rows[label].append(picture)
                said = operator.name if value is None else f"{operator.parameters[0].name} {value:g}"
                notes[labels[1], column] = said
                notes[labels[2], column] = f"{psnr(answer[0], target[0]):.1f} dB"
    return image_grid(rows, notes=notes, width=1.8 * min(len(cases), COLUMNS) + 0.4)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "networks", nargs="*", metavar="NETWORK", help="shipped name, or a training's folder (default: all shipped)"
    )
    parser.add_argument("--images", default="", metavar="DIR", help="photographs (default: those of scikit-image)")
    parser.add_argument("--out", default="output/sheets", metavar="DIR")
    given = parser.parse_args(arguments)
    photographs = {
        name: np.ascontiguousarray(image[:SIDE, :SIDE])
        for name, image in load_images(given.images, PHOTOGRAPHS).items()
    }
    names = given.networks or pretrained_names()
    for name in progress_bar(names, desc="sheets", unit="network", progress=True):
        network = load_any(name)
        path = Path(given.out) / f"{Path(name).parent.name if name.endswith('.safetensors') else Path(name).name}.png"
        with write_atomically(path) as temporary:
            temporary.write_bytes(to_png(contact_sheet(network.eval(), photographs), max_bytes=3_000_000))
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
