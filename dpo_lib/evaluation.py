"""How close a network comes to its operator: predictions to rows, rows to tables, and a command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from . import metrics
from .images import to_tensor
from .operators.cached import kept_targets
from .operators.operator import Operator
from .randomness import seeded


def evaluate(
    network: Callable,
    operator: Operator,
    images: Mapping[str, np.ndarray],
    *,
    values: Sequence | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    check_range: bool = True,
    progress: bool = False,
    on: str | None = None,
    targets: str | os.PathLike | None = None,
) -> list[dict]:
    """Compare a network with its operator on every image at every value.

    Parameters
    ----------
    network : callable
        ``network(image, value)`` on tensors (1, 3, H, W). A joint network, one that has several `operators`, is told
        the operator's name, ``network(image, value, operator=name)``.
    operator : Operator
    images : mapping
        Name to ndarray (H, W, 3), uint8 or float in [0, 1].
    values : sequence, optional
        Default: the operator's test values.
    device, seed
        Where to compute; which noise the restoration operators draw.
    check_range : bool
        Refuse values outside the operator's range.
    progress : bool
    on : {"rgb", "luminance", "gray"}, optional
        What PSNR is measured on, see `metrics.psnr`. Default: RGB for filters; for restoration luminance, or, where the
        operator's target is a gray image already (`Operator.target`), that image as it is.
    targets : path, optional
        Folder that keeps the operator's answers for the next network, see `kept_targets`; the same rows.

    Returns
    -------
    list of dict
        One row per image and value: ``operator``, ``image``, ``value``, ``psnr_db``, ``ssim`` (prediction against
        target), ``input_psnr_db``, ``input_ssim`` (unprocessed input against target). Both images are rounded to
        8 bits first.

    Raises
    ------
    ValueError
        No image, or a value out of range.
    """
    if not images:
        raise ValueError("no image to evaluate on: give at least one")
    if values is None:
        values = operator.parameters[0].test_values if operator.parameters else (None,)
    if on is None:
        on = "rgb" if operator.kind == "filter" else "luminance" if operator.target is None else "gray"
    keywords = {} if check_range else {"check_range": False}
    if len(getattr(network, "operators", ())) > 1:
        keywords["operator"] = operator.name
    operator, rows = kept_targets(operator, targets), []
    bar = tqdm(total=len(images) * len(values), desc=operator.name, unit="image", disable=not progress)
    for number, (name, array) in enumerate(images.items()):
        clean = to_tensor(array).float().to(device)
        for value in values:
            inputs, target = operator.make_pair(clean, value, seeded(seed, number), check_range=check_range)
            with torch.no_grad():
                prediction = network(inputs, value, **keywords)
            rows.append(
                {
                    "operator": operator.name,
                    "image": name,
                    "value": "" if value is None else value,
                    "psnr_db": metrics.psnr(prediction[0], target[0], on=on),
                    "ssim": metrics.ssim(prediction[0], target[0]),
                    "input_psnr_db": metrics.psnr(inputs[0], target[0], on=on),
                    "input_ssim": metrics.ssim(inputs[0], target[0]),
                }
            )
            bar.update()
    bar.close()
    return rows


def summarise(rows: Sequence[dict], *, by: str = "value") -> list[dict]:
    """Average rows over images: one row per `by`, then one over all, called "average".

    >>> rows = [{"value": 1, "psnr_db": 30.0, "ssim": 0.8, "input_psnr_db": 20.0, "input_ssim": 0.5},
    ...         {"value": 2, "psnr_db": 40.0, "ssim": 1.0, "input_psnr_db": 30.0, "input_ssim": 0.7}]
    >>> [(row["value"], row["psnr_db"]) for row in summarise(rows)]
    [(1, 30.0), (2, 40.0), ('average', 35.0)]
    """
    columns = [key for key in ("psnr_db", "ssim", "input_psnr_db", "input_ssim") if key in rows[0]]
    groups = list(dict.fromkeys(row[by] for row in rows))

    def mean(chosen, label):
        return {by: label, "images": len(chosen)} | {c: float(np.mean([row[c] for row in chosen])) for c in columns}

    table = [mean([row for row in rows if row[by] == group], group) for group in groups]
    return [*table, mean(rows, "average")]


def format_table(rows: Sequence[dict], *, db_digits: int = 2, ssim_digits: int = 4) -> str:
    """Rows as aligned text: dB with two decimals, SSIM with four, unless told otherwise."""

    def text(key, value):
        if isinstance(value, float):
            digits = db_digits if key.endswith("_db") else ssim_digits if "ssim" in key else None
            return f"{value:g}" if digits is None else f"{value:.{digits}f}"
        return str(value)

    cells = [list(rows[0]), *([text(key, row[key]) for key in rows[0]] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib.evaluation``: evaluate a network on a folder and write the rows."""
    from .data.sources import file_list, image_files, load_folder
    from .models.pretrained import load_any
    from .records import provenance, write_rows

    parser = argparse.ArgumentParser(prog="python -m dpo_lib.evaluation", description=main.__doc__)
    parser.add_argument("--model", required=True, help="name of a pretrained network, or a .safetensors file")
    parser.add_argument("--images", required=True, help="folder of test images")
    parser.add_argument("--every", type=int, default=1, help="take every n-th file in string order")
    parser.add_argument("--out", required=True, help="CSV file to write; a JSON with all settings goes beside it")
    parser.add_argument("--values", type=float, nargs="+", help="parameter values (default: the paper's)")
    parser.add_argument("--set-name", help="name of the image set, for the record (default: the folder's name)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--operator", nargs="+", help="which operators of a joint network (default: all)")
    parser.add_argument("--targets", help="folder that keeps the operators' answers for the next network")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        network = load_any(given.model, device=given.device)
        operators = _chosen(network, given.operator)
        if given.values and len(operators) > 1:
            raise ValueError(f"--values needs one operator, got {len(operators)}: choose one with --operator")
        files = image_files(given.images)[:: given.every]
        images = {Path(file).stem: load_folder([file])[0] for file in files}
        settings = {name: getattr(given, name) for name in ("values", "device", "seed", "targets")} | {"progress": True}
        tables = [evaluate(network, operator, images, **settings) for operator in operators]
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    facts = provenance(
        command=f"python -m dpo_lib.evaluation --model {Path(given.model).name} --every {given.every} "
        f"--seed {given.seed}",
        operators=[operator.name for operator in operators],
        model=network.card,
        test_set=given.set_name or Path(given.images).name,
        every=given.every,
        device=given.device,
        seed=given.seed,
        files=file_list(files),
    )
    write_rows(given.out, [row for rows in tables for row in rows], facts=facts)
    for operator, rows in zip(operators, tables, strict=True):
        print(f"{operator.title}\n{format_table(summarise(rows))}")
    print(f"wrote {given.out}")
    return 0


def _chosen(network, names: Sequence[str] | None) -> list[Operator]:
    """The operators of a network that are asked for, or all it has."""
    from .operators import OPERATORS

    for name in names or ():
        if name not in network.operators:
            raise ValueError(f"the network knows {', '.join(network.operators)}, got {name!r}")
    names = names or list(network.operators)
    for name in names:
        if name not in OPERATORS:
            raise ValueError(f"there is no operator {name!r}: choose from {', '.join(OPERATORS)}")
    return [OPERATORS[name] for name in names]


if __name__ == "__main__":
    raise SystemExit(main())
