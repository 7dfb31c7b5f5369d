"""``python -m dpo_lib reproduce``: every numbered notebook from one command."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from ..notebooks import reproduce
from ..training.config import SCALES
from .parser import Parser, command


@command("finished notebooks are kept, run again to continue")
def main(arguments: Sequence[str] | None = None) -> int:
    """Execute the notebooks and report; the exit code is in the parser's epilog."""
    parser = Parser(
        prog="python -m dpo_lib reproduce",
        description="Execute the numbered notebooks, and compare what they make with what is committed.",
        epilog="exit code: 1 if a notebook failed or a table differs (figures are only named), 2 if nothing was run",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NN", help="only notebooks whose names begin so")
    parser.add_argument("--scale", choices=SCALES, help="budget of what is trained or shown")
    parser.add_argument("--train", action="store_true", help="train anew instead of using the shipped networks")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ...")
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"), help="any other notebook parameter"
    )
    parser.add_argument("--out", help="folder for figures, tables and executed copies (default: output)")
    parser.add_argument("--pdf", action="store_true", help="figures as PDF, too")
    parser.add_argument("--refresh", action="store_true", help="replace the committed figures, tables and outputs")
    given = parser.parse_args(arguments)
    parameters = {name: _parsed(value) for name, value in given.p}
    parameters |= {name: getattr(given, name) for name in ("scale", "train", "device") if getattr(given, name)}
    _check_device(given.device)
    wrong = reproduce(
        only=given.only, parameters=parameters, out=given.out, pdf=given.pdf, refresh=given.refresh, say=_say
    )
    return 1 if wrong else 0


def _check_device(device: str | None) -> None:
    if device and device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            raise ValueError(
                f"device {device} was asked for, but PyTorch {torch.__version__} finds no CUDA device here: "
                "install a CUDA build (make help says how), or choose --device cpu"
            )


def _parsed(text: str) -> object:
    """A value from the command line: a Python literal where it is one, else the text; true and false as well.

    >>> [_parsed(text) for text in ("0.02", "true", "[1, 2]", "cuda:0")]
    [0.02, True, [1, 2], 'cuda:0']
    """
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _say(text: str) -> None:
    print(text, flush=True)
