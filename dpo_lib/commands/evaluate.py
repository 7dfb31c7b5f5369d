"""``python -m dpo_lib evaluate``: how close a network comes to its operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.sources import image_files, named_images
from ..evaluation import evaluate, format_table, summarise
from ..files import writable_file
from ..models.base_network import MINIMUM_SIZE
from ..models.pretrained import load_any
from ..operators.operator import Operator
from ..operators.own import find_operator, operators_of
from ..progress import log
from ..records import device_name, provenance, write_rows
from .parser import Parser, add_quiet, at_least_one, command


@command("nothing was written, the same command begins anew")
def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib evaluate``: measure a network on a folder of images and write the rows.

    Exit codes: 0, every image was measured on; 1, some could not be (they are named); 2, nothing was begun.
    """
    parser = Parser(prog="python -m dpo_lib evaluate", description=main.__doc__)
    parser.add_argument("--model", required=True, help="a shipped network, a .safetensors file, or a training's folder")
    parser.add_argument("--images", required=True, help="folder of test images")
    parser.add_argument("--every", type=at_least_one, default=1, help="take every n-th file in string order")
    parser.add_argument("--out", required=True, help="CSV file to write; a JSON with all settings goes beside it")
    parser.add_argument("--values", type=float, nargs="+", help="parameter values (default: the paper's)")
    parser.add_argument("--set-name", help="name of the image set, for the record (default: the folder's name)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--operator", nargs="+", help="which (default: all), or your own as module:function")
    parser.add_argument("--targets", help="folder that keeps the operators' answers for the next network")
    parser.add_argument("--seed", type=int, default=0)
    add_quiet(parser)
    given = parser.parse_args(arguments)
    out = writable_file(given.out, apart_from=[given.images])
    if out.suffix.lower() == ".json":
        raise ValueError(f"output file {out} would be replaced by its record: give a name that ends in .csv")
    device_name(given.device)  # an unknown device is said before anything is done
    network = load_any(given.model, device=given.device)
    operators = _chosen(network, given.operator)
    if given.values and len(operators) > 1:
        raise ValueError(f"--values needs one operator, got {len(operators)}: choose one with --operator")
    paths = image_files(given.images)[:: given.every]
    images, files = named_images(paths, root=given.images, minimum_size=MINIMUM_SIZE)
    settings = {name: getattr(given, name) for name in ("values", "device", "seed", "targets")} | {"progress": True}
    tables = [evaluate(network, operator, images, **settings) for operator in operators]
    facts = provenance(
        command=f"python -m dpo_lib evaluate --model {Path(given.model).name} --every {given.every} "
        f"--seed {given.seed}",
        operators=[operator.name for operator in operators],
        model=network.card,
        test_set=given.set_name or Path(given.images).name,
        every=given.every,
        device=given.device,
        seed=given.seed,
        files=files,
        skipped=len(paths) - len(files),
    )
    write_rows(out, [row for rows in tables for row in rows], facts=facts)
    for operator, rows in zip(operators, tables, strict=True):
        print(f"{operator.title}\n{format_table(summarise(rows))}")
    skipped = len(paths) - len(files)
    log.info("wrote %s%s", out, f", skipped {skipped} of {len(paths)} images" * bool(skipped))
    return 1 if skipped else 0


def _chosen(network, names: Sequence[str] | None) -> list[Operator]:
    """The operators of a network that are asked for, or all it has; your own come as ``module:function``."""
    own = [name for name in names or () if ":" in name]
    if own:
        if len(network.operators) > 1 or len(names or ()) > 1:
            raise ValueError(f"an operator of your own is measured alone, with a network of its own, got {names}")
        [(called, parameters)] = network.operators.items()
        operator = find_operator(own[0], parameters, called=called)
        if operator.name != called:
            raise ValueError(f"the network knows {called}, got {operator.name!r}")
        return [operator]
    for name in names or ():
        if name not in network.operators:
            raise ValueError(f"the network knows {', '.join(network.operators)}, got {name!r}")
    known = operators_of(network)
    return [known[name] for name in names or known]
