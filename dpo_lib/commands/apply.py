"""``python -m dpo_lib apply``: a network or a classic operator over photographs of yours.

dpo apply --model l0 --value 0.02 holiday/ --out smooth/                  # every photograph in a folder
dpo apply --operator rtv cat.jpg --out smooth/ --format jpg               # a classic operator, default value
dpo apply --model restoration4 --task denoise --value 25 scan.tif --out clean/    # a network that knows several
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..apply import FORMATS, apply_to_files, image_function, output_paths
from ..files import writable_folder
from ..models.pretrained import load_any
from ..operators.own import find_operator
from ..progress import log
from ..records import device_name
from .parser import Parser, add_quiet, command


@command("what is written is whole")
def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dpo_lib apply``: 0 if every photograph was done, 1 if some could not be, 2 if nothing was begun."""
    given = _parser().parse_args(arguments)
    device_name(given.device)  # an unknown device is said before anything is done
    what = load_any(given.model, device=given.device) if given.model else find_operator(given.operator)
    function, description = image_function(what, given.value, task=given.task)
    pairs = output_paths(given.photographs, given.out, file_format=given.format, overwrite=given.overwrite)
    out = writable_folder(given.out, apart_from=given.photographs)
    log.info("%s, %d photograph(s)", description, len(pairs))
    done = apply_to_files(function, pairs, device=given.device, progress=True)
    skipped = f", skipped {len(done.failed)}" if done.failed else ""
    log.info("wrote %d of %d to %s%s", len(done.written), len(pairs), out, skipped)
    return 1 if done.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m dpo_lib apply",
        description=__doc__,
        epilog="Results have 8 bits per channel; photographs of 16 bits are rounded at the end.\n"
        "Exit codes: 0, every photograph was done; 1, some could not be (they are named); 2, nothing was begun.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("photographs", nargs="+", metavar="PHOTO_OR_FOLDER", help="files, and folders with all that lies below them")
    add("--out", required=True, metavar="DIR", help="folder for the results; names and sub-folders are kept")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", help="a shipped network, a .safetensors file, or a training's folder")
    what.add_argument("--operator", help="a classic operator instead of a network, or module:name")
    add("--value", type=_numbers, metavar="V", help="parameter value, or several as V,V (default: the operator's)")
    add("--task", "--operator-name", metavar="NAME", help="which operator, for a network that knows several")
    add("--format", choices=FORMATS, default="png", help="of the results (default: png, which loses nothing)")
    add("--overwrite", action="store_true", help="replace results of an earlier run (never a photograph of yours)")
    add("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default: cpu)")
    add_quiet(parser)
    return parser


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, or several as 0.01,3, got {text!r}") from None
